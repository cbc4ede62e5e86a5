"""The endpoint of Durable Streams in HTTP/1.1: each request is a read or a write of one stream, on a stage of its own.

Source: PROTOCOL.md of durable-streams/durable-streams, section 5.
Knows: HTTP/1.1, connections. Does not know: histories, how a request is read.
"""

import functools

from catenary.edge.connection import ClientConnection
from catenary.edge.publish_limit import PublishLimit
from catenary.edge.request import Peer
from catenary.transports.brief_response import BriefResponseStage
from catenary.transports.durable_stream import ReadServices, StreamRead
from catenary.transports.durable_stream_writes import OpenedWrite, StreamWrite, WriteServices
from catenary.transports.http_responses import BriefResponse
from catenary.transports.next_request import NextRequest, keeps_connection
from catenary.wire.http1 import RequestHead


class DurableStreamEndpoint:
    """Satisfies :class:`catenary.edge.routes.Endpoint`."""

    __slots__ = ("_limit", "_services", "_writes")

    def __init__(
        self,
        services: ReadServices,
        writes: WriteServices | None = None,
        limit: PublishLimit | None = None,
    ) -> None:
        """``limit`` is that of writers, as for all publishers."""
        self._services = services
        self._limit = limit
        self._writes = writes

    def open(
        self, request: RequestHead, peer: Peer, connection: ClientConnection
    ) -> "StreamRead | StreamWrite | BriefResponseStage":
        accepted = self._services.requests.accept(request, peer)
        if isinstance(accepted, BriefResponse):
            return BriefResponseStage(connection.transport, accepted)
        following = NextRequest(connection, is_expected=keeps_connection(request))
        if isinstance(accepted, OpenedWrite):
            assert self._writes is not None, "accepted only where streams can be written"
            charge = None
            if self._limit is not None:
                self._limit.check(peer.address)
                charge = functools.partial(self._limit.charge, peer.address)
            return StreamWrite(self._writes, connection.transport, accepted, following, charge)
        return StreamRead(self._services, connection.transport, accepted, following)
