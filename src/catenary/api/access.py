"""Authorization of HTTP requests by method, key and origin, and the answers that all endpoints share.

Source: docs/broadcasting.md, "HTTP adapter", and docs/api.md (anycable).
Knows: methods, keys, origins. Does not know: what an endpoint does.
"""

from collections.abc import Iterable
from typing import Final

import msgspec
from starlette.types import Send

from catenary.auth.keys import BearerKey
from catenary.auth.origins import Origins

_CORS_HEADERS: Final = (
    "Origin, X-Requested-With, X-Request-ID, Content-Type, Accept, X-CSRF-Token, Authorization"
)


class ApiResponse(msgspec.Struct, frozen=True):
    """A status with a JSON body: the ``content``, or ``{"error": …}`` if there is an ``error``."""

    status: int
    error: str = ""
    content: bytes = b""
    headers: tuple[tuple[str, str], ...] = ()

    @property
    def body(self) -> bytes:
        return msgspec.json.encode({"error": self.error}) if self.error else self.content


class Access:
    """Access to an endpoint with one ``method``, or several with commas between them for CORS alone.

    With an empty ``key`` anyone may send requests; ``pages`` are the origins that browsers may call from (CORS), None for none.
    """

    __slots__ = ("_cors", "_method", "key", "pages")

    def __init__(self, method: str, *, key: str | BearerKey, pages: Origins | None) -> None:
        self._method = method
        self.key: Final = BearerKey(key) if isinstance(key, str) else key
        """May be shared by several endpoints, which then accept the same keys after a reload."""
        self.pages = pages
        self._cors = (
            ("access-control-allow-methods", f"{method}, OPTIONS"),
            ("access-control-allow-credentials", "true"),
            ("access-control-allow-headers", _CORS_HEADERS),
        )

    def check(self, method: str, authorization: str) -> ApiResponse | None:
        """The answer to a preflight or unauthorized request; None if the request is permitted."""
        if self.is_preflight(method):
            return ApiResponse(200)
        if method != self._method:
            return ApiResponse(422, f"expected {self._method}, got {method}")
        return self.authorize(authorization)

    def authorize(self, authorization: str) -> ApiResponse | None:
        """The answer to an unauthorized request, whatever its method; None if it is permitted."""
        if not self.key.matches(authorization):
            return ApiResponse(401, "expected Authorization: Bearer with the key")
        return None

    def is_preflight(self, method: str) -> bool:
        """Whether a browser asks if a page may send a request; never without ``pages``."""
        return self.pages is not None and method == "OPTIONS"

    def cors(self, origin: str) -> tuple[tuple[str, str], ...]:
        """The CORS headers of an answer to a page of this origin."""
        if self.pages is None:
            return ()
        if self.pages.is_open:
            return (*self._cors, ("access-control-allow-origin", "*"))
        if self.pages.allow(origin):
            return (*self._cors, ("access-control-allow-origin", origin), ("vary", "Origin"))
        return self._cors


async def send_answer(send: Send, answer: ApiResponse, headers: Iterable[tuple[str, str]]) -> None:
    """Sends an answer through ASGI."""
    body = answer.body
    fields = [("content-length", str(len(body)))]
    if body:
        fields.append(("content-type", "application/json"))
    fields += [*answer.headers, *headers]
    await send(
        {
            "type": "http.response.start",
            "status": answer.status,
            "headers": [(name.encode(), value.encode()) for name, value in fields],
        }
    )
    await send({"type": "http.response.body", "body": body})
