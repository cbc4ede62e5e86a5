"""The endpoint of event streams in HTTP/1.1.

Knows: HTTP/1.1, requests for event streams. Does not know: admission, the meaning of events.
"""

import asyncio

from catenary.edge.connection import ClientConnection
from catenary.edge.request import Peer
from catenary.errors import RequestRefused
from catenary.transports.brief_response import BriefResponseStage
from catenary.transports.event_stream import EventStream, StreamServices
from catenary.transports.http_responses import BriefResponse, Headers, with_headers
from catenary.wire.event_stream import CHUNKED, UNTIL_CLOSED, EventFraming, response_head
from catenary.wire.http1 import RequestHead, refusal
from catenary.wire.request_bodies import BodyReader, SizedBody, body_of


class EventStreamEndpoint:
    """Satisfies :class:`catenary.edge.routes.Endpoint`."""

    __slots__ = ("_services",)

    def __init__(self, services: StreamServices) -> None:
        self._services = services

    def open(
        self, request: RequestHead, peer: Peer, connection: ClientConnection
    ) -> "EventStream | BriefResponseStage":
        accepted = self._services.requests.accept(request, peer)
        transport = connection.transport
        if isinstance(accepted, BriefResponse):
            return BriefResponseStage(transport, accepted)
        body: BodyReader = SizedBody(0)
        if accepted.commands is None:
            try:
                body = body_of(request, self._services.bodies.max_bytes)
            except RequestRefused as refused:
                raise with_headers(refused, accepted.cors) from refused
        framing = UNTIL_CLOSED if request.is_http_1_0 else CHUNKED
        response = _Http1ResponseWriter(transport, framing)
        return EventStream(self._services, transport, accepted, response, body)


class _Http1ResponseWriter:
    """Satisfies :class:`catenary.transports.event_stream.ResponseWriter`."""

    __slots__ = ("_transport", "framing")

    def __init__(self, transport: asyncio.WriteTransport, framing: EventFraming) -> None:
        self._transport = transport
        self.framing = framing

    def accept(self, headers: Headers, events: bytes) -> None:
        self._transport.write(response_head(self.framing, headers) + events)

    def refuse(self, refused: RequestRefused) -> None:
        self._transport.write(refusal(refused))
