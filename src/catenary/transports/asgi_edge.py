"""The edge of a cable inside another ASGI server (the host): one endpoint for each type of scope.

Knows: ASGI scopes. Does not know: what an endpoint does, when the cable starts and stops.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import msgspec
from starlette.types import Receive, Scope, Send

from catenary.edge.handshake_queue import HandshakeQueue
from catenary.edge.refusals import Refusals
from catenary.edge.request import Peer
from catenary.edge.routes import RouteTable
from catenary.errors import RequestRefused
from catenary.metrics.counters import Counters
from catenary.wire.http1 import RequestHead


class AsgiClient(Protocol):
    """A client that may connect."""

    async def serve(self) -> None:
        """Accepts the connection and serves the client until it leaves. Called once, in the same turn of the event loop in
        which the endpoint opened the client."""
        ...

    def shutdown(self) -> None:
        """The server stops: ends the connection as soon as possible, in order. Called while the client is served."""
        ...


class AsgiEndpoint(Protocol):
    """The counterpart of :class:`catenary.edge.routes.Endpoint` for connections that a host accepted."""

    def open(
        self, request: RequestHead, peer: Peer, scope: Scope, receive: Receive, send: Send
    ) -> AsgiClient:
        """Returns the client, before anything is sent to it. Raises :class:`catenary.errors.RequestRefused`."""
        ...


class AsgiPaths:
    """Satisfies :class:`AsgiEndpoint`: chooses an endpoint by the path below the one at which the cable is mounted, and the
    ``fallback`` for every other path; without one, they are refused with 404."""

    __slots__ = ("_fallback", "_routes")

    def __init__(
        self, rows: Sequence[tuple[str, AsgiEndpoint]], fallback: AsgiEndpoint | None
    ) -> None:
        """Raises :class:`catenary.errors.ConfigError` for an invalid pattern."""
        self._routes = RouteTable(rows)
        self._fallback = fallback

    def open(
        self, request: RequestHead, peer: Peer, scope: Scope, receive: Receive, send: Send
    ) -> AsgiClient:
        path: str = scope["path"].removeprefix(scope.get("root_path", ""))
        endpoint = self._routes.find(path) or self._fallback
        if endpoint is None:
            raise RequestRefused(404, f"expected a path of the cable, got {path[:100]!r}")
        return endpoint.open(request, peer, scope, receive, send)


class AsgiChoosingEndpoint:
    """Satisfies :class:`AsgiEndpoint`; :class:`catenary.edge.routes.ChoosingEndpoint` for connections that a host accepted."""

    __slots__ = ("_choose",)

    def __init__(self, choose: Callable[[RequestHead, Peer], AsgiEndpoint]) -> None:
        self._choose = choose

    def open(
        self, request: RequestHead, peer: Peer, scope: Scope, receive: Receive, send: Send
    ) -> AsgiClient:
        return self._choose(request, peer).open(request, peer, scope, receive, send)


class AsgiEdge(msgspec.Struct, frozen=True, eq=False, kw_only=True):
    """Everything between the host and the node. ``endpoints`` are by the type of the scope, ``websocket`` or ``http``."""

    endpoints: Mapping[str, AsgiEndpoint]
    queue: HandshakeQueue
    handshake_timeout_s: float
    refusals: Refusals
    counters: Counters
