"""One accepted connection: the protocol that asyncio knows, and the stage that does its work.

uvicorn builds one for each connection, as its HTTP protocol class. A connection begins as a request sniffer and
becomes what its request asks for by exchanging the stage. The protocol object stays: a transport that is given
another protocol stops reading and starts again, three changes of what epoll watches and 4 % of the cost of a connect.
Knows: asyncio, uvicorn's constructor. Does not know: requests, what a stage does.
"""

import asyncio
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol, cast

from uvicorn.config import Config
from uvicorn.server import ServerState


class Stage(Protocol):
    """What a connection is at the moment: a request that is being read, a WebSocket, an event stream."""

    @property
    def is_client(self) -> bool:
        """Whether a client's session stands behind it: at a shutdown, such connections are closed one after
        the other."""
        ...

    def begin(self, rest: bytes) -> None:
        """The connection is in this stage now; ``rest`` was received already and belongs to it."""
        ...

    def receive(self, data: bytes) -> None:
        """The next bytes from the peer."""
        ...

    def eof(self) -> bool:
        """The peer sends nothing more. False closes the transport; True keeps its sending side open."""
        ...

    def pause_writing(self) -> None:
        """More bytes wait to be sent than the high-water mark of the transport."""
        ...

    def resume_writing(self) -> None:
        """They were sent, down to its low-water mark."""
        ...

    def lost(self, exc: Exception | None) -> None:
        """The connection is closed; nothing is called after this."""
        ...

    def shutdown(self) -> None:
        """The server stops: end as soon as that can be done in order."""
        ...


class Host(NamedTuple):
    """uvicorn's side of one port, to build its own protocols with."""

    config: Config
    server_state: ServerState
    app_state: dict[str, Any]


class ClientConnection(asyncio.Protocol):
    """Passes what happens on a transport to its stage.

    ``first`` builds the first stage. uvicorn sets the keyword arguments.
    """

    __slots__ = ("_connections", "stage", "transport")

    def __init__(
        self,
        first: "Callable[[ClientConnection, Host], Stage]",
        *,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        # uvicorn waits for its members at a shutdown, and calls shutdown() of each.
        self._connections = cast("set[object]", server_state.connections)
        self.transport: asyncio.Transport
        self.stage = first(self, Host(config, server_state, app_state))

    @property
    def is_client(self) -> bool:
        return self.stage.is_client

    def enter(self, stage: Stage, rest: bytes) -> None:
        """Exchanges the stage; ``rest`` is what was received and not used."""
        self.stage = stage
        stage.begin(rest)

    def hand_over(self, protocol: asyncio.Protocol, data: bytes) -> None:
        """Gives the transport to another protocol, from these bytes on, and forgets it."""
        transport = self.transport
        self._forget()
        protocol.connection_made(transport)
        transport.set_protocol(protocol)
        protocol.data_received(data)

    def _forget(self) -> None:
        self._connections.discard(self)
        # Connection, stage and transport refer to each other: kept, they would wait for the collector.
        del self.stage, self.transport

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are no subclass.
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
