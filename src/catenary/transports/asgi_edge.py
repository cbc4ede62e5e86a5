"""What a cable inside another ASGI server is made of: an endpoint for each type of connection that the host passes on.

Knows: ASGI scopes. Does not know: what an endpoint does with a connection, when the cable starts and stops.
"""

from collections.abc import Mapping
from typing import Protocol

import msgspec
from starlette.types import Receive, Scope, Send

from catenary.edge.handshake_queue import HandshakeQueue
from catenary.edge.refusals import Refusals
from catenary.edge.request import Peer
from catenary.metrics.counters import Counters
from catenary.wire.http1 import Request


class AsgiClient(Protocol):
    """One client that may connect."""

    async def serve(self) -> None:
        """Accepts the connection and serves the client to its end. Called once, right after the client was opened:
        nothing is awaited in between."""
        ...

    def shutdown(self) -> None:
        """The server stops: end as soon as that can be done in order. Called while the client is served."""
        ...


class AsgiEndpoint(Protocol):
    """The counterpart of :class:`catenary.edge.routes.Endpoint` for connections that a host has accepted."""

    def open(
        self, request: Request, peer: Peer, scope: Scope, receive: Receive, send: Send
    ) -> AsgiClient:
        """A client; nothing was sent to it yet. Raises :class:`catenary.errors.RequestRefused`."""
        ...


class AsgiEdge(msgspec.Struct, frozen=True, eq=False, kw_only=True):
    """Everything in front of the node. ``endpoints`` are by the type of their scope: ``websocket`` or ``http``."""

    endpoints: Mapping[str, AsgiEndpoint]
    queue: HandshakeQueue
    handshake_timeout_s: float
    refusals: Refusals
    counters: Counters
