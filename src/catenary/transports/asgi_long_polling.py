"""Long polling in another ASGI server (the host): requests to its path below the mount of the cable.

Source: ASGI 3.0, https://asgi.readthedocs.io/en/latest/specs/www.html#http.
Knows: ASGI. Does not know: how the host writes a response, what the messages mean.
"""

import asyncio
from collections.abc import Sequence

import msgspec
from starlette.types import Message, Receive, Scope, Send

from catenary.edge.refusals import unavailable
from catenary.edge.request import Peer
from catenary.errors import RequestRefused
from catenary.messages.environment import AsgiEnvironment
from catenary.transports.asgi_event_stream import AsgiBriefResponse
from catenary.transports.asgi_responses import refusal, response_start
from catenary.transports.http_responses import BriefResponse, with_headers
from catenary.transports.long_polling_endpoint import PollServices
from catenary.transports.long_polling_requests import AcceptedPoll, headers_of
from catenary.transports.polls import PollHolder, PollResponse
from catenary.transports.request_body import RequestBody
from catenary.wire.http1 import RequestHead
from catenary.wire.request_bodies import UnframedBody


class AsgiLongPollingEndpoint:
    """Satisfies :class:`catenary.transports.asgi_edge.AsgiEndpoint`."""

    __slots__ = ("_services",)

    def __init__(self, services: PollServices) -> None:
        self._services = services

    def open(
        self, request: RequestHead, peer: Peer, scope: Scope, receive: Receive, send: Send
    ) -> "AsgiPoll | AsgiBriefResponse":
        accepted = self._services.requests.accept(request, peer)
        if isinstance(accepted, BriefResponse):
            return AsgiBriefResponse(accepted, send)
        if accepted.admitted is not None:
            environment = AsgiEnvironment.of(accepted.admitted.environment, scope)
            admitted = msgspec.structs.replace(accepted.admitted, environment=environment)
            accepted = msgspec.structs.replace(accepted, admitted=admitted)
        return AsgiPoll(self._services, accepted, receive, send)


class AsgiPoll:
    """Satisfies :class:`catenary.transports.asgi_edge.AsgiClient` and :class:`catenary.transports.polls.Poll`."""

    __slots__ = ("_accepted", "_is_gone", "_receive", "_response", "_send", "_services", "_session")

    def __init__(
        self, services: PollServices, accepted: AcceptedPoll, receive: Receive, send: Send
    ) -> None:
        self._services = services
        self._accepted = accepted
        self._receive = receive
        self._send = send
        self._session: PollHolder | None = None
        self._is_gone = False
        # The events of the response; none if the client has left before it
        self._response: asyncio.Future[Sequence[Message]] = (
            asyncio.get_running_loop().create_future()
        )

    async def serve(self) -> None:
        listening = asyncio.create_task(self._listen())
        is_written = False
        try:
            response = await self._response
            # Hosts drop the response to a client that has left: another turn notices that.
            await asyncio.sleep(0)
            if not self._is_gone:
                for event in response:
                    await self._send(event)
                is_written = True
        except OSError:
            """The host's error for a client that has left."""
        finally:
            listening.cancel()
            session, self._session = self._session, None
            if session is not None and is_written:
                session.delivered(self)
            elif session is not None:
                session.lost(self)
            await asyncio.wait([listening])

    async def _listen(self) -> None:
        """Reads the body, and then waits until the client leaves."""
        body = RequestBody(self._services.bodies, UnframedBody(), self._begin, self._refuse)
        try:
            while (event := await self._receive())["type"] == "http.request":
                body.receive(event.get("body", b""))
                if not event.get("more_body", False):
                    body.end()
            self._is_gone = True
            self._finish(())
        finally:
            body.close()

    def _begin(self, body: bytes) -> None:
        try:
            self._session = self._services.begin(self._accepted, self, body)
        except RequestRefused as refused:
            self._refuse(refused)

    def answer(self, response: PollResponse) -> None:
        headers = headers_of(response, self._accepted.cors)
        content = {"type": "http.response.body", "body": response.messages, "more_body": False}
        self._finish((response_start(response.status, headers), content))

    def is_unread(self) -> bool:
        """The host has the connection: what it has taken counts as delivered, and is reported."""
        return True

    def _refuse(self, refused: RequestRefused) -> None:
        self._services.refusals.note(refused, self._accepted.requester)
        self._finish(refusal(with_headers(refused, self._accepted.cors)))

    def _finish(self, events: Sequence[Message]) -> None:
        if not self._response.done():
            self._response.set_result(events)

    def shutdown(self) -> None:
        if self._session is not None:
            self._session.shutdown()
        else:
            self._refuse(unavailable("the server is shutting down"))
