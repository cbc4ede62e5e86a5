"""The endpoint of event streams in HTTP/1.1.

Knows: HTTP/1.1, requests for event streams. Does not know: admission, the meaning of events.
"""

import asyncio
from http import HTTPStatus
from typing import Final

from catenary.edge.connection import ClientConnection
from catenary.edge.request import Peer
from catenary.errors import RequestRefused
from catenary.transports.event_stream import EventStream, StreamServices
from catenary.transports.event_stream_requests import BriefResponse, Headers, with_headers
from catenary.wire.event_stream import CHUNKED, UNTIL_CLOSED, EventFraming, response_head
from catenary.wire.http1 import RequestHead, refusal


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
            return BriefResponseStage(transport, _head(accepted))
        body_bytes = 0
        if accepted.commands is None:
            try:
                body_bytes = _body_bytes(request, self._services.limits.max_body_bytes)
            except RequestRefused as refused:
                raise with_headers(refused, accepted.cors) from refused
        framing = UNTIL_CLOSED if request.is_http_1_0 else CHUNKED
        response = _Http1ResponseWriter(transport, framing)
        return EventStream(self._services, transport, accepted, response, body_bytes)


def _body_bytes(request: RequestHead, limit: int) -> int:
    """Raises :class:`RequestRefused`: 411 without a length, 413 beyond the limit."""
    length = request.headers.get("content-length", "0")
    if "transfer-encoding" in request.headers:
        raise RequestRefused(411, "expected a body with Content-Length")
    if not length.isascii() or not length.isdecimal():
        raise RequestRefused(400, "expected a number in Content-Length")
    if len(length) > 18 or int(length) > limit:
        raise RequestRefused(413, f"expected a body of up to {limit} bytes")
    return int(length)


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


def _head(response: BriefResponse) -> bytes:
    lines = [
        f"HTTP/1.1 {response.status} {HTTPStatus(response.status).phrase}",
        *(f"{name}: {value}" for name, value in response.headers),
        "Connection: close",
    ]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


class BriefResponseStage:
    """Satisfies :class:`catenary.edge.connection.Stage`: writes one response and closes the connection."""

    __slots__ = ("_response", "_transport")

    is_client: Final = False

    def __init__(self, transport: asyncio.WriteTransport, response: bytes) -> None:
        self._transport = transport
        self._response = response

    def begin(self, rest: bytes) -> None:
        self._transport.write(self._response)
        self._transport.close()

    def receive(self, data: bytes) -> None:
        """Does nothing: no further request is served."""

    def eof(self) -> bool:
        return False

    def pause_writing(self) -> None:
        """Does nothing: the response is short."""

    def resume_writing(self) -> None:
        """See :meth:`pause_writing`."""

    def lost(self, exc: Exception | None) -> None:
        """Does nothing."""

    def shutdown(self) -> None:
        self._transport.close()
