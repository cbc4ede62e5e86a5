"""The address of an HTTP server, read from a URL.

Knows: URLs, connections. Does not know: what is requested.
"""

import http.client
from typing import Final

import msgspec

from catenary.config.urls import http_url
from catenary.errors import ConfigError
from catenary.messages.lenient_json import reader
from catenary.wire.http1 import shown_location


class HttpAddress(msgspec.Struct, frozen=True):
    """A server, and the ``target`` of a request: its path and query.

    ``authorization`` is made of the user and password in the URL; empty if there are none.
    """

    host: str
    port: int
    target: str
    is_encrypted: bool
    authorization: str = ""

    def __str__(self) -> str:
        """The URL for logs: without the query, which may contain a secret."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        path = self.target.partition("?")[0]
        return f"http{'s' if self.is_encrypted else ''}://{host}:{self.port}{path}"

    def connection(self, timeout_s: float) -> http.client.HTTPConnection:
        """A connection that opens with its first request."""
        kind = http.client.HTTPSConnection if self.is_encrypted else http.client.HTTPConnection
        return kind(self.host, self.port, timeout=timeout_s)

    def headers(self, authorization: bytes | str) -> dict[str, bytes | str]:
        """The Authorization header: the given value, or the user of the URL."""
        shown = authorization or self.authorization
        return {"Authorization": shown} if shown else {}


def http_address(url: str, what: str) -> HttpAddress:
    """Reads the URL of ``what``. Raises :class:`ConfigError`, whose text contains no secrets."""
    try:
        found = http_url(url)
    except ValueError as error:
        raise ConfigError(f"expected the URL of {what}, http://HOST:PORT/PATH, {error}") from None
    return HttpAddress(
        found.host, found.port, found.target, found.is_encrypted, found.authorization
    )


class _Refusal(msgspec.Struct):
    error: str = ""


_read_refusal: Final = reader(_Refusal)


def reason_of(response: http.client.HTTPResponse) -> str:
    """Why a server refused a request, if it says so, or where it redirects. Reads the body."""
    body = response.read()
    location = response.getheader("Location")
    if location and 300 <= response.status < 400:
        return f"redirected to {shown_location(location)}"
    try:
        return _read_refusal(body).error
    except msgspec.DecodeError:
        return ""
