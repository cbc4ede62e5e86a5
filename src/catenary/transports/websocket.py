"""One WebSocket: frames in, commands to the node; encoded replies out (RFC 6455).

Knows: a socket, frames. Does not know: what a message means, who else is there.
"""

import asyncio
from collections.abc import Callable
from typing import Final

import msgspec

from catenary.errors import FrameError
from catenary.messages.environment import Environment
from catenary.messages.reasons import Reason
from catenary.metrics.counters import Counters
from catenary.node.encoder import Encoder
from catenary.node.node import Node
from catenary.node.session import Session, Traits
from catenary.wire.frames import (
    NO_STATUS,
    NORMAL,
    PONG,
    Close,
    FrameReader,
    Inflate,
    Message,
    Ping,
    Pong,
    close_frame,
    frame,
)

_NO_LIMIT: Final = 2**31 - 1


class WebSocketLimits(msgspec.Struct, frozen=True):
    """What one client may cost.

    ``max_message_bytes`` is the largest message that is read, ``max_pending_bytes`` how much may
    wait to be sent before a client counts as slow (0: no limit), ``close_timeout_s`` how long a client may take
    to answer a close frame before its connection is cut.
    """

    max_message_bytes: int = 65536
    max_pending_bytes: int = 1_048_576
    close_timeout_s: float = 2

    @property
    def high_water(self) -> int:
        """Where a transport's buffer is full; transports count in 32 bits."""
        return min(self.max_pending_bytes or _NO_LIMIT, _NO_LIMIT)


class Acceptance(msgspec.Struct, frozen=True):
    """A client whose handshake is complete, and how to speak to it.

    ``inflate`` reads its compressed messages; None where compression was not agreed on.
    """

    environment: Environment
    encoder: Encoder
    traits: Traits
    response: bytes
    inflate: Inflate | None = None


class WebSocketConnection(asyncio.Protocol):
    """Satisfies :class:`catenary.ports.Outbound`. Takes a connected transport over from the door."""

    __slots__ = (
        "_close_timer",
        "_connections",
        "_counters",
        "_limits",
        "_node",
        "_reader",
        "_session",
        "_transport",
        "write",
    )

    def __init__(
        self,
        node: Node,
        limits: WebSocketLimits,
        counters: Counters,
        connections: set[object],
    ) -> None:
        self._node = node
        self._limits = limits
        self._counters = counters
        # uvicorn's: who is in it hears of the shutdown, and is waited for.
        self._connections = connections
        self._reader: FrameReader
        self._transport: asyncio.Transport
        self._session: Session
        self._close_timer: asyncio.TimerHandle | None = None
        self.write: Callable[[bytes], None]

    def open(self, transport: asyncio.Transport, acceptance: Acceptance, rest: bytes) -> None:
        """Answers the handshake and begins; ``rest`` is what the client sent right behind it."""
        self._transport = transport
        self._reader = FrameReader(self._limits.max_message_bytes, acceptance.inflate)
        self.write = transport.write
        self._connections.add(self)
        self._counters.open_cables_num += 1
        transport.set_write_buffer_limits(high=self._limits.high_water)
        transport.set_protocol(self)
        transport.write(acceptance.response)
        self._session = self._node.admit(
            acceptance.environment, acceptance.encoder, self, acceptance.traits
        )
        if rest:
            self.data_received(rest)

    # asyncio.Protocol

    def data_received(self, data: bytes) -> None:
        for event in self._reader.receive(data):
            if isinstance(event, Message):
                self._node.receive(self._session, event.payload)
            elif isinstance(event, Ping):
                self.write(frame(PONG, event.payload))
            elif isinstance(event, Pong):
                self._node.heard(self._session)
            elif isinstance(event, Close):
                self._answer_close(event)
            elif isinstance(event, FrameError):
                self._fail(event)

    def eof_received(self) -> None:
        """The client will say nothing more: what was written is still sent, then it is over."""
        self._cut_later()

    def pause_writing(self) -> None:
        """More waits for this client than it may. Never closed here, in the middle of a delivery."""
        asyncio.get_running_loop().call_soon(self._give_up)

    def connection_lost(self, exc: Exception | None) -> None:
        self.write = _discard
        self._connections.discard(self)
        self._counters.open_cables_num -= 1
        if self._close_timer is not None:
            self._close_timer.cancel()
        self._node.leave(self._session)
        # Each knows the other: left so, they would wait for the collector, which comes rarely.
        del self._session

    # Goodbyes

    def close(self, code: int, text: str) -> None:
        """Section 7.1.2: a close frame behind what was written, then the client's answer."""
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
        self._transport.close()
        self._cut_later()

    def _fail(self, error: FrameError) -> None:
        """Section 7.1.7: no answer is read behind a fault, so the server's side ends at once. The
        client's stays open for a while: what it still sends would break off what it is told."""
        self.close(error.close_code, str(error))
        if self._transport.can_write_eof() and not self._transport.is_closing():
            self._transport.write_eof()

    def _cut_later(self) -> None:
        """Who neither reads nor answers, is not waited for longer than this."""
        if self._close_timer is None:
            self._close_timer = asyncio.get_running_loop().call_later(
                self._limits.close_timeout_s, self._transport.abort
            )

    def _give_up(self) -> None:
        if self.write is not _discard:
            self._counters.disconnected_slow_clients_total += 1
            self._session.close(Reason.SLOW_CLIENT)

    def shutdown(self) -> None:
        """Called by uvicorn when the server stops."""
        self._session.close(Reason.SERVER_RESTART)

    # Backpressure

    def hold(self) -> None:
        if not self._transport.is_closing():
            self._transport.pause_reading()

    def resume(self) -> None:
        if not self._transport.is_closing():
            self._transport.resume_reading()


def _discard(encoded: bytes) -> None:
    """Where replies go after the close frame (section 5.5.1: nothing may follow it)."""
