"""Publishers, with one connection each.

Each writes publications one by one, with several under way at once, and counts those that were accepted.
Sources: docs/broadcasting.md (anycable/anycable), RESP2 (redis.io), the client protocol of NATS
(docs.nats.io). Knows: how a publication is encoded. Does not know: when, or how many.
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
    """Numbers its publications to each stream; ``sent`` has their times, and is shared with clients.

    ``answered`` publications were accepted or refused, ``accepted`` ones were accepted.
    """

    __slots__ = (
        "_is_event",
        "_padding",
        "_rest",
        "_transport",
        "accepted",
        "answered",
        "published",
        "sent",
    )

    def __init__(self, sent: list[array[float]], padding: int, *, is_event: bool = False) -> None:
        """With ``is_event``, messages are in the form of Pusher's events."""
        self.sent = sent
        self.published = 0
        self.accepted = 0
        self.answered = 0
        self._padding = "x" * padding
        self._is_event = is_event
        self._rest = b""
        self._transport: asyncio.Transport | None = None

    @property
    def waiting(self) -> int:
        """Publications without an answer so far."""
        return self.published - self.answered

    def publish(self, stream: int, count: int = 1) -> None:
        """Sends the next messages of a stream, each in its own publication."""
        assert self._transport is not None
        times, requests = self.sent[stream], []
        for _ in range(count):
            text = f'{{\\"t\\":\\"{mark(len(times))}\\",\\"p\\":\\"{self._padding}\\"}}'
            if self._is_event:
                text = f'{{\\"event\\":\\"e\\",\\"data\\":{text}}}'
            requests.append(self._request(f'{{"stream":"s{stream}","data":"{text}"}}'))
            times.append(perf_counter())
        self.published += count
        self._transport.write(b"".join(requests) + self._after(count))

    def publish_canary(self, stream: int) -> None:
        """Sends a message that is not counted: a client that receives it is subscribed."""
        assert self._transport is not None
        request = self._request(f'{{"stream":"s{stream}","data":"\\"{CANARY.decode()}\\""}}')
        self._transport.write(request + self._after(0))

    def close(self) -> None:
        """Ends the connection."""
        if self._transport is not None:
            self._transport.abort()

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        data = self._rest + data
        end = data.rfind(b"\r\n") + 2
        if end >= 2:
            self._count(data[:end])
            data = data[end:]
        self._rest = data

    # To be overridden

    def _request(self, publication: str) -> bytes:
        """The request of one publication."""
        raise NotImplementedError

    def _after(self, count: int) -> bytes:
        """The bytes after ``count`` requests."""
        return b""

    def _count(self, lines: bytes) -> None:
        """Counts answers; ``lines`` are complete."""
        raise NotImplementedError


class HttpPublisher(Publisher):
    """POST /_broadcast; accepted if the status is 2xx. Not used for canaries."""

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
    """PUBLISH; accepted if it has subscribers."""

    __slots__ = ("_canaries",)

    def __init__(self, sent: list[array[float]], padding: int, *, is_event: bool = False) -> None:
        super().__init__(sent, padding, is_event=is_event)
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
    """XADD; accepted if the answer is an id."""

    __slots__ = ()

    def _request(self, publication: str) -> bytes:
        return _command("XADD", CHANNEL, "*", "payload", publication)

    def _count(self, lines: bytes) -> None:
        # An id has two lines, its length and itself; only the second one is counted.
        answers = [line for line in lines.split(b"\r\n")[:-1] if not line.startswith(b"$")]
        of_canaries = min(self._canaries, len(answers))
        self._canaries -= of_canaries
        self.answered += len(answers) - of_canaries
        self.accepted += sum(line[:1].isdigit() for line in answers[of_canaries:])


class NatsPublisher(Publisher):
    """PUB, which has no answer: accepted if the PING after it is answered."""

    __slots__ = ("_pings",)

    def __init__(self, sent: list[array[float]], padding: int, *, is_event: bool = False) -> None:
        super().__init__(sent, padding, is_event=is_event)
        self._pings: deque[int] = deque()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        assert self._transport is not None
        options = json.dumps({"verbose": False, "pedantic": False})
        self._transport.write(f"CONNECT {options}\r\n".encode())

    def _request(self, publication: str) -> bytes:
        return f"PUB {CHANNEL} {len(publication)}\r\n{publication}\r\n".encode()

    def _after(self, count: int) -> bytes:
        self._pings.append(count)
        return b"PING\r\n"

    def _count(self, lines: bytes) -> None:
        assert self._transport is not None
        for line in lines.split(b"\r\n"):
            if line == b"PONG":
                count = self._pings.popleft()
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
    """A Redis command of ASCII words."""
    return "".join(
        (f"*{len(words)}\r\n", *(f"${len(word)}\r\n{word}\r\n" for word in words))
    ).encode()
