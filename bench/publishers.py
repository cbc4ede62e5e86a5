"""Publishers: one connection each, which tells neither server nor broker to wait.

Each writes publications one by one, several at once under way, and counts those that were accepted.
Sources: docs/broadcasting.md (anycable/anycable), RESP2 (redis.io), the client protocol of NATS
(docs.nats.io). Knows: how a publication is written. Does not know: when, or how many.
"""

from __future__ import annotations  # array[float], which Python 3.11 can't evaluate

import asyncio
import json
from array import array
from collections import deque
from time import perf_counter
from typing import Final, cast

from bench.client import CANARY
from bench.plan import Intake
from catenary.terminal.counting import mark

CHANNEL: Final = "__anycable__"
"""The default of all adapters: a channel, a stream, a subject."""


class Publisher(asyncio.Protocol):
    """Numbers what it publishes to each stream; ``sent`` holds when, and is shared with clients.

    ``accepted`` have been taken; ``answered`` have been taken or refused.
    """

    __slots__ = ("_padding", "_rest", "_transport", "accepted", "answered", "published", "sent")

    def __init__(self, sent: list[array[float]], padding: int) -> None:
        self.sent = sent
        self.published = 0
        self.accepted = 0
        self.answered = 0
        self._padding = "x" * padding
        self._rest = b""
        self._transport: asyncio.Transport | None = None

    @property
    def waiting(self) -> int:
        """How many have not been answered yet."""
        return self.published - self.answered

    def publish(self, stream: int, count: int = 1) -> None:
        """Sends the next messages of a stream, each a publication of its own."""
        assert self._transport is not None
        times, requests = self.sent[stream], []
        for _ in range(count):
            text = f'{{\\"t\\":\\"{mark(len(times))}\\",\\"p\\":\\"{self._padding}\\"}}'
            requests.append(self._request(f'{{"stream":"s{stream}","data":"{text}"}}'))
            times.append(perf_counter())
        self.published += count
        self._transport.write(b"".join(requests) + self._after(count))

    def publish_canary(self, stream: int) -> None:
        """Sends a message that nobody counts: whoever hears it is there."""
        assert self._transport is not None
        request = self._request(f'{{"stream":"s{stream}","data":"\\"{CANARY.decode()}\\""}}')
        self._transport.write(request + self._after(0))

    def close(self) -> None:
        """Ends the connection."""
        if self._transport is not None:
            self._transport.abort()

    # What the loop calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        data = self._rest + data
        end = data.rfind(b"\r\n") + 2
        if end >= 2:
            self._count(data[:end])
            data = data[end:]
        self._rest = data

    # What differs

    def _request(self, publication: str) -> bytes:
        """One publication as it is written."""
        raise NotImplementedError

    def _after(self, count: int) -> bytes:
        """What follows so many of them."""
        return b""

    def _count(self, lines: bytes) -> None:
        """Takes whole lines of answers."""
        raise NotImplementedError


class HttpPublisher(Publisher):
    """POST /_broadcast; an answer is accepted where it is 2xx. No canary is sent this way."""

    __slots__ = ()

    def _request(self, publication: str) -> bytes:
        return (
            "POST /_broadcast HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(publication)}\r\n\r\n{publication}"
        ).encode()

    def _count(self, lines: bytes) -> None:
        self.answered += lines.count(b"HTTP/1.1 ")
        self.accepted += lines.count(b"HTTP/1.1 2")


class RedisPublisher(Publisher):
    """PUBLISH; accepted where anybody listens."""

    __slots__ = ("_canaries",)

    def __init__(self, sent: list[array[float]], padding: int) -> None:
        super().__init__(sent, padding)
        self._canaries = 0

    def publish_canary(self, stream: int) -> None:
        self._canaries += 1
        super().publish_canary(stream)

    def _request(self, publication: str) -> bytes:
        return _command("PUBLISH", CHANNEL, publication)

    def _count(self, lines: bytes) -> None:
        answers = lines.split(b"\r\n")[:-1]
        of_canaries = min(self._canaries, len(answers))
        self._canaries -= of_canaries
        for answer in answers[of_canaries:]:
            self.answered += 1
            self.accepted += answer.startswith(b":") and answer != b":0"


class RedisStreamPublisher(RedisPublisher):
    """XADD; accepted where it is answered with an id."""

    __slots__ = ()

    def _request(self, publication: str) -> bytes:
        return _command("XADD", CHANNEL, "*", "payload", publication)

    def _count(self, lines: bytes) -> None:
        # An id comes as its length and itself: only the latter says that it was taken.
        answers = [line for line in lines.split(b"\r\n")[:-1] if not line.startswith(b"$")]
        of_canaries = min(self._canaries, len(answers))
        self._canaries -= of_canaries
        self.answered += len(answers) - of_canaries
        self.accepted += sum(line[:1].isdigit() for line in answers[of_canaries:])


class NatsPublisher(Publisher):
    """PUB, which has no answer: accepted where the PING behind it is answered."""

    __slots__ = ("_asked",)

    def __init__(self, sent: list[array[float]], padding: int) -> None:
        super().__init__(sent, padding)
        self._asked: deque[int] = deque()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        assert self._transport is not None
        options = json.dumps({"verbose": False, "pedantic": False})
        self._transport.write(f"CONNECT {options}\r\n".encode())

    def _request(self, publication: str) -> bytes:
        return f"PUB {CHANNEL} {len(publication)}\r\n{publication}\r\n".encode()

    def _after(self, count: int) -> bytes:
        self._asked.append(count)
        return b"PING\r\n"

    def _count(self, lines: bytes) -> None:
        assert self._transport is not None
        for line in lines.split(b"\r\n"):
            if line == b"PONG":
                count = self._asked.popleft()
                self.answered += count
                self.accepted += count
            elif line == b"PING":
                self._transport.write(b"PONG\r\n")


PUBLISHERS: Final[dict[Intake, type[Publisher]]] = {
    "http": HttpPublisher,
    "redis": RedisPublisher,
    "redisx": RedisStreamPublisher,
    "nats": NatsPublisher,
}


def _command(*words: str) -> bytes:
    """A command of Redis; words are ASCII, so that letters are bytes."""
    return "".join(
        (f"*{len(words)}\r\n", *(f"${len(word)}\r\n{word}\r\n" for word in words))
    ).encode()
