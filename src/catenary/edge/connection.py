"""One accepted connection: an asyncio protocol that passes every event to its current stage.

uvicorn creates one for each connection, as its HTTP protocol class. The first stage is a request sniffer; the next one is
what the request asks for. Only the stage is exchanged, not the protocol: a transport that gets another protocol
stops reading and starts again, which changes epoll three times and costs 4 % of a connect.
Knows: asyncio, uvicorn's constructor. Does not know: requests, what a stage does.
"""

import asyncio
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol, cast

from uvicorn.config import Config
from uvicorn.server import ServerState

from catenary.edge.request import Peer
from catenary.messages.ip_addresses import plain


class Stage(Protocol):
    """The current state of a connection: a request that is being read, a WebSocket, an event stream."""

    @property
    def is_client(self) -> bool:
        """Whether the connection has a client's session: at a shutdown, such connections are closed one after another."""
        ...

    def begin(self, rest: bytes) -> None:
        """Called when the connection enters this stage; ``rest`` was received before and belongs to it."""
        ...

    def receive(self, data: bytes) -> None:
        """The next bytes from the peer."""
        ...

    def eof(self) -> bool:
        """The peer sends nothing more. False closes the transport; True keeps its sending side open."""
        ...

    def pause_writing(self) -> None:
        """The write buffer of the transport exceeds its high-water mark."""
        ...

    def resume_writing(self) -> None:
        """The write buffer is down to the low-water mark again."""
        ...

    def lost(self, exc: Exception | None) -> None:
        """The connection is closed; nothing is called after this."""
        ...

    def shutdown(self) -> None:
        """The server stops: ends the connection as soon as possible, in order."""
        ...


class PortState(ServerState):
    """The state that all connections of one port share, and uvicorn.

    ``keeps_connections`` is False when the server is about to stop: from then on, each response asks its client to send its
    next request on another connection, before this one is closed between two requests. Source: RFC 9112, section 9.6.
    """

    def __init__(self) -> None:
        super().__init__()
        self.keeps_connections = True


class UvicornContext(NamedTuple):
    """The arguments with which uvicorn builds the protocols of one port."""

    config: Config
    server_state: PortState
    app_state: dict[str, Any]


class ClientConnection(asyncio.Protocol):
    """Passes the events of a transport to its stage.

    ``first`` builds the first stage. uvicorn passes the keyword arguments.
    """

    __slots__ = ("_port_state", "stage", "transport")

    def __init__(
        self,
        first: "Callable[[ClientConnection, UvicornContext], Stage]",
        *,
        config: Config,
        server_state: PortState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        self._port_state = server_state
        self.transport: asyncio.Transport
        self.stage = first(self, UvicornContext(config, server_state, app_state))

    @property
    def is_client(self) -> bool:
        return self.stage.is_client

    @property
    def is_kept(self) -> bool:
        """Whether a response may leave the connection open for another request."""
        return self._port_state.keeps_connections

    @property
    def _connections(self) -> set[object]:
        """At a shutdown, uvicorn calls shutdown() of each member and waits until the set is empty."""
        return cast("set[object]", self._port_state.connections)

    def peer(self, asked_at: float = 0.0) -> Peer:
        """The other end of the connection; the address of a Unix socket's peer is empty."""
        transport = self.transport
        name = transport.get_extra_info("peername")
        is_plain = transport.get_extra_info("sslcontext") is None
        address = plain(name[0]) if type(name) is tuple else ""
        return Peer("http" if is_plain else "https", address, asked_at)

    def enter(self, stage: Stage, rest: bytes) -> None:
        """Exchanges the stage; ``rest`` was received and not used by the stage before."""
        self.stage = stage
        stage.begin(rest)

    def hand_over(self, protocol: asyncio.Protocol, data: bytes) -> None:
        """Gives the transport to another protocol, which receives ``data`` first."""
        transport = self.transport
        self._forget()
        self._introduce(protocol, transport)
        transport.set_protocol(protocol)
        protocol.data_received(data)

    def take_back(self, transport: asyncio.Transport, stage: Stage, data: bytes) -> None:
        """Takes the transport from the protocol that it was handed over to, for a request that begins with ``data``."""
        self.transport = transport
        self._connections.add(self)
        transport.set_protocol(self)
        self.enter(stage, data)

    def _introduce(self, protocol: asyncio.Protocol, transport: asyncio.Transport) -> None:
        protocol.connection_made(transport)

    def _forget(self) -> None:
        self._connections.discard(self)
        # Connection, stage and transport refer to each other: without this, only the garbage collector would free them.
        del self.stage, self.transport

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # Transports of uvloop are not a subclass.
        self.transport = cast("asyncio.Transport", transport)
        self._connections.add(self)
        self.stage.begin(b"")

    def data_received(self, data: bytes) -> None:
        self.stage.receive(data)

    def eof_received(self) -> bool:
        return self.stage.eof()

    def pause_writing(self) -> None:
        self.stage.pause_writing()

    def resume_writing(self) -> None:
        self.stage.resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        stage = self.stage
        self._forget()
        stage.lost(exc)

    # uvicorn

    def shutdown(self) -> None:
        self.stage.shutdown()
