"""A client that counts messages: received, lost, doubled, out of order, and their latencies.

Knows: the Action Cable messages that subscribe and resume, and the mark that numbers each message. Does
not know: what is published, or when.
"""

from __future__ import annotations  # array[float], which Python 3.11 can't evaluate

import asyncio
from array import array
from time import perf_counter
from typing import Any, Final

import msgspec

from catenary.messages.lenient_json import reader
from catenary.messages.publications import Position
from catenary.protocols.actioncable_json import EXTENDED
from catenary.terminal.cable_socket import FIN_TEXT, CableSocket, HandshakeRequest

PATIENCE_S: Final = 20.0
"""Time without any message after which missing messages count as lost."""

MARK: Final = b"@@"
DIGITS: Final = 8


class _Delivery(msgspec.Struct, gc=False):
    stream_id: str = ""
    epoch: str = ""
    offset: int = -1


class _Welcome(msgspec.Struct, gc=False):
    sid: str = ""
    restored: bool = False


_write = msgspec.json.Encoder().encode
_read_delivery = reader(_Delivery)
_read_welcome = reader(_Welcome)


def mark(number: int) -> str:
    """The text in a message that contains its number."""
    return f"@@{number:0{DIGITS}d}"


class Tally:
    """Counts of all clients together; latencies are in seconds.

    ``restored`` counts resumed sessions, ``rejected_histories`` the answers ``reject_history``.
    """

    __slots__ = (
        "_awaited",
        "_patience_s",
        "_reached",
        "closed",
        "duplicates",
        "latencies",
        "out_of_order",
        "pings",
        "received",
        "rejected_histories",
        "restored",
        "unexpected",
    )

    def __init__(self, patience_s: float = PATIENCE_S) -> None:
        self.received = 0
        self.duplicates = 0
        self.out_of_order = 0
        self.unexpected = 0
        self.closed = 0
        self.pings = 0
        self.restored = 0
        self.rejected_histories = 0
        self.latencies = array("d")
        self._patience_s = patience_s
        self._awaited = -1
        self._reached = asyncio.Event()

    def add_received(self, count: int) -> None:
        """Adds messages that arrived for the first time, whose latencies are recorded already."""
        self.received += count
        if self.received >= self._awaited:
            self._reached.set()

    async def wait_for_total(self, count: int) -> bool:
        """Waits until ``count`` messages have arrived in total; False if none arrived for ``patience_s``."""
        self._awaited = count
        self._reached.clear()
        while self.received < count:
            before = self.received
            try:
                async with asyncio.timeout(self._patience_s):
                    await self._reached.wait()
            except TimeoutError:
                if self.received == before:
                    return False
        return True


class CountingClient(CableSocket):
    """Subscribes, then counts. ``ready`` is done when the subscription is confirmed, or, without an
    ``identifier``, at the welcome.

    ``sent`` has the time at which each message of its stream was sent, by number; publisher and clients
    share it. The numbers of a stream start at 0 and have no gaps, so that each loss is noticed.
    """

    __slots__ = (
        "_gone",
        "_identifier",
        "_last",
        "_leaves",
        "_next",
        "_sid",
        "_tally",
        "missing",
        "pings",
        "ready",
        "sent",
    )

    def __init__(
        self, tally: Tally, sent: array[float], opening: HandshakeRequest, identifier: str
    ) -> None:
        super().__init__(opening)
        self.sent = sent
        self.missing: set[int] = set()
        self.pings = 0
        self.ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._tally = tally
        self._identifier = identifier
        self._next = 0
        # For resuming: the session, and the last message with a position
        self._leaves = False
        self._gone: asyncio.Future[None] | None = None
        self._sid = ""
        self._last = b""

    @property
    def lost(self) -> int:
        """Number of messages of its stream that were sent and did not arrive."""
        return len(self.missing) + len(self.sent) - self._next

    def command(self, command: str, **fields: Any) -> None:
        """Sends one command."""
        self.send(_write({"command": command, "identifier": self._identifier, **fields}))

    def leave(self) -> None:
        """Aborts the connection; this does not count as closed by the server."""
        self._leaves = True
        self.abort()

    async def away(self) -> None:
        """Aborts the connection; after this returns, the client may be connected again."""
        loop = asyncio.get_running_loop()
        self._gone = loop.create_future()
        self.leave()
        if self._transport is not None:
            await self._gone
        self._leaves = False
        self.ready = loop.create_future()

    # Called by the socket

    def query(self) -> str:
        return f"sid={self._sid}" if self._sid else ""

    def connection_lost(self, error: Exception | None) -> None:
        super().connection_lost(error)
        if self._gone is not None and not self._gone.done():
            self._gone.set_result(None)
        if not self._leaves:
            self._tally.closed += 1
            self.failed("closed by the server")

    def failed(self, reason: str) -> None:
        if not self.ready.done():
            self.ready.set_exception(ConnectionError(reason))

    def message_received(self, payload: bytes) -> None:
        """Handles every message without a number."""
        if b'"ping"' in payload:
            self.pings += 1
            self._tally.pings += 1
            if self.subprotocol == EXTENDED:
                self.send(b'{"command":"pong"}')
        elif b'"welcome"' in payload:
            self._enter(payload)
        elif b'"confirm_subscription"' in payload:
            if not self._last:
                self._is_ready()
        elif b'"confirm_history"' in payload:
            self._is_ready()
        elif b'"reject_history"' in payload:
            self._tally.rejected_histories += 1
            self._is_ready()
        else:
            self._tally.unexpected += 1
            self.failed(f"expected a subscription, got {payload[:100]!r}")

    def _enter(self, payload: bytes) -> None:
        if not self._identifier:
            self._is_ready()
            return
        if self.subprotocol != EXTENDED:
            self.command("subscribe")
            return
        welcome = _read_welcome(payload)
        self._sid = welcome.sid
        missed = {"history": {"streams": self._position()}} if self._last else {}
        if welcome.restored:
            self._tally.restored += 1
        if not welcome.restored:
            self.command("subscribe", **missed)
        elif missed:
            self.command("history", **missed)
        else:
            self._is_ready()

    def _position(self) -> dict[str, Position]:
        last = _read_delivery(self._last)
        return {last.stream_id: Position(last.epoch, last.offset)}

    def _is_ready(self) -> None:
        if not self.ready.done():
            self.ready.set_result(None)

    # The hot path: numbered frames are counted without copying them

    def _read(self, data: bytes) -> int:
        """Reads all complete frames; returns the position of the first incomplete one."""
        now, note, arrived = perf_counter(), self._tally.latencies.append, 0
        position, size, last = 0, len(data), -1
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
                self._take(data[position], data[start:end])
            else:
                last = start
                number = int(data[found : found + DIGITS])
                if number == self._next:
                    self._next = number + 1
                    note(now - self.sent[number])
                    arrived += 1
                elif self._is_new(number):
                    note(now - self.sent[number])
                    arrived += 1
                last_end = end
            position = end
        if last >= 0 and self._sid:
            self._remember(data[last:last_end])
        if arrived:
            self._add_received(arrived)
        return position

    def _remember(self, payload: bytes) -> None:
        """Keeps the last message if it has a position, for resuming."""
        if b'"offset"' in payload:
            self._last = payload

    def _add_received(self, count: int) -> None:
        self._tally.add_received(count)

    def _is_new(self, number: int) -> bool:
        """Counts a message that is not the next one: after a gap, late, or doubled. True unless doubled."""
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


class EchoClient(CountingClient):
    """Sends a message, and the next one when that has been received.

    ``receiver`` is the client that receives it: this one, if the application answers its ``action``, or its
    partner, which whispers back. ``left`` is the number of messages that it may still send.
    """

    __slots__ = ("_action", "left", "receiver")

    def __init__(
        self,
        tally: Tally,
        opening: HandshakeRequest,
        identifier: str,
        *,
        action: str,
        echoes: int,
    ) -> None:
        """With an empty ``action`` the client whispers to its partner."""
        super().__init__(tally, array("d"), opening, identifier)
        self.left = echoes
        self.receiver: CountingClient = self
        self._action = _write(action).decode() if action else ""

    def send_next(self) -> None:
        """Sends one message, if any are left."""
        if not self.left:
            return
        self.left -= 1
        text = mark(len(self.receiver.sent))
        self.receiver.sent.append(perf_counter())
        if self._action:
            self.command("message", data=f'{{"action":{self._action},"text":"{text}"}}')
        else:
            self.command("whisper", data={"text": text})

    def _add_received(self, count: int) -> None:
        super()._add_received(count)
        for _ in range(count):
            self.send_next()
