"""Where a server answers HTTP.

Knows: URLs. Does not know: what is asked there.
"""

import http.client
from typing import Final
from urllib.parse import urlsplit

import msgspec

from catenary.errors import ConfigError
from catenary.messages.lenient_json import reader
from catenary.wire.http1 import shown_location


class HttpAddress(msgspec.Struct, frozen=True):
    """A server, and the ``target`` of a request: its path with its query."""

    host: str
    port: int | None
    target: str
    is_encrypted: bool

    def connection(self, timeout_s: float) -> http.client.HTTPConnection:
        """One that opens with its first request."""
        kind = http.client.HTTPSConnection if self.is_encrypted else http.client.HTTPConnection
        return kind(self.host, self.port, timeout=timeout_s)


def http_address(url: str, what: str) -> HttpAddress:
    """Reads the URL of ``what``. Raises :class:`ConfigError`, without what it may hold of secrets."""
    expected = f"expected the URL of {what}, http://HOST:PORT/PATH"
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise ConfigError(expected) from None
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ConfigError(f"{expected}, got {parts.scheme or 'none'}://…")
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return HttpAddress(parts.hostname, port, target, parts.scheme == "https")


class _Refusal(msgspec.Struct):
    error: str = ""


_read_refusal: Final = reader(_Refusal)


def reason_of(response: http.client.HTTPResponse) -> str:
    """Why a server refuses, as far as it says so, or where it redirects to. Reads the body."""
    body = response.read()
    location = response.getheader("Location")
    if location and 300 <= response.status < 400:
        return f"redirected to {shown_location(location)}"
    try:
        return _read_refusal(body).error
    except msgspec.DecodeError:
        return ""
