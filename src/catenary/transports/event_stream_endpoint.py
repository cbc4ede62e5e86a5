"""Event streams on the paths of one endpoint: answers requests in HTTP/1.1.

Knows: HTTP/1.1, requests for event streams. Does not know: admission, what a stream carries.
"""

import asyncio
from http import HTTPStatus
from typing import Final

from catenary.edge.connection import ClientConnection
from catenary.edge.request import Peer
from catenary.errors import RequestRefused
from catenary.transports.event_stream import EventStream, StreamServices
from catenary.transports.event_stream_requests import BriefAnswer, Headers, with_headers
from catenary.wire.event_stream import CHUNKED, UNTIL_CLOSED, EventFraming, response_head
from catenary.wire.http1 import Request, refusal


class EventStreamEndpoint:
    """Satisfies :class:`catenary.edge.routes.Endpoint`."""

    __slots__ = ("_services",)

    def __init__(self, services: StreamServices) -> None:
        self._services = services

    def open(
        self, request: Request, peer: Peer, connection: ClientConnection
    ) -> "EventStream | BriefStage":
        plan = self._services.requests.plan(request, peer)
        transport = connection.transport
        if isinstance(plan, BriefAnswer):
            return BriefStage(transport, _head(plan))
        body_bytes = 0
        if plan.commands is None:
            try:
                body_bytes = _body_bytes(request, self._services.limits.max_body_bytes)
            except RequestRefused as refused:
                raise with_headers(refused, plan.cors) from refused
        framing = UNTIL_CLOSED if request.is_http_1_0 else CHUNKED
        answer = _Http1Answer(transport, framing)
        return EventStream(self._services, transport, plan, answer, body_bytes)


def _body_bytes(request: Request, limit: int) -> int:
    """Raises :class:`RequestRefused`: 411 without a length, 413 beyond the limit."""
    length = request.headers.get("content-length", "0")
    if "transfer-encoding" in request.headers:
        raise RequestRefused(411, "expected a body with Content-Length")
    if not length.isascii() or not length.isdecimal():
        raise RequestRefused(400, "expected a number in Content-Length")
    if len(length) > 18 or int(length) > limit:
        raise RequestRefused(413, f"expected a body of up to {limit} bytes")
    return int(length)


class _Http1Answer:
    """Satisfies :class:`catenary.transports.event_stream.Answer`."""

    __slots__ = ("_transport", "framing")

    def __init__(self, transport: asyncio.WriteTransport, framing: EventFraming) -> None:
        self._transport = transport
        self.framing = framing

    def accept(self, headers: Headers, events: bytes) -> None:
        self._transport.write(response_head(self.framing, headers) + events)

    def refuse(self, refused: RequestRefused) -> None:
        self._transport.write(refusal(refused))


def _head(answer: BriefAnswer) -> bytes:
    lines = [
        f"HTTP/1.1 {answer.status} {HTTPStatus(answer.status).phrase}",
        *(f"{name}: {value}" for name, value in answer.headers),
        "Connection: close",
    ]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


class BriefStage:
    """Satisfies :class:`catenary.edge.connection.Stage`: writes one answer and closes."""

    __slots__ = ("_answer", "_transport")

    is_client: Final = False

    def __init__(self, transport: asyncio.WriteTransport, answer: bytes) -> None:
        self._transport = transport
        self._answer = answer

    def begin(self, rest: bytes) -> None:
        self._transport.write(self._answer)
        self._transport.close()

    def receive(self, data: bytes) -> None:
        """Nothing more is answered."""

    def eof(self) -> bool:
        return False

    def pause_writing(self) -> None:
        """It is as short as an answer can be."""

    def resume_writing(self) -> None:
        """See :meth:`pause_writing`."""

    def lost(self, exc: Exception | None) -> None:
        """Nothing was kept."""

    def shutdown(self) -> None:
        self._transport.close()
