"""Requests for event streams: which are answered at once, and what the others ask for.

The same for a port of our own and inside another ASGI server. Source: docs/sse.md (anycable/anycable).
Knows: HTTP requests, CORS, admission. Does not know: connections, how an answer is sent.
"""

from collections.abc import Sequence
from typing import Final

import msgspec

from catenary.auth.origins import Origins
from catenary.edge.admission import Admission, Admitted
from catenary.edge.request import Peer
from catenary.errors import RequestRefused
from catenary.messages.commands import Command
from catenary.messages.reasons import Reason
from catenary.ports import Goodbye
from catenary.protocols import event_stream
from catenary.protocols.table import ClientProtocol
from catenary.wire.event_stream import HEADERS
from catenary.wire.http1 import Request

Headers = tuple[tuple[str, str], ...]

METHODS: Final = "GET, HEAD, POST, OPTIONS"

_ALLOWED_HEADERS: Final = "Origin, X-Requested-With, X-Request-ID, Content-Type, Accept, X-CSRF-Token, Authorization, Last-Event-ID"

_STATUSES: Final = {
    Reason.AUTH_FAILED: 401,
    Reason.UNAUTHORIZED: 401,
    Reason.TOKEN_EXPIRED: 401,
    Reason.AUTH_ERROR: 503,
    Reason.SERVER_RESTART: 503,
    Reason.REMOTE: 403,
}
"""Statuses of sessions that end before their response begins; 400 for any other reason."""


class Plan(msgspec.Struct, frozen=True):
    """A client that may connect. ``commands`` None: they are in the body of the request. ``cors`` are headers
    for every answer to it."""

    admitted: Admitted
    protocol: ClientProtocol
    commands: Sequence[Command] | None
    cors: Headers


class BriefAnswer(msgspec.Struct, frozen=True):
    """An answer without content, which connects no client."""

    status: int
    headers: Headers


class EventStreamRequests:
    """Reads requests for one endpoint. ``pages`` are the origins whose pages may read the answers (CORS)."""

    __slots__ = ("_admission", "_pages")

    def __init__(self, admission: Admission, pages: Origins) -> None:
        self._admission = admission
        self._pages = pages

    def plan(self, request: Request, peer: Peer) -> Plan | BriefAnswer:
        """What a request asks for. Raises :class:`RequestRefused`."""
        cors = self._cors(request.headers.get("origin", ""))
        if request.method == "OPTIONS":
            return BriefAnswer(204, (("Allow", METHODS), *cors))
        if request.method == "HEAD":
            is_asking = event_stream.asks_for_a_subscription(request.query)
            return BriefAnswer(200, (*HEADERS, *cors)) if is_asking else BriefAnswer(400, cors)
        try:
            return self._plan(request, peer, cors)
        except RequestRefused as refused:
            raise with_headers(refused, cors) from refused

    def _plan(self, request: Request, peer: Peer, cors: Headers) -> Plan:
        commands: Sequence[Command] | None
        if request.method == "GET":
            last_event_id = request.headers.get("last-event-id", "")
            protocol, subscribe = event_stream.subscription_asked(request.query, last_event_id)
            commands = (subscribe,)
        elif request.method == "POST":
            protocol, commands = event_stream.WHOLE_MESSAGES, None
        else:
            allow = (("Allow", METHODS),)
            raise RequestRefused(405, f"expected {METHODS}, got {request.method[:20]}", allow)
        return Plan(self._admission.admit(request, peer, protocol), protocol, commands, cors)

    def check_room(self) -> None:
        """To be asked again where time has passed since the plan. Raises :class:`RequestRefused` with 503."""
        self._admission.check_room()

    def _cors(self, origin: str) -> Headers:
        """Headers that let a page read the answer."""
        if not origin:
            return ()
        headers = (
            ("Access-Control-Allow-Methods", METHODS),
            ("Access-Control-Allow-Headers", _ALLOWED_HEADERS),
            ("Vary", "Origin"),
        )
        if not self._pages.allow(origin):
            return headers
        # Not *, with which browsers send no cookies.
        return (
            ("Access-Control-Allow-Origin", origin),
            ("Access-Control-Allow-Credentials", "true"),
            *headers,
        )


def with_headers(refused: RequestRefused, headers: Headers) -> RequestRefused:
    """The same refusal with more headers."""
    return RequestRefused(refused.status, str(refused), (*refused.headers, *headers))


def refusal_of(goodbye: Goodbye) -> RequestRefused:
    """The answer to a client whose session ends before its response begins."""
    return RequestRefused(_STATUSES.get(goodbye.reason, 400), goodbye.text)
