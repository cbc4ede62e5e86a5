"""A WebSocket in another ASGI server (the host): passes messages from events to the node, and encoded replies to the host.

The host reads and writes frames, answers close frames and sends pings of its own.
Source: ASGI 3.0, https://asgi.readthedocs.io/en/latest/specs/www.html#websocket.
Knows: ASGI. Does not know: frames, which clients may connect.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Iterator

from starlette.types import Message, Receive, Scope, Send

from catenary.edge.admission import Admission
from catenary.edge.clients import ClientSession
from catenary.edge.request import Peer
from catenary.messages.environment import AsgiEnvironment, Environment
from catenary.messages.reasons import Reason
from catenary.node.encoder import Encoder, Encoders
from catenary.node.session import Traits
from catenary.ports import Goodbye
from catenary.protocols.table import ProtocolSet
from catenary.transports.asgi_transport import AsgiTransport
from catenary.transports.sliced_writer import SlicedWriter, UnsentLimits, hold_back, write_slices
from catenary.transports.websocket import WebSocketServices
from catenary.wire.frames import TOO_BIG
from catenary.wire.framing import PREFIXED, payloads
from catenary.wire.handshake import offered_subprotocols
from catenary.wire.http1 import RequestHead


class AsgiWebSocketEndpoint:
    """Satisfies :class:`catenary.transports.asgi_edge.AsgiEndpoint`."""

    __slots__ = ("_admission", "_encoders", "_protocols", "_services")

    def __init__(
        self,
        services: WebSocketServices,
        admission: Admission,
        protocols: ProtocolSet,
        encoders: Encoders,
    ) -> None:
        self._services = services
        self._admission = admission
        self._protocols = protocols
        self._encoders = encoders

    def open(
        self, request: RequestHead, peer: Peer, scope: Scope, receive: Receive, send: Send
    ) -> "AsgiWebSocket":
        protocol, subprotocol = self._protocols.choose(offered_subprotocols(request))
        admitted = self._admission.admit(request, peer, protocol)
        return AsgiWebSocket(
            self._services,
            receive,
            send,
            environment=AsgiEnvironment.of(admitted.environment, scope),
            encoder=self._encoders.encoder(protocol, PREFIXED),
            traits=admitted.traits,
            subprotocol=subprotocol,
            is_binary=protocol.is_binary,
        )


class AsgiWebSocket:
    """Satisfies :class:`catenary.transports.asgi_edge.AsgiClient` and :class:`catenary.ports.Outbound`.

    ``receive`` and ``send`` are the host's; the framing of ``encoder`` is :data:`catenary.wire.framing.PREFIXED`.
    """

    __slots__ = (
        "_close_timer",
        "_encoder",
        "_environment",
        "_may_be_slow",
        "_may_read",
        "_pauses",
        "_receive",
        "_services",
        "_session",
        "_subprotocol",
        "_traits",
        "_transport",
        "write",
        "writer",
    )

    def __init__(
        self,
        services: WebSocketServices,
        receive: Receive,
        send: Send,
        *,
        environment: Environment,
        encoder: Encoder,
        traits: Traits,
        subprotocol: str | None = None,
        is_binary: bool = False,
    ) -> None:
        self._services = services
        # The client
        self._environment = environment
        self._encoder = encoder
        self._traits = traits
        self._subprotocol = subprotocol
        self._session: ClientSession
        # The host
        self._receive = receive
        self._transport = AsgiTransport(send, self, _binary_events if is_binary else _text_events)
        self._transport.set_write_buffer_limits(high=services.limits.high_water)
        self.write: Callable[[bytes], None] = self._transport.write
        # While a large reply is sent in slices, and after the end
        self.writer: SlicedWriter | None = None
        self._may_be_slow = False
        self._close_timer: asyncio.TimerHandle | None = None
        # Cleared while reading is paused
        self._may_read = asyncio.Event()
        self._may_read.set()
        self._pauses = 0

    async def serve(self) -> None:
        """Accepts the handshake and serves the client until it leaves."""
        services, transport = self._services, self._transport
        transport.send(
            {"type": "websocket.accept", "subprotocol": self._subprotocol, "headers": []}
        )
        # Before the first await: other handshakes must see this connection in the count.
        self._session = services.node.admit(self._environment, self._encoder, self, self._traits)
        try:
            await transport.until_ended(self._listen)
        finally:
            self.write = _discard
            if self._close_timer is not None:
                self._close_timer.cancel()
            if self.writer is not None:
                self.writer.end()
                self.writer = None
            services.node.leave(self._session)
            # A reference cycle: without this, only the garbage collector would free both.
            del self._session
            await transport.stop()

    async def _listen(self) -> None:
        """Reads events until the client has left."""
        while True:
            event = await self._receive()
            if event["type"] != "websocket.receive":
                return
            if self.write is _discard:
                continue
            text = event.get("text")
            payload = event["bytes"] if text is None else text.encode()
            if len(payload) > self._services.limits.max_message_bytes:
                most = self._services.limits.max_message_bytes
                self._close(TOO_BIG, f"expected a message of up to {most} bytes")
                continue
            self._services.node.receive(self._session, payload)
            await self._may_read.wait()

    # Slow clients

    def pause_writing(self) -> None:
        """The write buffer is full: the client is slow, unless a reply is being sent in slices or it may be slow."""
        if self.writer is not None:
            self.writer.pause()
        elif self._may_be_slow:
            if self.write is not _discard:
                hold_back(self, self._transport, self._services.turns, self._unsent_limits)
        else:
            # Not closed here: the caller may be in the middle of a delivery.
            asyncio.get_running_loop().call_soon(self._close_if_slow)

    def resume_writing(self) -> None:
        if self.writer is not None:
            self.writer.resume()

    def _close_if_slow(self) -> None:
        """The host may have sent everything meanwhile."""
        if self._transport.get_write_buffer_size() > self._services.limits.high_water:
            self.close_as_slow()

    @property
    def _unsent_limits(self) -> UnsentLimits:
        return UnsentLimits(self._services.limits.high_water, self._may_be_slow)

    def tolerate_slowness(self) -> None:
        if self._may_be_slow:
            return
        self._may_be_slow = True
        if self.writer is not None:
            self.writer.tolerate_slowness(self._unsent_limits)
        elif not self._transport.is_closing():
            self._transport.set_write_buffer_limits(high=self._unsent_limits.buffer_bytes)

    @property
    def is_behind(self) -> bool:
        return self.writer is not None

    def close_as_slow(self) -> None:
        if self.write is not _discard:
            self._services.counters.disconnected_slow_clients_total += 1
            self._session.close(Reason.SLOW_CLIENT)

    # Large replies

    def write_slices(self, slices: Iterator[bytes]) -> Awaitable[None] | None:
        if self.write is _discard or self._transport.is_closing():
            return None
        return write_slices(
            self, slices, self._transport, self._services.turns, self._unsent_limits
        )

    # Closing

    def close(self, goodbye: Goodbye) -> None:
        self._close(goodbye.code, goodbye.text)

    def _close(self, code: int, text: str) -> None:
        """Sends the close event after everything written, and aborts if the client has not left in time."""
        if self.write is _discard:
            return
        self.write = _discard
        self._may_read.set()
        event = {"type": "websocket.close", "code": code, "reason": text}
        if self.writer is None:
            self._transport.send(event)
        else:
            self.writer.at_end = lambda: self._transport.send(event)
        self._close_timer = asyncio.get_running_loop().call_later(
            self._services.limits.close_timeout_s, self._transport.abort
        )

    def shutdown(self) -> None:
        """The cable stops."""
        if self.write is not _discard:
            self._session.close(Reason.SERVER_RESTART)

    # Backpressure

    def pause_reading(self) -> None:
        self._pauses += 1
        if self.write is not _discard:
            self._may_read.clear()

    def resume_reading(self) -> None:
        self._pauses -= 1
        if self._pauses == 0:
            self._may_read.set()


def _text_events(batch: bytes) -> Iterable[Message]:
    for payload in payloads(batch):
        yield {"type": "websocket.send", "text": payload.decode()}


def _binary_events(batch: bytes) -> Iterable[Message]:
    for payload in payloads(batch):
        yield {"type": "websocket.send", "bytes": payload}


def _discard(batch: bytes) -> None:
    """Replaces ``write`` after the close event."""
