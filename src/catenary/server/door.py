"""The door: looks at the first bytes of a connection and decides who serves it.

uvicorn builds one for each connection, as its HTTP protocol class. An upgrade on a cable path
becomes a WebSocket right here, and a publication goes to the intake, without an HTTP parser, a task
or an ASGI scope; everything else is handed, with its bytes, to uvicorn's own HTTP protocol. From
there an upgrade on a connection that was used before comes back, as uvicorn's WebSocket protocol.
Knows: paths, origins, limits, uvicorn's constructor. Does not know: frames, commands.
"""

import asyncio
import functools
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Final, cast

import msgspec
from uvicorn.config import Config
from uvicorn.server import ServerState

from catenary.api.intake import IntakeConnection, IntakeRules
from catenary.auth.origins import Origins
from catenary.errors import HandshakeError
from catenary.messages.heartbeat import Heartbeat
from catenary.metrics.counters import Counters
from catenary.node.complaints import Complaints
from catenary.node.encoder import Encoder
from catenary.node.node import Node
from catenary.node.session import Traits
from catenary.ports import Watch
from catenary.protocols import actioncable
from catenary.server.deadlines import Deadlines
from catenary.server.http import BoundedHttp
from catenary.server.reception import Reception
from catenary.server.routes import CablePaths
from catenary.transports.request import Proxied, environment_of, heartbeat_of, resumed_sid
from catenary.transports.turns import Turns
from catenary.transports.websocket import Acceptance, WebSocketConnection, WebSocketLimits
from catenary.wire import deflate, handshake
from catenary.wire.frames import Event

_log: Final = logging.getLogger("catenary.door")


class HeadLimits(msgspec.Struct, frozen=True):
    """How long the head of a request may be, in bytes and in lines."""

    max_bytes: int = handshake.MAX_HEADER_BYTES
    max_lines: int = handshake.MAX_HEADERS


class CableRules(msgspec.Struct, frozen=True):
    """Who may come in by a WebSocket, and how it is spoken to.

    ``max_connections`` 0 means no limit. ``deflating`` has an encoder for each window of
    :data:`catenary.wire.deflate.WINDOWS`, or nothing where nobody is spoken to in compressed
    messages.
    """

    paths: CablePaths
    origins: Origins
    proxied: Proxied
    heartbeat: Heartbeat
    limits: WebSocketLimits
    encoder: Encoder
    pong_timeout_s: float = 0
    keeps_sessions: bool = False
    max_connections: int = 0
    deflating: Mapping[int, Encoder] = {}
    head: HeadLimits = HeadLimits()

    def traits_of(self, request: handshake.Request, subprotocol: str | None) -> Traits:
        """How a client is pinged, and whether it may be resumed: the extended protocol's may.

        Pongs are wanted of those who know of them, and of all where pings are the transport's own.
        """
        heartbeat = heartbeat_of(request, self.heartbeat)
        is_extended = subprotocol == actioncable.EXTENDED
        if self.pong_timeout_s > 0 and (is_extended or heartbeat.is_native):
            heartbeat = msgspec.structs.replace(heartbeat, pong_timeout_s=self.pong_timeout_s)
        if not (is_extended and self.keeps_sessions):
            return Traits(heartbeat)
        return Traits(heartbeat, is_resumable=True, resumes=resumed_sid(request))


class Entrance:
    """What the doors of one port share; no ``intake`` where publications go elsewhere.

    ``deadlines`` are those of requests, ``late_messages`` those of messages that have begun; large
    reads are served in ``turns``.
    ``guest_websockets`` builds uvicorn's own protocol for WebSockets on other paths than cables.
    """

    __slots__ = (
        "complaints",
        "counters",
        "deadlines",
        "guest_websockets",
        "intake",
        "late_messages",
        "node",
        "reception",
        "rules",
        "turns",
    )

    def __init__(
        self,
        node: Node,
        rules: CableRules,
        counters: Counters,
        *,
        deadlines: Deadlines,
        late_messages: Watch,
        reception: Reception,
        turns: Turns,
        intake: IntakeRules | None = None,
        guest_websockets: Callable[..., asyncio.Protocol] | None = None,
    ) -> None:
        self.node = node
        self.rules = rules
        self.counters = counters
        self.deadlines = deadlines
        self.late_messages = late_messages
        self.reception = reception
        self.turns = turns
        self.complaints = Complaints(_log)
        self.intake = intake
        self.guest_websockets = guest_websockets

    def accept(self, request: handshake.Request, scheme: str, remote_addr: str) -> Acceptance:
        """Checks a handshake and prepares its answer. Raises :class:`HandshakeError`."""
        rules = self.rules
        accept = handshake.check_upgrade(request)
        self.check(request)
        compression = (
            deflate.agree(handshake.offered_extensions(request)) if rules.deflating else None
        )
        subprotocol = agreed_subprotocol(request)
        environment = environment_of(
            request, scheme=scheme, remote_addr=remote_addr, proxied=rules.proxied
        )
        traits = rules.traits_of(request, subprotocol)
        if compression is None:
            response = handshake.switching(accept, subprotocol)
            return Acceptance(environment, rules.encoder, traits, response)
        return Acceptance(
            environment,
            rules.deflating[compression.window_bits],
            traits,
            handshake.switching(
                accept, subprotocol, (("Sec-WebSocket-Extensions", compression.answer),)
            ),
            deflate.inflated,
        )

    def check(self, request: handshake.Request) -> None:
        """May somebody with this request come in now? Raises :class:`HandshakeError`."""
        rules = self.rules
        if not rules.origins.allow(request.headers.get("origin", "")):
            raise HandshakeError(403, "expected an allowed origin")
        if 0 < rules.max_connections <= self.counters.open_cables_num:
            self.counters.refused_connections_total += 1
            raise HandshakeError(503, "too many connections", _LATER)


def agreed_subprotocol(request: handshake.Request) -> str | None:
    """What both can speak, in the order of the reference. Action Cable's clients offer
    ``actioncable-unsupported`` to be told that nothing else fits; with no word in common the answer
    names none."""
    offered = handshake.offered_subprotocols(request)
    for known in (actioncable.SUBPROTOCOL, actioncable.EXTENDED, actioncable.UNSUPPORTED):
        if known in offered:
            return known
    return None


_LATER: Final = (("Retry-After", "5"),)


class Threshold:
    """Reads what comes to a door, and decides where that leads."""

    __slots__ = (
        "_app_state",
        "_config",
        "_door",
        "_entrance",
        "_head",
        "_server_state",
        "_transport",
    )

    # As a reader of frames says it: nobody awaits the rest of a message here.
    is_midway: Final = False

    def __init__(
        self,
        door: "Door",
        entrance: Entrance,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
    ) -> None:
        self._door = door
        self._entrance = entrance
        self._config = config
        self._server_state = server_state
        self._app_state = app_state
        self._transport: asyncio.Transport
        self._head = b""

    def arrive(self, transport: asyncio.Transport) -> None:
        """Somebody is there, and should soon say what they want."""
        self._transport = transport
        self._entrance.deadlines.watch(self)

    def step_aside(self) -> None:
        """Nobody is here any more."""
        self._entrance.deadlines.forget(self)
        self._entrance.reception.forget(self)
        self._head = b""

    def receive(self, data: bytes) -> Sequence[Event]:
        """Reads on. No event of a WebSocket comes out of it, whatever comes in."""
        if self._head:
            data = self._head + data
        end = data.find(handshake.END_OF_HEADERS)
        limit = self._entrance.rules.head.max_bytes
        if end == -1 and len(data) <= limit:
            # Nobody behind this door has a limit of time for a head that does not end.
            self._head = data
            return ()
        if end == -1 or end > limit:
            self._entrance.counters.oversized_heads_total += 1
            self._refuse(HandshakeError(431, f"expected a request head of up to {limit} bytes"))
            return ()
        path = _path(data)
        if path is not None and not self._entrance.rules.paths.match(path):
            self._lead_on(data, path)
        else:
            self._line_up(data, end)
        return ()

    # Where to

    def _line_up(self, data: bytes, end: int) -> None:
        """A request for a cable, or for nothing that can be told: when it is its turn."""
        reception = self._entrance.reception
        self._head = data
        if not reception.receive(self, functools.partial(self._enter, data, end)):
            self._entrance.counters.refused_connections_total += 1
            self._refuse(HandshakeError(503, "too many handshakes", _LATER))
        elif reception.holds(self) and len(data) > 2 * self._entrance.rules.head.max_bytes:
            # It is read on, so that its end is heard; but it must not fill memory meanwhile.
            self._refuse(HandshakeError(400, "expected a client that waits for its answer"))

    def _enter(self, data: bytes, end: int) -> None:
        try:
            acceptance = self._accept(data, end)
        except HandshakeError as error:
            self._refuse(error)
            return
        self.step_aside()
        self._door.enter(acceptance, data[end + 4 :])

    def _accept(self, data: bytes, end: int) -> Acceptance:
        try:
            request = handshake.read_request(data[:end], self._entrance.rules.head.max_lines)
        except HandshakeError as error:
            self._entrance.counters.oversized_heads_total += error.status == 431
            raise
        transport = self._transport
        scheme = "http" if transport.get_extra_info("sslcontext") is None else "https"
        peer = transport.get_extra_info("peername")
        return self._entrance.accept(request, scheme, peer[0] if peer else "")

    def _lead_on(self, data: bytes, path: str) -> None:
        """A request for something else: a publication, or uvicorn's."""
        self.step_aside()
        self._door.step_aside()
        intake = self._entrance.intake
        if intake is not None and path == intake.path:
            connection = IntakeConnection(intake, self._connections, self._serve_http)
            connection.open(self._transport, data)
        else:
            self._serve_http(self._transport, data)

    def _serve_http(self, transport: asyncio.Transport, data: bytes) -> None:
        """Uvicorn's own protocol takes the connection, from these bytes onwards."""
        entrance = self._entrance
        http = BoundedHttp(
            self._config,
            self._server_state,
            self._app_state,
            max_head_bytes=entrance.rules.head.max_bytes,
            watch=entrance.deadlines,
            counters=entrance.counters,
        )
        http.connection_made(transport)
        transport.set_protocol(http)
        http.data_received(data)

    @property
    def _connections(self) -> set[object]:
        return cast("set[object]", self._server_state.connections)

    # Goodbyes

    def _refuse(self, error: HandshakeError) -> None:
        self._entrance.counters.failed_handshakes_total += 1
        self._entrance.complaints.write(
            logging.INFO, "Handshake refused with %d: %s", error.status, error
        )
        self._entrance.deadlines.forget(self)
        self._entrance.reception.forget(self)
        self._transport.write(handshake.refusal(error))
        self._transport.close()

    def time_out(self) -> None:
        """The client took too long to ask for anything."""
        self._entrance.counters.late_handshakes_total += 1
        if self._entrance.reception.holds(self):
            self._entrance.counters.refused_connections_total += 1
            self._refuse(HandshakeError(503, "too many handshakes", _LATER))
        elif self._head:
            seconds = self._entrance.deadlines.timeout_s
            self._refuse(HandshakeError(408, f"expected a request within {seconds:g} s"))
        else:
            self._transport.close()


class BackThreshold(Threshold):
    """The same behind uvicorn, which sets the protocol that it built behind its first bytes: these are
    looked at later."""

    __slots__ = ()

    def receive(self, data: bytes) -> Sequence[Event]:
        asyncio.get_running_loop().call_soon(self._receive_later, data)
        return ()

    def _receive_later(self, data: bytes) -> None:
        if not self._transport.is_closing():
            super().receive(data)

    def _lead_on(self, data: bytes, path: str) -> None:
        if self._entrance.guest_websockets is None:
            self._refuse(HandshakeError(404, f"expected the path of a cable, got {path[:100]!r}"))
            return
        self.step_aside()
        self._door.step_aside()
        guest = self._entrance.guest_websockets(
            config=self._config, server_state=self._server_state, app_state=self._app_state
        )
        guest.connection_made(self._transport)
        self._transport.set_protocol(guest)
        guest.data_received(data)


class Door(WebSocketConnection):
    """One connection: at the threshold until it is known what it wants, then a WebSocket if it is that.

    It changes its class when it opens. A transport that is given another protocol stops reading and
    begins again: three more changes of what epoll watches, 4 % of what a connect costs.
    """

    __slots__ = ()
    _kind: ClassVar[type[Threshold]] = Threshold

    def __init__(
        self,
        entrance: Entrance,
        *,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        connections: Any = server_state.connections
        super().__init__(
            entrance.node,
            entrance.rules.limits,
            entrance.counters,
            connections,
            late_messages=entrance.late_messages,
            turns=entrance.turns,
        )
        # What a WebSocket gives to its reader of frames goes there until it is open.
        threshold: Any = self._kind(self, entrance, config, server_state, app_state)
        self._reader = threshold

    @property
    def _threshold(self) -> Threshold:
        return cast("Threshold", self._reader)

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._connections.add(self)
        self._threshold.arrive(self._transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self._threshold.step_aside()
        self.step_aside()

    def eof_received(self) -> None:
        """Nothing is owed to it yet: the transport closes."""

    def pause_writing(self) -> None:
        """It is told one thing at most."""

    def _take_large(self, data: bytes) -> None:
        """All of it: whoever is found behind the door has a measure of their own."""
        self._take(data)

    # Where to

    def enter(self, acceptance: Acceptance, rest: bytes) -> None:
        """Is a WebSocket from now on, which is among the connections already."""
        transport = self._transport
        self.__class__ = WebSocketConnection  # type: ignore[assignment]
        self.begin(transport, acceptance, rest)

    def step_aside(self) -> None:
        """Others have the connection, or nobody."""
        self._connections.discard(self)
        # Each knows the other: left so, they would wait for the collector, which comes rarely.
        del self._reader

    # Goodbyes

    def shutdown(self) -> None:
        """Called by uvicorn when the server stops."""
        self._transport.close()


class BackDoor(Door):
    """For an upgrade that uvicorn meets on a connection which was used before."""

    __slots__ = ()
    _kind = BackThreshold


def _path(head: bytes) -> str | None:
    """The path of a request whose first line has come so far; None where it has not."""
    words = head.split(b" ", 2)
    if len(words) < 2:
        return None
    path, query, _ = words[1].partition(b"?")
    return path.decode("latin-1") if query or len(words) == 3 else None
