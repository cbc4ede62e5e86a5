"""One client of the load generator: as little work for each frame as Python allows.

Knows: opening handshake, frames of a server (never masked, RFC 6455, section 5.1), the Action Cable
messages that lead to a subscription, and the mark that numbers each message. Does not know: what is
published, or when.
"""

from __future__ import annotations  # array[float], which Python 3.11 can't evaluate

import asyncio
import base64
import os
from array import array
from time import perf_counter
from typing import ClassVar, Final, cast

import msgspec

from catenary.terminal import counting
from catenary.terminal.cable_socket import FIN_TEXT, frame
from catenary.terminal.counting import DIGITS, MARK, mark
from catenary.wire.frames import TEXT

CANARY: Final = b"canary"
"""What a message says that only asks whether the way is open."""

_write: Final = msgspec.json.Encoder().encode

PLAIN: Final = "actioncable-v1-json"


class Tally(counting.Tally):
    """What all clients counted together, and whether any has heard a canary."""

    __slots__ = ("heard_canary",)

    def __init__(self) -> None:
        super().__init__()
        self.heard_canary = asyncio.Event()


class CableClient(asyncio.Protocol):
    """Subscribes to one stream, then counts. ``ready`` is done once the subscription is confirmed.

    ``path`` is where it connects to, with whatever query, and ``protocol`` what it says it speaks.

    ``sent`` holds when each message of its stream was sent, by number; publisher and clients share
    it. Numbers of a stream count from 0 without a gap, so that each loss shows.
    """

    __slots__ = (
        "_is_open",
        "_next",
        "_rest",
        "_tally",
        "_transport",
        "missing",
        "path",
        "pings",
        "ready",
        "sent",
    )

    protocol: ClassVar[str] = PLAIN

    def __init__(self, tally: Tally, sent: array[float]) -> None:
        self.sent = sent
        self.path = "/cable"
        self.missing: set[int] = set()
        self.pings = 0
        self.ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._tally = tally
        self._transport: asyncio.Transport | None = None
        self._rest = b""
        self._is_open = False
        self._next = 0

    def identifier(self) -> str:
        """The channel that this client subscribes to, as JSON text."""
        raise NotImplementedError

    @property
    def lost(self) -> int:
        """How many messages of its stream have been sent and never came."""
        return len(self.missing) + len(self.sent) - self._next

    def send(self, command: str, **fields: object) -> None:
        """Sends one command."""
        assert self._transport is not None
        message = {"command": command, "identifier": self.identifier(), **fields}
        self._transport.write(frame(TEXT, _write(message)))

    def leave(self) -> None:
        """Breaks the connection; whoever does so is not told that it has ended."""
        transport, self._transport = self._transport, None
        if transport is not None:
            transport.abort()

    # What the loop calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        key = base64.b64encode(os.urandom(16)).decode()
        self._transport.write(
            (
                f"GET {self.path} HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\n"
                f"Connection: Upgrade\r\nSec-WebSocket-Key: {key}\r\n"
                f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: {self.protocol}\r\n\r\n"
            ).encode()
        )

    def data_received(self, data: bytes) -> None:
        if self._rest:
            data = self._rest + data
        done = self._read(data) if self._is_open else self._shake_hands(data)
        self._rest = data[done:]

    def connection_lost(self, error: Exception | None) -> None:
        if self._transport is not None:
            self._tally.closed += 1
            self.fail(str(error or "closed by the server"))

    # What arrives

    def _shake_hands(self, data: bytes) -> int:
        """Takes the answer to the opening handshake, and what came in the same segment."""
        end = data.find(b"\r\n\r\n") + 4
        if end < 4:
            return 0
        if not data.startswith(b"HTTP/1.1 101"):
            self.fail(f"expected 101 Switching Protocols, got {data[:40]!r}")
            return len(data)
        self._is_open = True
        return end + self._read(data[end:])

    def _read(self, data: bytes) -> int:
        """Takes all whole frames; returns where the first one begins that is not."""
        now, note, arrived = perf_counter(), self._tally.latencies.append, 0
        position, size = 0, len(data)
        while size - position >= 2:
            length = data[position + 1]
            start = position + 2
            if length >= 126:
                start += 2 if length == 126 else 8
                length = int.from_bytes(data[position + 2 : start], "big")
            end = start + length
            if end > size:
                break
            found = data.find(MARK, start, end) + 2
            if found < 2 or data[position] != FIN_TEXT:
                self._heard(data[position], data[start:end])
            else:
                number = int(data[found : found + DIGITS])
                if number == self._next:
                    self._next = number + 1
                    note(now - self.sent[number])
                    arrived += 1
                elif self._is_new(number):
                    note(now - self.sent[number])
                    arrived += 1
            position = end
        if arrived:
            self._add_received(arrived)
        return position

    def _add_received(self, count: int) -> None:
        self._tally.add_received(count)

    def _is_new(self, number: int) -> bool:
        """A message that was not the next one: ahead of others, late, or here already."""
        if number > self._next:
            self.missing.update(range(self._next, number))
            self._next = number + 1
            return True
        if number in self.missing:
            self.missing.remove(number)
            self._tally.out_of_order += 1
            return True
        self._tally.duplicates += 1
        return False

    def _heard(self, first: int, payload: bytes) -> None:
        """Anything but a numbered message."""
        if first == FIN_TEXT and b'"ping"' in payload:
            self.pings += 1
            self._tally.pings += 1
        elif first == FIN_TEXT and b'"welcome"' in payload:
            self.send("subscribe")
        elif first == FIN_TEXT and b'"confirm_subscription"' in payload and not self.ready.done():
            self.ready.set_result(None)
        elif first == FIN_TEXT and CANARY in payload:
            self._tally.heard_canary.set()
        else:
            self._tally.unexpected += 1
            self.fail(f"expected a subscription, got {payload[:100]!r}")

    def fail(self, text: str) -> None:
        """Does not get ready any more, and why."""
        if not self.ready.done():
            self.ready.set_exception(ConnectionError(text))


class Listener(CableClient):
    """Listens to a public stream."""

    __slots__ = ("_stream",)

    def __init__(self, tally: Tally, sent: array[float], stream: int) -> None:
        super().__init__(tally, sent)
        self._stream = stream

    def identifier(self) -> str:
        return f'{{"channel":"$pubsub","stream_name":"s{self._stream}"}}'


class EchoClient(CableClient):
    """Calls the application; says the next thing when the last one has come back."""

    __slots__ = ("_left",)

    def __init__(self, tally: Tally, echoes: int) -> None:
        super().__init__(tally, array("d"))
        self._left = echoes

    def identifier(self) -> str:
        return '{"channel":"Echo"}'

    def send_next(self) -> None:
        """Says one thing, where there is any left to say."""
        if self._left:
            self._left -= 1
            data = f'{{"action":"echo","text":"{mark(len(self.sent))}"}}'
            self.sent.append(perf_counter())
            self.send("message", data=data)

    def _add_received(self, count: int) -> None:
        super()._add_received(count)
        for _ in range(count):
            self.send_next()
