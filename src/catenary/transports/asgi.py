"""One client of a cable that another ASGI server hosts: events in, commands to the node; messages out.

The host speaks WebSocket with the client, answers its close frames and pings it as it likes. How
far a slow client is felt here depends on the host's ``send``, which should not return before the
client's socket takes more.
Source: ASGI 3.0, https://asgi.readthedocs.io/en/latest/specs/www.html#websocket.
Knows: ASGI. Does not know: frames, who may come in.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Iterator
from typing import Final

from starlette.types import Message, Receive, Scope, Send

from catenary.edge.admission import Admission
from catenary.edge.request import Peer
from catenary.logs.rate_limited import RateLimitedLogger
from catenary.messages.environment import Environment, HostedEnvironment
from catenary.messages.reasons import Reason
from catenary.node.encoder import Encoder, Encoders
from catenary.node.session import Session, Traits
from catenary.ports import Goodbye
from catenary.protocols.table import ProtocolSet
from catenary.transports.sliced_writer import BYTES_PER_US, STEP_US, settle
from catenary.transports.websocket import WebSocketServices
from catenary.wire.frames import TOO_BIG
from catenary.wire.framing import PREFIXED, payloads
from catenary.wire.handshake import offered_subprotocols
from catenary.wire.http1 import Request

_limited: Final = RateLimitedLogger(logging.getLogger("catenary.asgi"))


class AsgiEndpoint:
    """Satisfies :class:`catenary.transports.hosting.HostedEndpoint`: the host speaks WebSocket with its clients."""

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
        self, request: Request, peer: Peer, scope: Scope, receive: Receive, send: Send
    ) -> "AsgiConnection":
        """A client that may connect; nothing was sent to it yet. Raises
        :class:`catenary.errors.RequestRefused`."""
        protocol, subprotocol = self._protocols.choose(offered_subprotocols(request))
        admitted = self._admission.admit(request, peer, protocol)
        return AsgiConnection(
            self._services,
            receive,
            send,
            environment=HostedEnvironment.of(admitted.environment, scope),
            encoder=self._encoders.encoder(protocol, PREFIXED),
            traits=admitted.traits,
            subprotocol=subprotocol,
            is_binary=protocol.is_binary,
        )


class AsgiConnection:
    """Satisfies :class:`catenary.transports.hosting.HostedClient` and :class:`catenary.ports.Outbound`.

    ``receive`` and ``send`` are the host's, ``encoder`` frames with
    :data:`catenary.wire.framing.PREFIXED`.
    """

    __slots__ = (
        "_encoder",
        "_environment",
        "_goodbye",
        "_is_binary",
        "_is_slow",
        "_may_read",
        "_pauses",
        "_receive",
        "_send",
        "_sending",
        "_services",
        "_session",
        "_subprotocol",
        "_time",
        "_traits",
        "_waiting",
        "_waiting_bytes",
        "write",
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
        self._is_binary = is_binary
        # The host
        self._receive = receive
        self._send = send
        # What is to be sent: batches, and answers whose slices are encoded when their turn comes
        self._waiting: deque[bytes | tuple[Iterator[bytes], asyncio.Future[None]]] = deque()
        self._waiting_bytes = 0
        self._is_slow = False
        self._sending: asyncio.Task[None] | None = None
        self._goodbye: tuple[int, str] | None = None
        self.write: Callable[[bytes], None] = self._write
        # How long it may stay, and whether it is read
        self._time = asyncio.timeout(None)
        self._may_read = asyncio.Event()
        self._may_read.set()
        self._pauses = 0
        self._session: Session

    async def accept(self) -> None:
        """Completes the handshake."""
        await self._send(
            {"type": "websocket.accept", "subprotocol": self._subprotocol, "headers": []}
        )

    async def turn_away(self) -> None:
        """Ends an accepted connection that is not served, because the server stops."""
        goodbye = self._encoder.goodbye(Reason.SERVER_RESTART)
        await self._send({"type": "websocket.close", "code": goodbye.code, "reason": goodbye.text})

    async def serve(self) -> None:
        """Serves an accepted connection to its end."""
        services = self._services
        try:
            async with self._time:
                self._session = services.node.admit(
                    self._environment, self._encoder, self, self._traits
                )
                await self._listen()
        except TimeoutError:
            _limited.debug(
                "sid=%s Cut off: it did not answer the close frame", self._environment.sid
            )
        finally:
            self.write = _discard
            services.node.leave(self._session)
            # Each refers to the other: kept so, they would wait for the collector.
            del self._session
            if self._sending is not None:
                self._sending.cancel()
                await asyncio.wait([self._sending])

    async def _listen(self) -> None:
        """Until the client is gone."""
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

    # What the client is sent

    def _write(self, batch: bytes) -> None:
        self._waiting.append(batch)
        self._waiting_bytes += len(batch)
        if self._sending is None:
            self._begin_to_send()
        elif self._waiting_bytes > self._services.limits.high_water and not self._is_slow:
            # Never closed here, in the middle of a delivery.
            self._is_slow = True
            asyncio.get_running_loop().call_soon(self._give_up)

    def write_slices(self, slices: Iterator[bytes]) -> Awaitable[None] | None:
        if self.write is _discard:
            return None
        sent: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((slices, sent))
        if self._sending is None:
            self._begin_to_send()
        return sent

    def _begin_to_send(self) -> None:
        self._sending = asyncio.create_task(self._send_all())

    async def _send_all(self) -> None:
        """Sends what waits, in order, and the goodbye after it."""
        try:
            while self._waiting:
                each = self._waiting.popleft()
                if isinstance(each, bytes):
                    await self._send_batch(each)
                    self._waiting_bytes -= len(each)
                else:
                    await self._send_slices(*each)
            if self._goodbye is not None:
                code, text = self._goodbye
                await self._send({"type": "websocket.close", "code": code, "reason": text})
        except Exception as error:  # noqa: BLE001
            # The host's own error, whichever that is, for a client that is gone.
            _limited.debug("Not sent: %r", error)
            self.write = _discard
            for each in self._waiting:
                if not isinstance(each, bytes):
                    settle(each[1])
            self._waiting.clear()
            self._cut_later()
        finally:
            self._sending = None

    async def _send_batch(self, batch: bytes) -> None:
        for payload in payloads(batch):
            await self._send(self._message(payload))

    async def _send_slices(self, slices: Iterator[bytes], sent: "asyncio.Future[None]") -> None:
        """One in each turn that this connection gets; the host's ``send`` returns when there is room."""
        try:
            while (batch := await self._next(slices, sent)) is not None:
                await self._send_batch(batch)
        finally:
            settle(sent)

    async def _next(self, slices: Iterator[bytes], sent: "asyncio.Future[None]") -> bytes | None:
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._services.turns.wait(lambda: settle(turn))
        await turn
        try:
            batch = next(slices, None)
        except Exception as error:  # noqa: BLE001  (whoever waits for the answer reports it)
            settle(sent, error)
            return None
        self._services.turns.spend(STEP_US + len(batch or b"") // BYTES_PER_US)
        return batch

    def _message(self, payload: bytes) -> Message:
        if self._is_binary:
            return {"type": "websocket.send", "bytes": payload}
        return {"type": "websocket.send", "text": payload.decode()}

    # Goodbyes

    def close(self, goodbye: Goodbye) -> None:
        self._close(goodbye.code, goodbye.text)

    def _close(self, code: int, text: str) -> None:
        """After everything written; the client has as much time to read that as on a port of our own."""
        if self.write is _discard:
            return
        self.write = _discard
        self._goodbye = (code, text)
        self._may_read.set()
        self._cut_later()
        if self._sending is None:
            self._begin_to_send()

    def _cut_later(self) -> None:
        """Who neither reads nor answers, is not waited for longer than this."""
        if self._time.when() is None:
            moment = asyncio.get_running_loop().time() + self._services.limits.close_timeout_s
            self._time.reschedule(moment)

    def _give_up(self) -> None:
        self._is_slow = False
        if self.write is not _discard and self._waiting_bytes > self._services.limits.high_water:
            self._services.counters.disconnected_slow_clients_total += 1
            self._session.close(Reason.SLOW_CLIENT)

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


def _discard(batch: bytes) -> None:
    """Where replies go behind the goodbye."""
