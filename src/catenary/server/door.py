"""The door: looks at the first bytes of a connection and decides who serves it.

uvicorn builds one for each connection, as its HTTP protocol class. An upgrade on a cable path
becomes a WebSocket right here, and a publication goes to the intake, without an HTTP parser, a task
or an ASGI scope; everything else is handed, with its bytes, to uvicorn's own HTTP protocol. From
there an upgrade on a connection that was used before comes back, as uvicorn's WebSocket protocol.
Knows: heads of requests, whose turn it is, uvicorn's constructor. Does not know: who may come in,
frames, commands.
"""

import asyncio
import functools
import logging
from collections.abc import Sequence
from typing import Any, ClassVar, Final, cast

from uvicorn.config import Config
from uvicorn.server import ServerState

from catenary.api.intake import IntakeConnection
from catenary.edge.http import BoundedHttp
from catenary.errors import RequestRefused
from catenary.server.entrance import LATER, Entrance
from catenary.transports.websocket import Acceptance, WebSocketConnection
from catenary.wire import http1
from catenary.wire.frames import Event
from catenary.wire.request_memory import too_many


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
        self._head: bytes | bytearray = b""

    def arrive(self, transport: asyncio.Transport) -> None:
        """Somebody is there, and should soon say what they want."""
        self._transport = transport
        self._entrance.deadlines.watch(self)

    def step_aside(self) -> None:
        """Nobody is here any more."""
        self._entrance.deadlines.forget(self)
        self._entrance.queue.leave(self)
        self._let_go()

    def _let_go(self) -> None:
        """Keeps nothing of the request any more."""
        self._head = b""
        self._entrance.memory.release(self)

    def receive(self, data: bytes) -> Sequence[Event]:
        """Reads on. No event of a WebSocket comes out of it, whatever comes in."""
        if self._head:
            self._receive_more(data)
        else:
            self._look(data, 0)
        return ()

    def _receive_more(self, data: bytes) -> None:
        """Appends in place and searches what is new: a head that comes byte by byte must not be copied and
        searched each time."""
        if type(self._head) is not bytearray:
            self._head = bytearray(self._head)
        head = self._head
        seen = max(len(head) - len(http1.END_OF_HEADERS) + 1, 0)
        head += data
        if self not in self._entrance.queue:
            self._look(head, seen)
        elif len(head) > 2 * self._entrance.rules.head.max_bytes:
            # It is read on, so that its end is noticed, but not without limit.
            self._refuse(RequestRefused(400, "expected a client that waits for its answer"))
        else:
            self._entrance.memory.hold(self, len(head))

    def _look(self, data: bytes | bytearray, seen: int) -> None:
        """Decides once the head is there; before ``seen`` it does not end."""
        end = data.find(http1.END_OF_HEADERS, seen)
        limit = self._entrance.rules.head.max_bytes
        if end == -1 and len(data) <= limit:
            # What serves other requests has no time limit for a head.
            self._head = data
            self._entrance.memory.hold(self, len(data))
            return
        if end == -1 or end > limit:
            self._entrance.counters.oversized_heads_total += 1
            self._refuse(RequestRefused(431, f"expected a request head of up to {limit} bytes"))
            return
        data = bytes(data)
        path = _path(data)
        if path is not None and not self._entrance.rules.paths.match(path):
            self._lead_on(data, path)
        else:
            self._line_up(data, end)

    # Where to

    def _line_up(self, data: bytes, end: int) -> None:
        """A request for a cable, or for nothing that can be told: when it is its turn."""
        queue = self._entrance.queue
        self._head = data
        if not queue.enter(self, functools.partial(self._enter, end)):
            self._entrance.counters.refused_connections_total += 1
            self._refuse(RequestRefused(503, "too many handshakes", LATER))
        elif self in queue:
            self._entrance.memory.hold(self, len(data))

    def _enter(self, end: int) -> None:
        data = bytes(self._head)
        try:
            acceptance = self._accept(data, end)
        except RequestRefused as error:
            self._refuse(error)
            return
        self._server_state.total_requests += 1  # as uvicorn counts those that it serves
        self.step_aside()
        self._door.enter(acceptance, data[end + 4 :])

    def _accept(self, data: bytes, end: int) -> Acceptance:
        try:
            request = http1.read_request(data[:end], self._entrance.rules.head.max_lines)
        except RequestRefused as error:
            self._entrance.counters.oversized_heads_total += error.status == 431
            raise
        transport = self._transport
        scheme = request.scheme or (
            "http" if transport.get_extra_info("sslcontext") is None else "https"
        )
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
            memory=entrance.memory,
            counters=entrance.counters,
        )
        http.connection_made(transport)
        transport.set_protocol(http)
        http.data_received(data)

    @property
    def _connections(self) -> set[object]:
        return cast("set[object]", self._server_state.connections)

    # Goodbyes

    def _refuse(self, error: RequestRefused) -> None:
        self._entrance.counters.failed_handshakes_total += 1
        self._entrance.complaints.write(
            logging.INFO, "Handshake refused with %d: %s", error.status, error
        )
        self._entrance.deadlines.forget(self)
        self._entrance.queue.leave(self)
        self._let_go()
        self._transport.write(http1.refusal(error))
        self._transport.close()

    def give_up(self) -> None:
        """Other requests need the memory."""
        self._refuse(too_many())

    def time_out(self) -> None:
        """The client took too long to ask for anything."""
        self._entrance.counters.late_handshakes_total += 1
        if self in self._entrance.queue:
            self._entrance.counters.refused_connections_total += 1
            self._refuse(RequestRefused(503, "too many handshakes", LATER))
        elif self._head:
            seconds = self._entrance.deadlines.timeout_s
            self._refuse(RequestRefused(408, f"expected a request within {seconds:g} s"))
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
            self._refuse(RequestRefused(404, f"expected the path of a cable, got {path[:100]!r}"))
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
    """The path of a complete head; None where its first line can't be read."""
    words = head.split(b" ", 2)
    if len(words) < 2:
        return None
    target = words[1].decode("latin-1")
    if not target.startswith("/"):
        try:
            target = http1.origin_form(target)[2]
        except RequestRefused:
            return None
    path, query, _ = target.partition("?")
    return path if query or len(words) == 3 else None
