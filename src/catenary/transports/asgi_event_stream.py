"""Event streams in another ASGI server (the host): those of ``event_stream.py``, sent as events of ASGI.

Source: ASGI 3.0, https://asgi.readthedocs.io/en/latest/specs/www.html#http.
Knows: ASGI. Does not know: how the host writes a response, what the events mean.
"""

import asyncio
from collections.abc import Iterable
from typing import Final

import msgspec
from starlette.types import Message, Receive, Scope, Send

from catenary.edge.request import Peer
from catenary.errors import RequestRefused
from catenary.messages.environment import AsgiEnvironment
from catenary.transports.asgi_responses import refusal, response_start
from catenary.transports.asgi_transport import AsgiTransport
from catenary.transports.event_stream import EventStream, StreamServices
from catenary.transports.event_stream_requests import AcceptedRequest
from catenary.transports.http_responses import BriefResponse, Headers
from catenary.wire.event_stream import HEADERS, UNTIL_CLOSED
from catenary.wire.http1 import RequestHead
from catenary.wire.request_bodies import UnframedBody

_END: Final = {"type": "http.response.body", "body": b"", "more_body": False}


class AsgiEventStreamEndpoint:
    """Satisfies :class:`catenary.transports.asgi_edge.AsgiEndpoint`."""

    __slots__ = ("_services",)

    def __init__(self, services: StreamServices) -> None:
        self._services = services

    def open(
        self, request: RequestHead, peer: Peer, scope: Scope, receive: Receive, send: Send
    ) -> "AsgiEventStream | AsgiBriefResponse":
        accepted = self._services.requests.accept(request, peer)
        if isinstance(accepted, BriefResponse):
            return AsgiBriefResponse(accepted, send)
        environment = AsgiEnvironment.of(accepted.admitted.environment, scope)
        admitted = msgspec.structs.replace(accepted.admitted, environment=environment)
        accepted = msgspec.structs.replace(accepted, admitted=admitted)
        return AsgiEventStream(self._services, accepted, receive, send)


class AsgiEventStream:
    """Satisfies :class:`catenary.transports.asgi_edge.AsgiClient`."""

    __slots__ = ("_close_timeout_s", "_receive", "_transport", "stream")

    def __init__(
        self, services: StreamServices, accepted: AcceptedRequest, receive: Receive, send: Send
    ) -> None:
        self._receive = receive
        self._close_timeout_s = services.limits.close_timeout_s
        self._transport = AsgiTransport(send, self, _events, last=_END)
        response = _AsgiResponseWriter(self._transport)
        # The host reports the end of the body.
        self.stream = EventStream(services, self._transport, accepted, response, UnframedBody())

    async def serve(self) -> None:
        try:
            self.stream.begin(b"")
            await self._transport.until_ended(self._listen)
        except asyncio.CancelledError:
            # A host that stops cancels requests that do not end in time.
            self.stream.shutdown()
            await self._transport.flush(self._close_timeout_s)
            raise
        finally:
            self.stream.lost(None)
            await self._transport.stop()

    async def _listen(self) -> None:
        """Reads events until the client has left."""
        while True:
            event = await self._receive()
            if event["type"] != "http.request":
                return
            self.stream.receive(event.get("body", b""))
            if not event.get("more_body", False):
                self.stream.end_body()

    def shutdown(self) -> None:
        self.stream.shutdown()

    # Called by the transport

    def pause_writing(self) -> None:
        self.stream.pause_writing()

    def resume_writing(self) -> None:
        self.stream.resume_writing()


class _AsgiResponseWriter:
    """Satisfies :class:`catenary.transports.event_stream.ResponseWriter`."""

    __slots__ = ("_transport", "framing")

    def __init__(self, transport: AsgiTransport) -> None:
        self._transport = transport
        self.framing = UNTIL_CLOSED

    def accept(self, headers: Headers, events: bytes) -> None:
        self._transport.send(response_start(200, (*HEADERS, *headers)))
        self._transport.write(events)

    def refuse(self, refused: RequestRefused) -> None:
        for event in refusal(refused):
            self._transport.send(event)


class AsgiBriefResponse:
    """Satisfies :class:`catenary.transports.asgi_edge.AsgiClient`: sends one response."""

    __slots__ = ("_response", "_send")

    def __init__(self, response: BriefResponse, send: Send) -> None:
        self._response = response
        self._send = send

    async def serve(self) -> None:
        await self._send(response_start(self._response.status, self._response.headers))
        await self._send(_END)

    def shutdown(self) -> None:
        """Does nothing: the response is being sent already."""


def _events(batch: bytes) -> Iterable[Message]:
    yield {"type": "http.response.body", "body": batch, "more_body": True}
