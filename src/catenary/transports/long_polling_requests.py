"""Reads the heads of long-polling requests: those that open a session, and those with the id of one.

Used on own ports and in another ASGI server. Source: docs/long_polling.md (anycable).
Knows: HTTP requests, CORS, admission. Does not know: connections, sessions.
"""

from typing import Final

import msgspec

from catenary.auth.origins import Origins
from catenary.edge.admission import Admission, Admitted
from catenary.edge.request import Peer, requester_of
from catenary.errors import RequestRefused
from catenary.messages.environment import Requester
from catenary.messages.heartbeat import Heartbeat
from catenary.protocols.long_polling import (
    ACTION_CABLE_POLLS,
    POLL_ID,
    RESPONSE_NUMBER,
    received_number,
)
from catenary.transports.http_responses import BriefResponse, CrossOrigin, Headers, with_headers
from catenary.transports.polls import PollResponse
from catenary.wire.http1 import RequestHead

METHODS: Final = "POST, OPTIONS"

_PREFLIGHT_AGE_S: Final = 7200
"""How long a page may remember the response to a preflight: Chromium's maximum."""

_ALLOWED_HEADERS: Final = (
    "Origin",
    "X-Requested-With",
    "X-Request-ID",
    "Content-Type",
    "Accept",
    "X-CSRF-Token",
    "Authorization",
    "X-Anycable-Restore-Sid",
)

_NO_CACHE: Final = (("Cache-Control", "no-store"), ("X-Content-Type-Options", "nosniff"))
_CONTENT_TYPE: Final = ("Content-Type", "application/jsonl; charset=utf-8")


class AcceptedPoll(msgspec.Struct, frozen=True):
    """A request that may be served. ``admitted`` is set if it opens a session; otherwise ``poll_id`` is its session, and
    ``received`` the number of the last response that the client has received, None if it does not say. ``cors`` are headers
    of every response to it."""

    cors: Headers
    requester: Requester
    admitted: Admitted | None = None
    poll_id: str = ""
    received: int | None = None


class PollRequests:
    """Reads the requests of one endpoint. Pages of the origins ``pages`` may send them and read the responses (CORS);
    ``token_header`` is one more header that they may send, "" for none."""

    __slots__ = ("_admission", "_cross_origin", "_pages")

    def __init__(self, admission: Admission, pages: Origins, token_header: str) -> None:
        self._admission = admission
        self._pages = pages
        own = (POLL_ID, RESPONSE_NUMBER)
        allowed = (*_ALLOWED_HEADERS, *own, *filter(None, (token_header,)))
        self._cross_origin = CrossOrigin(pages, METHODS, allowed, exposed=own)

    def accept(self, request: RequestHead, peer: Peer) -> AcceptedPoll | BriefResponse:
        """Checks and reads a request. Raises :class:`RequestRefused`."""
        origin = request.headers.get("origin", "")
        cors = self._cross_origin.headers(origin)
        if request.method == "OPTIONS":
            age = ("Access-Control-Max-Age", str(_PREFLIGHT_AGE_S))
            return BriefResponse(204, (("Allow", METHODS), *((*cors, age) if cors else ())))
        try:
            return self._accept(request, peer, origin, cors)
        except RequestRefused as refused:
            raise with_headers(refused, cors) from refused

    def _accept(self, request: RequestHead, peer: Peer, origin: str, cors: Headers) -> AcceptedPoll:
        if request.method != "POST":
            allow = (("Allow", METHODS),)
            raise RequestRefused(405, f"expected {METHODS}, got {request.method[:20]}", allow)
        poll_id = request.headers.get(POLL_ID.lower(), "")
        if poll_id:
            if not self._pages.allow(origin):
                raise RequestRefused(403, "expected an allowed origin")
            received = received_number(request.headers.get(RESPONSE_NUMBER.lower(), ""))
            return AcceptedPoll(
                cors, requester_of(request, peer), poll_id=poll_id, received=received
            )
        admitted = self._admission.admit(request, peer, ACTION_CABLE_POLLS)
        # Without pings, whatever the query asks for: each would end a poll.
        traits = msgspec.structs.replace(admitted.traits, heartbeat=Heartbeat(0))
        return AcceptedPoll(
            cors, requester_of(request, peer), msgspec.structs.replace(admitted, traits=traits)
        )

    def check_capacity(self) -> None:
        """Called again before the node admits the client. Raises :class:`RequestRefused` with 503."""
        self._admission.check_capacity()


def headers_of(response: PollResponse, cors: Headers) -> Headers:
    """The headers of a response; its content is ``response.messages``."""
    headers: Headers = (*_NO_CACHE, *cors)
    if response.number:
        headers = ((RESPONSE_NUMBER, str(response.number)), *headers)
    if response.poll_id:
        headers = ((POLL_ID, response.poll_id), *headers)
    if response.status == 204:
        return headers
    return (_CONTENT_TYPE, ("Content-Length", str(len(response.messages))), *headers)
