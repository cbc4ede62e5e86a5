"""One WebSocket: frames in, commands to the node; encoded replies out (RFC 6455).

Whoever sends more than others can bear with is read later: a large read is taken in turns with
everybody else's, and who says too much in a second waits for the next.
Knows: a socket, frames. Does not know: what a message means, who else is there.
"""

import asyncio
import errno
from collections.abc import Awaitable, Callable, Iterator
from typing import Final

import msgspec

from catenary.errors import FrameError
from catenary.messages.environment import Environment
from catenary.messages.reasons import Reason
from catenary.metrics.counters import Counters
from catenary.node.encoder import Encoder
from catenary.node.node import Node
from catenary.node.session import Session, Traits
from catenary.node.turns import Turns
from catenary.ports import SLICE_BYTES, Goodbye, Watch
from catenary.transports.sliced_writer import SlicedWriter
from catenary.wire.frames import (
    NO_STATUS,
    NORMAL,
    POLICY,
    PONG,
    Close,
    Event,
    FrameReader,
    Inflate,
    Message,
    Ping,
    Pong,
    close_frame,
    frame,
)

_NO_LIMIT: Final = 2**31 - 1

_NOTHING: Final = memoryview(b"")

_BATCH: Final = 256

PIECE_BYTES: Final = 2048
"""Of one read, which may be 256 KB: 300 of the smallest frames, which take 0.5 to 2 ms. A few kilobytes may be a
thousand messages; of twenty clients at once, a delivery would wait for all of them."""

PIECE_US: Final = 1000
"""What a piece costs of a turn."""

SMALL_BYTES: Final = 1024
"""What is read at once, whoever else said something in the same turn: more than usual commands have."""


class WebSocketLimits:
    """What one client may cost; one object for all of a port, never changed.

    ``max_message_bytes`` is the largest message that is read, ``max_pending_bytes`` how much may
    wait to be sent before a client counts as slow (0: no limit), ``close_timeout_s`` how long a client may take
    to answer a close frame before its connection is cut, ``max_message_rate`` how many messages
    and control frames of it are read in a second (0: no limit).
    """

    __slots__ = ("batch", "close_timeout_s", "high_water", "max_message_bytes", "max_message_rate")

    def __init__(
        self,
        *,
        max_message_bytes: int = 65536,
        max_pending_bytes: int = 1_048_576,
        close_timeout_s: float = 2,
        max_message_rate: int = 0,
    ) -> None:
        self.max_message_bytes = max_message_bytes
        self.close_timeout_s = close_timeout_s
        self.max_message_rate = max_message_rate
        self.batch = min(max_message_rate or _BATCH, _BATCH)
        """Messages that are counted together. No more: Python has one object for each small int."""
        self.high_water = min(max_pending_bytes or _NO_LIMIT, _NO_LIMIT)
        """Where a transport's buffer is full; transports count in 32 bits."""


class WebSocketServices(msgspec.Struct, frozen=True, eq=False):
    """What all WebSockets of one server share.

    ``late_messages`` watches messages that have begun and are not complete; large reads are served in
    ``turns``.
    """

    node: Node
    limits: WebSocketLimits
    counters: Counters
    late_messages: Watch
    turns: Turns


class Acceptance(msgspec.Struct, frozen=True):
    """A client whose handshake is complete, and how to speak with it.

    ``response`` is the answer to its handshake. ``inflate`` reads its compressed messages; None where
    compression was not agreed on.
    """

    environment: Environment
    encoder: Encoder
    traits: Traits
    response: bytes
    inflate: Inflate | None = None


class _Extras:
    """What only a client has that once sent or asked for much: how many reasons not to read it, a bucket, and
    what sends it a large answer."""

    __slots__ = ("holds", "is_slowed", "level", "since", "writer")

    def __init__(self) -> None:
        self.holds = 0
        self.is_slowed = False
        # How many messages there are in the bucket, and when that was
        self.level = 0.0
        self.since = 0.0
        # While an answer is sent in slices
        self.writer: SlicedWriter | None = None


class WebSocketConnection:
    """Satisfies :class:`catenary.edge.connection.Stage` and :class:`catenary.ports.Outbound`."""

    __slots__ = (
        "_acceptance",
        "_allowance",
        "_close_timer",
        "_extras",
        "_is_awaited",
        "_node",
        "_reader",
        "_rest",
        "_services",
        "_session",
        "_transport",
        "write",
    )

    is_client: Final = True

    def __init__(
        self, services: WebSocketServices, transport: asyncio.Transport, acceptance: Acceptance
    ) -> None:
        self._services = services
        # Of the services, what each message needs
        self._node = services.node
        self._transport = transport
        self._acceptance = acceptance
        self._reader = FrameReader(services.limits.max_message_bytes, acceptance.inflate)
        self._session: Session
        self._close_timer: asyncio.TimerHandle | None = None
        self.write: Callable[[bytes], None]
        # How many messages it may send before they are counted, and what came of counting
        self._allowance = services.limits.batch
        self._extras: _Extras | None = None
        # What was read and waits for its turn
        self._rest = _NOTHING
        # Whether the rest of a message is awaited
        self._is_awaited = False

    # Stage

    def begin(self, rest: bytes) -> None:
        """Answers the handshake; ``rest`` is what the client sent right after it."""
        acceptance = self._acceptance
        del self._acceptance
        self._transport.set_write_buffer_limits(high=self._services.limits.high_water)
        # What is sent at once leaves together with the answer.
        sent = [acceptance.response]
        collect = self.write = sent.append
        self._session = self._node.admit(
            acceptance.environment, acceptance.encoder, self, acceptance.traits
        )
        if self.write is collect:
            self.write = self._transport.write
        self._transport.write(b"".join(sent))
        if rest:
            self.receive(rest)

    def receive(self, data: bytes, is_piece: bool = False) -> None:  # noqa: FBT002
        """``is_piece`` is a part of a large read whose turn has come."""
        if (len(data) > SMALL_BYTES or self._rest) and not is_piece:
            self._take_large(data)
            return
        reader = self._reader
        events = reader.receive(data)
        for event in events:
            if isinstance(event, Message):
                self._node.receive(self._session, event.payload)
            elif isinstance(event, Ping):
                self.write(frame(PONG, event.payload))
            elif isinstance(event, Pong):
                self._node.receive_pong(self._session)
            elif isinstance(event, Close):
                self._answer_close(event)
            elif isinstance(event, FrameError):
                self._fail(event)
        if reader.is_midway or self._is_awaited:
            self._await_rest(events)
        self._allowance -= len(events)
        if self._allowance < 0:
            self._count()

    def eof(self) -> bool:
        """The client sends nothing more: what was written is still sent, then the connection is closed."""
        writer = self._writer
        if writer is not None:
            writer.at_end = self._transport.close
        if writer is not None or self._transport.get_write_buffer_size():
            self._cut_later()
        return writer is not None

    def pause_writing(self) -> None:
        """As much waits to be sent as may: too much, unless an answer is sent in slices."""
        if self._writer is not None:
            self._writer.pause()
        else:
            # Closed later: this may be the middle of a delivery.
            asyncio.get_running_loop().call_soon(self._give_up)

    def resume_writing(self) -> None:
        if self._writer is not None:
            self._writer.resume()

    def lost(self, exc: Exception | None) -> None:
        self.write = _discard
        if exc is not None and getattr(exc, "errno", None) == errno.ETIMEDOUT:
            self._services.counters.dead_connections_total += 1
        if self._is_awaited:
            self._services.late_messages.forget(self)
        if self._close_timer is not None:
            self._close_timer.cancel()
        if self._extras is not None and self._extras.writer is not None:
            self._extras.writer.end()
            self._extras.writer = None
        self._node.leave(self._session)
        # Each refers to the other: kept so, they would wait for the collector, which comes rarely.
        del self._session

    # Large answers

    @property
    def _writer(self) -> SlicedWriter | None:
        return None if self._extras is None else self._extras.writer

    def write_slices(self, slices: Iterator[bytes]) -> Awaitable[None] | None:
        if self.write is _discard:
            return None
        writer = self._writer
        if writer is None:
            writer = self._more().writer = SlicedWriter(
                self._transport,
                self._services.turns,
                self._services.limits.high_water,
                too_slow=self._give_up,
                finished=self._all_written,
            )
            self.write = writer.write
            self._transport.set_write_buffer_limits(
                high=min(SLICE_BYTES, self._services.limits.high_water)
            )
        return writer.write_slices(slices)

    def _all_written(self) -> None:
        """No answer is on its way any more."""
        self._more().writer = None
        if self.write is not _discard:
            self.write = self._transport.write
        self._transport.set_write_buffer_limits(high=self._services.limits.high_water)

    # Goodbyes

    def close(self, goodbye: Goodbye) -> None:
        self._close(goodbye.code, goodbye.text)

    def _close(self, code: int, text: str) -> None:
        """Section 7.1.2: a close frame after what was written, then the client's answer."""
        if self.write is _discard:
            return
        self.write(close_frame(code, text))
        self.write = _discard
        if self._transport.is_closing():
            return
        self._transport.resume_reading()
        self._cut_later()

    def _answer_close(self, event: Close) -> None:
        """Section 5.5.1: the same code back, where we did not begin; the server hangs up first."""
        self.write(close_frame(NORMAL if event.code == NO_STATUS else event.code, ""))
        self.write = _discard
        self._when_written(self._transport.close)
        self._cut_later()

    def _fail(self, error: FrameError) -> None:
        """Section 7.1.7: no answer is read behind a fault, so the server's side ends at once. The
        client's stays open for a while: what it still sends would break off what it is told."""
        self._close(error.close_code, str(error))
        self._when_written(self._write_eof)

    def _write_eof(self) -> None:
        if self._transport.can_write_eof() and not self._transport.is_closing():
            self._transport.write_eof()

    def _when_written(self, call: Callable[[], None]) -> None:
        """At once, unless an answer is still on its way."""
        if self._writer is None:
            call()
        else:
            self._writer.at_end = call

    def _cut_later(self) -> None:
        """Who neither reads nor answers, is not waited for longer than this."""
        if self._close_timer is None:
            self._close_timer = asyncio.get_running_loop().call_later(
                self._services.limits.close_timeout_s, self._transport.abort
            )

    def _give_up(self) -> None:
        if self.write is not _discard:
            self._services.counters.disconnected_slow_clients_total += 1
            self._session.close(Reason.SLOW_CLIENT)

    def shutdown(self) -> None:
        """Called by uvicorn when the server stops."""
        self._session.close(Reason.SERVER_RESTART)

    # Backpressure

    def pause_reading(self) -> None:
        extras = self._more()
        extras.holds += 1
        if extras.holds == 1 and not self._transport.is_closing():
            self._transport.pause_reading()

    def resume_reading(self) -> None:
        extras = self._more()
        extras.holds -= 1
        if extras.holds == 0 and not self._transport.is_closing():
            self._transport.resume_reading()

    # Floods

    def _more(self) -> "_Extras":
        if self._extras is None:
            self._extras = _Extras()
        return self._extras

    def _take_large(self, data: bytes) -> None:
        """A piece at once, where this turn has room; the rest waits until others had theirs."""
        if self._rest:
            # Its turn comes; somebody has resumed reading meanwhile.
            self._rest = memoryview(bytes(self._rest) + data)
            return
        taken = PIECE_BYTES if self._services.turns.is_free else 0
        if len(data) > taken:
            self._rest = memoryview(data)[taken:]
            self.pause_reading()
        if taken:
            self._services.turns.spend(PIECE_US)
            self.receive(data[:taken], True)
        self._stand_in_line()

    def _stand_in_line(self) -> None:
        """With what was not taken; who is slowed down stands there when that is over."""
        if self._rest and not self._more().is_slowed:
            self._services.turns.wait(self._next_turn)

    def _next_turn(self) -> None:
        if self._transport.is_closing():
            return
        self._services.turns.spend(PIECE_US)
        data, self._rest = bytes(self._rest[:PIECE_BYTES]), self._rest[PIECE_BYTES:]
        if not self._rest:
            self._rest = _NOTHING
            self.resume_reading()
        self.receive(data, True)
        self._stand_in_line()

    def _count(self) -> None:
        """It has said what is counted together: a leaky bucket that holds what may come in a second.

        What is too much was carried out; for so long it is not read.
        """
        limits = self._services.limits
        said = limits.batch - self._allowance
        self._allowance = limits.batch
        if limits.max_message_rate == 0:
            return
        extras, loop = self._more(), asyncio.get_running_loop()
        now = loop.time()
        leaked = (now - extras.since) * limits.max_message_rate
        extras.level = max(extras.level - leaked, 0) + said
        extras.since = now
        wait_s = extras.level / limits.max_message_rate - 1
        if wait_s > 0 and not extras.is_slowed:
            extras.is_slowed = True
            self._services.counters.slowed_clients_total += 1
            self.pause_reading()
            loop.call_later(wait_s, self._go_on)

    def _go_on(self) -> None:
        extras = self._more()
        extras.is_slowed = False
        self.resume_reading()
        self._stand_in_line()

    def _await_rest(self, events: list[Event]) -> None:
        """A message that has begun is to be complete in time; control frames do not prolong that.
        Its fragments count like messages."""
        self._allowance -= self._reader.pieces
        self._reader.pieces = 0
        if not self._reader.is_midway:
            self._is_awaited = False
            self._services.late_messages.forget(self)
        elif not self._is_awaited or any(isinstance(each, Message) for each in events):
            self._is_awaited = True
            self._services.late_messages.watch(self)

    def time_out(self) -> None:
        """The message took too long, unless it was us who did not read it."""
        if self._extras is not None and self._extras.holds:
            self._services.late_messages.watch(self)
            return
        self._is_awaited = False
        self._services.counters.late_messages_total += 1
        self._reader.finish()
        self._fail(FrameError(POLICY, "expected the rest of the message in time"))


def _discard(batch: bytes) -> None:
    """Where replies go after the close frame (section 5.5.1: nothing may follow it)."""
