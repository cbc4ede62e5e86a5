"""Responses of client endpoints over HTTP: their CORS headers, responses without content, statuses of ended sessions.

Source: WHATWG Fetch, section 3.2 (CORS protocol). Knows: headers, statuses. Does not know: connections.
"""

from collections.abc import Sequence
from http import HTTPStatus
from typing import Final

import msgspec

from catenary.auth.origins import Origins
from catenary.errors import RequestRefused
from catenary.messages.reasons import Reason

Headers = tuple[tuple[str, str], ...]

_STATUSES: Final = {
    Reason.AUTH_FAILED: 401,
    Reason.UNAUTHORIZED: 401,
    Reason.TOKEN_EXPIRED: 401,
    Reason.AUTH_ERROR: 503,
    Reason.SERVER_RESTART: 503,
    Reason.REMOTE: 403,
    Reason.TOO_MANY_CONNECTIONS: 429,
    Reason.TOO_MANY_COMMANDS: 429,
}


def status_of(reason: Reason) -> int:
    """The status of a response if the session ends before the response begins; 400 for reasons without one of their own."""
    return _STATUSES.get(reason, 400)


class BriefResponse(msgspec.Struct, frozen=True):
    """A response without content, to a request that connects no client."""

    status: int
    headers: Headers


class CrossOrigin:
    """Lets pages of the origins ``pages`` send requests with some ``methods`` and ``allowed`` headers, and read the
    ``exposed`` headers of the responses."""

    __slots__ = ("_fixed", "_pages")

    def __init__(
        self, pages: Origins, methods: str, allowed: Sequence[str], exposed: Sequence[str] = ()
    ) -> None:
        self._pages = pages
        expose = (("Access-Control-Expose-Headers", ", ".join(exposed)),) if exposed else ()
        self._fixed: Headers = (
            ("Access-Control-Allow-Methods", methods),
            ("Access-Control-Allow-Headers", ", ".join(allowed)),
            *expose,
            ("Vary", "Origin"),
        )

    def headers(self, origin: str) -> Headers:
        """Headers of the response to a page; none without an ``origin``."""
        if not origin:
            return ()
        if not self._pages.allow(origin):
            return self._fixed
        # Not *, because then browsers send no cookies.
        return (
            ("Access-Control-Allow-Origin", origin),
            ("Access-Control-Allow-Credentials", "true"),
            *self._fixed,
        )


def with_headers(refused: RequestRefused, headers: Headers) -> RequestRefused:
    """The same refusal with more headers."""
    return RequestRefused(refused.status, str(refused), (*refused.headers, *headers))


def response_head(status: int, headers: Headers) -> bytes:
    """The head of a response in HTTP/1.1."""
    lines = [
        f"HTTP/1.1 {status} {HTTPStatus(status).phrase}",
        *(f"{name}: {value}" for name, value in headers),
    ]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")
