"""One WebSocket (RFC 6455): passes messages from frames to the node, and encoded replies to the transport.

A client that sends much is read later: a large read is processed in pieces, in turns with those of other clients, and a
client that exceeds ``max_message_rate`` is not read until it has kept to it.
Knows: a socket, frames. Does not know: the meaning of messages, other clients.
"""

import asyncio
import errno
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, Final

import msgspec

from catenary.edge.clients import Clients, ClientSession
from catenary.errors import FrameError
from catenary.messages.environment import Environment
from catenary.messages.reasons import Reason
from catenary.metrics.counters import Counters
from catenary.node.encoder import Encoder
from catenary.node.session import Traits
from catenary.node.turns import Turns
from catenary.ports import Goodbye, Watch
from catenary.transports.sliced_writer import SlicedWriter, UnsentLimits, hold_back, write_slices
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
    PingFrame,
    PongFrame,
    close_frame,
    frame,
)

_NO_LIMIT: Final = 2**31 - 1

_EMPTY: Final = memoryview(b"")

_BATCH: Final = 256

PIECE_BYTES: Final = 2048
"""A large read is processed in pieces of this size: up to 300 of the smallest frames, which take 0.5 to 2 ms. A read
may be 256 KB; without pieces, a delivery would wait for all messages of all clients that were read in a turn."""

PIECE_US: Final = 1000
"""Cost of a piece in the budget of a turn."""

SMALL_BYTES: Final = 1024
"""Reads up to this size are processed at once: usual commands are smaller."""


class WebSocketLimits:
    """Limits of one client; immutable, shared by all clients of a port.

    ``max_message_bytes`` limits a message that is received. A client with more than ``max_pending_bytes`` of unsent
    data is slow (0: no limit). A connection is aborted if the client does not answer a close frame within
    ``close_timeout_s``. ``max_message_rate`` limits the messages and control frames read per second (0: no limit).
    """

    __slots__ = (
        "close_timeout_s",
        "high_water",
        "max_message_bytes",
        "max_message_rate",
        "rate_batch",
    )

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
        self.rate_batch = min(max_message_rate or _BATCH, _BATCH)
        """The rate is computed once per so many messages; at most 256, because CPython caches such small integers."""
        self.high_water = min(max_pending_bytes or _NO_LIMIT, _NO_LIMIT)
        """High-water mark of the transport's write buffer, which fits in 32 bits."""


class WebSocketServices(msgspec.Struct, frozen=True, eq=False):
    """Shared by all WebSockets of one endpoint.

    ``node`` is the node, or what stands before it (:class:`catenary.edge.introductions.Introductions`). ``late_messages`` times out incomplete messages; large reads are processed in ``turns``.
    """

    node: Clients[Any]
    limits: WebSocketLimits
    counters: Counters
    late_messages: Watch
    turns: Turns


class Acceptance(msgspec.Struct, frozen=True):
    """The result of a client's handshake.

    ``response`` is the response to it. ``inflate`` decompresses messages; None if compression was not negotiated.
    """

    environment: Environment
    encoder: Encoder
    traits: Traits
    response: bytes
    inflate: Inflate | None = None


class _HeavyTraffic:
    """State that a client has only after it sent or requested much: how often reading is paused, a leaky bucket for
    its rate, and the writer of a large reply; whether it may read slowly; and how the connection ended."""

    __slots__ = ("end", "is_slowed", "level", "may_be_slow", "read_pauses", "since", "writer")

    def __init__(self) -> None:
        self.end = ""
        self.read_pauses = 0
        self.is_slowed = False
        self.may_be_slow = False
        # Messages in the bucket, and the time when they were counted
        self.level = 0.0
        self.since = 0.0
        # While a large reply is sent in slices
        self.writer: SlicedWriter | None = None


class WebSocketConnection:
    """Satisfies :class:`catenary.edge.connection.Stage` and :class:`catenary.ports.Outbound`."""

    __slots__ = (
        "_acceptance",
        "_allowance",
        "_close_timer",
        "_heavy",
        "_is_incomplete",
        "_node",
        "_reader",
        "_services",
        "_session",
        "_transport",
        "_unread",
        "write",
    )

    is_client: Final = True

    def __init__(
        self, services: WebSocketServices, transport: asyncio.Transport, acceptance: Acceptance
    ) -> None:
        self._services = services
        # Used for each message
        self._node = services.node
        self._transport = transport
        self._acceptance = acceptance
        self._reader = FrameReader(services.limits.max_message_bytes, acceptance.inflate)
        self._session: ClientSession
        self._close_timer: asyncio.TimerHandle | None = None
        self.write: Callable[[bytes], None]
        # Messages until the rate is computed again
        self._allowance = services.limits.rate_batch
        self._heavy: _HeavyTraffic | None = None
        # The part of a large read that waits for its turn
        self._unread = _EMPTY
        # Whether a message has begun and is not complete
        self._is_incomplete = False

    # Stage

    def begin(self, rest: bytes) -> None:
        """Sends the response to the handshake; ``rest`` was received after the request."""
        acceptance = self._acceptance
        del self._acceptance
        self._transport.set_write_buffer_limits(high=self._services.limits.high_water)
        # Replies that are sent at once are written together with the response.
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
        """With ``is_piece``, ``data`` is a piece of a large read, whose turn has come."""
        if (len(data) > SMALL_BYTES or self._unread) and not is_piece:
            self._receive_large(data)
            return
        reader = self._reader
        events = reader.receive(data)
        for event in events:
            if isinstance(event, Message):
                self._node.receive(self._session, event.payload)
            elif isinstance(event, PingFrame):
                self.write(frame(PONG, event.payload))
            elif isinstance(event, PongFrame):
                self._node.receive_pong(self._session)
            elif isinstance(event, Close):
                self._answer_close(event)
            elif isinstance(event, FrameError):
                self._fail(event)
        if reader.is_midway or self._is_incomplete:
            self._watch_incomplete(events)
        self._allowance -= len(events)
        if self._allowance < 0:
            self._limit_rate()

    def eof(self) -> bool:
        """The client sends nothing more: unsent data is still sent, then the connection is closed."""
        writer = self.writer
        if writer is not None:
            writer.at_end = self._transport.close
        if writer is not None or self._transport.get_write_buffer_size():
            self._abort_later()
        return writer is not None

    def pause_writing(self) -> None:
        """The write buffer is full: the client is slow, unless a reply is being sent in slices or it may be slow."""
        if self.writer is not None:
            self.writer.pause()
        elif self._may_be_slow:
            if self.write is not _discard:
                hold_back(self, self._transport, self._services.turns, self._unsent_limits)
        else:
            # Not closed here: the caller may be in the middle of a delivery.
            asyncio.get_running_loop().call_soon(self.close_as_slow)

    def resume_writing(self) -> None:
        if self.writer is not None:
            self.writer.resume()

    def lost(self, exc: Exception | None) -> None:
        self.write = _discard
        if exc is not None and getattr(exc, "errno", None) == errno.ETIMEDOUT:
            self._services.counters.dead_connections_total += 1
        if self._is_incomplete:
            self._services.late_messages.forget(self)
        if self._close_timer is not None:
            self._close_timer.cancel()
        how = "" if exc is None else str(exc)
        if self._heavy is not None:
            how = self._heavy.end or how
            if self._heavy.writer is not None:
                self._heavy.writer.end()
                self._heavy.writer = None
        self._node.leave(self._session, how)
        # A reference cycle: without this, only the garbage collector would free both, and it runs rarely.
        del self._session

    # Large replies

    @property
    def writer(self) -> SlicedWriter | None:
        """Exists while a large reply is sent in slices."""
        return None if self._heavy is None else self._heavy.writer

    @writer.setter
    def writer(self, writer: SlicedWriter | None) -> None:
        self._heavy_traffic().writer = writer

    def write_slices(self, slices: Iterator[bytes]) -> Awaitable[None] | None:
        if self.write is _discard:
            return None
        return write_slices(
            self, slices, self._transport, self._services.turns, self._unsent_limits
        )

    # Clients that may be slow

    @property
    def _may_be_slow(self) -> bool:
        return self._heavy is not None and self._heavy.may_be_slow

    @property
    def _unsent_limits(self) -> UnsentLimits:
        return UnsentLimits(self._services.limits.high_water, self._may_be_slow)

    def tolerate_slowness(self) -> None:
        if self._may_be_slow:
            return
        self._heavy_traffic().may_be_slow = True
        if self.writer is not None:
            self.writer.tolerate_slowness(self._unsent_limits)
        elif not self._transport.is_closing():
            self._transport.set_write_buffer_limits(high=self._unsent_limits.buffer_bytes)

    @property
    def is_behind(self) -> bool:
        heavy = self._heavy
        return heavy is not None and heavy.writer is not None

    # Closing

    def close(self, goodbye: Goodbye) -> None:
        self._close(goodbye.code, goodbye.text)

    def _close(self, code: int, text: str) -> None:
        """Section 7.1.2: sends a close frame after everything written before, and waits for the client's."""
        if self.write is _discard:
            return
        self.write(close_frame(code, text))
        self.write = _discard
        if self._transport.is_closing():
            return
        self._transport.resume_reading()
        self._abort_later()

    def _answer_close(self, event: Close) -> None:
        """Section 5.5.1: answers with the same code, unless this side began; the server closes the connection first."""
        self._heavy_traffic().end = f"close code {event.code}"
        self.write(close_frame(NORMAL if event.code == NO_STATUS else event.code, ""))
        self.write = _discard
        self._when_written(self._transport.close)
        self._abort_later()

    def _fail(self, error: FrameError) -> None:
        """Section 7.1.7: after an error no close frame of the client is awaited, so the sending side ends at once. The
        receiving side stays open for a while: a reset would destroy the close frame on its way to the client."""
        self._heavy_traffic().end = f"it broke the protocol: {error}"
        self._close(error.close_code, str(error))
        self._when_written(self._write_eof)

    def _write_eof(self) -> None:
        if self._transport.can_write_eof() and not self._transport.is_closing():
            self._transport.write_eof()

    def _when_written(self, call: Callable[[], None]) -> None:
        """Calls at once, or after the last slice of a reply."""
        if self.writer is None:
            call()
        else:
            self.writer.at_end = call

    def _abort_later(self) -> None:
        """Aborts the connection if the client does not close it within ``close_timeout_s``."""
        if self._close_timer is None:
            self._close_timer = asyncio.get_running_loop().call_later(
                self._services.limits.close_timeout_s, self._transport.abort
            )

    def close_as_slow(self) -> None:
        if self.write is not _discard:
            self._services.counters.disconnected_slow_clients_total += 1
            self._session.close(Reason.SLOW_CLIENT)

    def shutdown(self) -> None:
        """Called by uvicorn when the server stops."""
        self._session.close(Reason.SERVER_RESTART)

    # Backpressure

    def pause_reading(self) -> None:
        heavy = self._heavy_traffic()
        heavy.read_pauses += 1
        if heavy.read_pauses == 1 and not self._transport.is_closing():
            self._transport.pause_reading()

    def resume_reading(self) -> None:
        heavy = self._heavy_traffic()
        heavy.read_pauses -= 1
        if heavy.read_pauses == 0 and not self._transport.is_closing():
            self._transport.resume_reading()

    # Clients that send much

    def _heavy_traffic(self) -> "_HeavyTraffic":
        if self._heavy is None:
            self._heavy = _HeavyTraffic()
        return self._heavy

    def _receive_large(self, data: bytes) -> None:
        """Processes a piece at once if this turn has budget left; the rest waits for later turns."""
        if self._unread:
            # Read although a turn is awaited: reading was resumed for another reason.
            self._unread = memoryview(bytes(self._unread) + data)
            return
        taken = PIECE_BYTES if self._services.turns.is_free else 0
        if len(data) > taken:
            self._unread = memoryview(data)[taken:]
            self.pause_reading()
        if taken:
            self._services.turns.spend(PIECE_US)
            self.receive(data[:taken], True)
        self._wait_for_turn()

    def _wait_for_turn(self) -> None:
        """For the rest of a large read; a client over its rate waits for a turn after that pause."""
        if self._unread and not self._heavy_traffic().is_slowed:
            self._services.turns.wait(self._receive_piece)

    def _receive_piece(self) -> None:
        if self._transport.is_closing():
            return
        self._services.turns.spend(PIECE_US)
        data, self._unread = bytes(self._unread[:PIECE_BYTES]), self._unread[PIECE_BYTES:]
        if not self._unread:
            self._unread = _EMPTY
            self.resume_reading()
        self.receive(data, True)
        self._wait_for_turn()

    def _limit_rate(self) -> None:
        """Called every ``rate_batch`` messages: a leaky bucket with the capacity of one second.

        The excess was carried out already; reading pauses until the bucket has leaked it.
        """
        limits = self._services.limits
        received = limits.rate_batch - self._allowance
        self._allowance = limits.rate_batch
        if limits.max_message_rate == 0:
            return
        heavy, loop = self._heavy_traffic(), asyncio.get_running_loop()
        now = loop.time()
        leaked = (now - heavy.since) * limits.max_message_rate
        heavy.level = max(heavy.level - leaked, 0) + received
        heavy.since = now
        wait_s = heavy.level / limits.max_message_rate - 1
        if wait_s > 0 and not heavy.is_slowed:
            heavy.is_slowed = True
            self._services.counters.slowed_clients_total += 1
            self.pause_reading()
            loop.call_later(wait_s, self._end_slowdown)

    def _end_slowdown(self) -> None:
        heavy = self._heavy_traffic()
        heavy.is_slowed = False
        self.resume_reading()
        self._wait_for_turn()

    def _watch_incomplete(self, events: list[Event]) -> None:
        """Watches a message until it is complete; control frames do not extend its time. Its fragments count as messages
        in the rate."""
        self._allowance -= self._reader.pieces
        self._reader.pieces = 0
        if not self._reader.is_midway:
            self._is_incomplete = False
            self._services.late_messages.forget(self)
        elif not self._is_incomplete or any(isinstance(each, Message) for each in events):
            self._is_incomplete = True
            self._services.late_messages.watch(self)

    def time_out(self) -> None:
        """The message is not complete in time. If reading was paused, its time starts again."""
        if self._heavy is not None and self._heavy.read_pauses:
            self._services.late_messages.watch(self)
            return
        self._is_incomplete = False
        self._services.counters.late_messages_total += 1
        self._reader.finish()
        self._fail(FrameError(POLICY, "expected the rest of the message in time"))


def _discard(batch: bytes) -> None:
    """Replaces ``write`` after the close frame (section 5.5.1: no data may follow it)."""
