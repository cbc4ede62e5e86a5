"""Reads requests for event streams: GET and POST connect clients, HEAD and OPTIONS get a brief response.

Used on own ports and in another ASGI server. Source: docs/sse.md (anycable/anycable).
Knows: HTTP requests, CORS, admission. Does not know: connections, how a response is sent.
"""

from collections.abc import Sequence
from typing import Final

import msgspec

from catenary.auth.origins import Origins
from catenary.edge.admission import Admission, Admitted
from catenary.edge.request import Peer
from catenary.errors import RequestRefused
from catenary.messages.commands import Command
from catenary.ports import Goodbye
from catenary.protocols import event_stream
from catenary.protocols.table import ClientProtocol
from catenary.transports.http_responses import (
    BriefResponse,
    CrossOrigin,
    Headers,
    status_of,
    with_headers,
)
from catenary.wire.event_stream import HEADERS
from catenary.wire.http1 import RequestHead
from catenary.wire.retry_after import retry_after

METHODS: Final = "GET, HEAD, POST, OPTIONS"

_ALLOWED_HEADERS: Final = (
    "Origin",
    "X-Requested-With",
    "X-Request-ID",
    "Content-Type",
    "Accept",
    "X-CSRF-Token",
    "Authorization",
    "Last-Event-ID",
)


class AcceptedRequest(msgspec.Struct, frozen=True):
    """The request of a client that may connect. With ``commands`` None, they are in the body. ``cors`` are headers of every
    response to it."""

    admitted: Admitted
    protocol: ClientProtocol
    commands: Sequence[Command] | None
    cors: Headers


class EventStreamRequests:
    """Reads the requests of one endpoint. Pages of the origins ``pages`` may read the responses (CORS)."""

    __slots__ = ("_admission", "_cross_origin")

    def __init__(self, admission: Admission, pages: Origins) -> None:
        self._admission = admission
        self._cross_origin = CrossOrigin(pages, METHODS, _ALLOWED_HEADERS)

    def accept(self, request: RequestHead, peer: Peer) -> AcceptedRequest | BriefResponse:
        """Checks and reads a request. Raises :class:`RequestRefused`."""
        cors = self._cross_origin.headers(request.headers.get("origin", ""))
        if request.method == "OPTIONS":
            return BriefResponse(204, (("Allow", METHODS), *cors))
        if request.method == "HEAD":
            is_asking = event_stream.is_subscription(request.query)
            return BriefResponse(200, (*HEADERS, *cors)) if is_asking else BriefResponse(400, cors)
        try:
            return self._accept(request, peer, cors)
        except RequestRefused as refused:
            raise with_headers(refused, cors) from refused

    def _accept(self, request: RequestHead, peer: Peer, cors: Headers) -> AcceptedRequest:
        commands: Sequence[Command] | None
        if request.method == "GET":
            last_event_id = request.headers.get("last-event-id", "")
            protocol, subscribe = event_stream.read_subscription(request.query, last_event_id)
            commands = (subscribe,)
        elif request.method == "POST":
            protocol, commands = event_stream.WHOLE_MESSAGES, None
        else:
            allow = (("Allow", METHODS),)
            raise RequestRefused(405, f"expected {METHODS}, got {request.method[:20]}", allow)
        return AcceptedRequest(
            self._admission.admit(request, peer, protocol), protocol, commands, cors
        )

    def check_capacity(self) -> None:
        """Called again if the node admits the client later. Raises :class:`RequestRefused` with 503."""
        self._admission.check_capacity()


def refusal_of(goodbye: Goodbye) -> RequestRefused:
    """The response to a client whose session ends before its response begins."""
    status = status_of(goodbye.reason)
    return RequestRefused(status, goodbye.text, retry_after() if status in (429, 503) else ())
