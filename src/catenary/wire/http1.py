"""Heads of HTTP/1.1 requests (RFC 9112), and the responses that refuse them.

Knows: the grammar of a request head. Does not know: bodies, the meaning of requests.
"""

import re
from collections.abc import Iterable
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import urlsplit

import msgspec

from catenary.errors import RequestRefused

END_OF_HEADERS: Final = b"\r\n\r\n"

MAX_HEADER_BYTES: Final = 65536
"""A longer head is refused with 431. Precedents: node.js 16 KB, nginx 32 KB, Go (the reference) 1 MB."""

MAX_HEADERS: Final = 128
"""Lines of a head. Precedents: Apache and Python's http.client 100, node.js 2,000. Browsers send about 15."""

# RFC 9110, section 5.6.2 (token) and RFC 9112, section 3 (request line).
_REQUEST_LINE = re.compile(r"([!#$%&'*+.^_`|~0-9A-Za-z-]+) ([!-~\x80-\xff]+) HTTP/([0-9]\.[0-9])\Z")
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+\Z")
# Names as browsers, clients and proxies spell them; these need no check.
_USUAL_NAMES: Final = {
    spelled: name.lower()
    for name in (
        "Accept",
        "Accept-Encoding",
        "Accept-Language",
        "Authorization",
        "Cache-Control",
        "Connection",
        "Cookie",
        "Host",
        "Origin",
        "Pragma",
        "Sec-Fetch-Dest",
        "Sec-Fetch-Mode",
        "Sec-Fetch-Site",
        "Sec-WebSocket-Extensions",
        "Sec-WebSocket-Key",
        "Sec-WebSocket-Protocol",
        "Sec-WebSocket-Version",
        "Upgrade",
        "User-Agent",
        "X-Forwarded-For",
        "X-Forwarded-Host",
        "X-Forwarded-Port",
        "X-Forwarded-Proto",
        "X-Real-IP",
        "X-Request-ID",
    )
    for spelled in (name, name.lower())
}
# RFC 9112, section 3.2.2. Credentials are dropped: RFC 9110, section 4.2.4.
_ABSOLUTE_FORM = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://(?:[^/?@]*@)?([^/?@]*)(.*)\Z", re.DOTALL)
# RFC 3986, sections 3.2.2 and 3.2.3.
_AUTHORITY = re.compile(
    r"(?:\[[0-9A-Fa-fv:.]+\]|[A-Za-z0-9._~!$&'()*+,;=%\x80-\xff-]+)(?::[0-9]{0,5})?\Z"
)
_FORBIDDEN_IN_VALUE = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")


def is_host(value: str) -> bool:
    """Whether this is the value of a header Host: an authority, or empty (RFC 9112, section 3.2)."""
    return not value or _AUTHORITY.match(value) is not None


class RequestHead(msgspec.Struct, frozen=True, gc=False):
    """The head of an HTTP request. Header names are in lower case; repeated ones are joined by a comma.

    ``target`` is in origin form, or it is ``*`` or an authority. If the target was an absolute URL, its authority
    replaces the header ``host`` and ``scheme`` is its scheme; otherwise ``scheme`` is empty. ``is_http_1_0``: the client
    uses HTTP/1.0, so its connection is closed after the response.
    """

    method: str
    target: str
    headers: dict[str, str]
    scheme: str = ""
    is_http_1_0: bool = False

    @property
    def path(self) -> str:
        return self.target.partition("?")[0]

    @property
    def query(self) -> str:
        return self.target.partition("?")[2]

    @property
    def expects_continue(self) -> bool:
        """Whether the client sends the body when the server has asked for it (RFC 9110, section 10.1.1)."""
        return (
            self.headers.get("expect", "").lower() == "100-continue"
            and ("content-length" in self.headers or "transfer-encoding" in self.headers)
            and not self.is_http_1_0
        )


CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"
"""Asks for the body of a request that ``expects_continue``."""


def read_request(head: bytes, max_headers: int = MAX_HEADERS) -> RequestHead:
    """Reads a head, the bytes before the empty line.

    Raises :class:`RequestRefused` with status 400 (grammar), 431 (too many headers) or 505 (HTTP
    version).
    """
    first, *lines = head.decode("latin-1").split("\r\n", max_headers + 1)
    words = first.split(" ")
    if len(lines) > max_headers:
        raise RequestRefused(431, f"expected up to {max_headers} headers")
    if len(words) == 3 and words[0] == "GET" and words[2] == "HTTP/1.1":
        target = words[1]
        if target.startswith("/") and target.isascii() and target.isprintable():
            return RequestHead("GET", target, _headers(lines))
    return _other_request(first, _headers(lines))


def _other_request(line: str, headers: dict[str, str]) -> RequestHead:
    """Reads a request with a method, target or version that browsers do not send. Raises :class:`RequestRefused`."""
    match = _REQUEST_LINE.match(line)
    if match is None:
        raise RequestRefused(400, "expected a request line: METHOD TARGET HTTP/1.1")
    # RFC 9110, section 2.5: a higher minor version is read as the highest that is known.
    if match[3][0] != "1":
        raise RequestRefused(505, "expected HTTP/1.1")
    is_http_1_0 = match[3] == "1.0"
    if is_http_1_0:
        headers.setdefault("host", "")
    scheme, authority, target = origin_form(match[2])
    if scheme and "host" in headers:
        headers["host"] = _text(authority)
    return RequestHead(match[1], _text(target), headers, scheme, is_http_1_0)


def origin_form(target: str) -> tuple[str, str, str]:
    """Scheme, authority and origin form of a target that is an absolute URL; for other targets, two empty texts and the
    target itself.

    A server must accept absolute URLs, and their authority overrides the header Host (RFC 9112, section 3.2.2). Raises
    :class:`RequestRefused` with 400.
    """
    if target.startswith("/"):
        return "", "", target
    match = _ABSOLUTE_FORM.match(target)
    if match is None:
        return "", "", target
    scheme, authority, rest = match.groups()
    if _AUTHORITY.match(authority) is None:
        raise RequestRefused(400, "expected a host in the URL of the request line")
    return scheme.lower(), authority, rest if rest.startswith("/") else f"/{rest}"


def _headers(lines: list[str]) -> dict[str, str]:
    """A fast path for the usual case: every line is NAME: VALUE in printable ASCII, and no name is repeated."""
    read: list[Any] = [_cached_lines.get(line) or _usual_line(line) for line in lines]
    if all(read):
        headers: dict[str, str] = dict(read)
        if len(headers) == len(read):
            return headers
    return _other_headers(lines)


def _usual_line(line: str) -> tuple[str, str] | None:
    """None if the line needs :func:`_other_headers`."""
    spelled, colon, value = line.partition(": ")
    name = _USUAL_NAMES.get(spelled)
    if name is None and _TOKEN.match(spelled) is not None:
        name = spelled.lower()
    if name is None or not colon or not (line.isascii() and line.isprintable()):
        return None
    read = (name, value.strip(" "))
    if name == "host" and not is_host(read[1]):
        return None
    if len(line) <= _CACHED_LINE_CHARS and _is_shared(*read):
        if len(_cached_lines) == _CACHED_LINES:
            del _cached_lines[next(iter(_cached_lines))]  # the oldest
        _cached_lines[line] = read
    return read


_SHARED_NAMES: Final = frozenset(
    {
        "accept-encoding",
        "accept-language",
        "cache-control",
        "connection",
        "host",
        "origin",
        "pragma",
        "sec-fetch-dest",
        "sec-fetch-mode",
        "sec-fetch-site",
        "sec-websocket-extensions",
        "sec-websocket-version",
        "upgrade",
        "user-agent",
    }
)
"""Headers whose lines are the same for many clients. Cookies, keys and addresses are never cached."""

_PUBLIC_OFFER: Final = re.compile(r"actioncable[a-z0-9-]*(?:, actioncable[a-z0-9-]*)*\Z")
"""Subprotocols without a token."""


def _is_shared(name: str, value: str) -> bool:
    if name == "sec-websocket-protocol":
        return _PUBLIC_OFFER.match(value) is not None
    return name in _SHARED_NAMES


_CACHED_LINES: Final = 256
_CACHED_LINE_CHARS: Final = 200
_cached_lines: Final[dict[str, tuple[str, str]]] = {}
"""Parsed lines: looking one up takes a fourth of the time of parsing it."""


def _other_headers(lines: list[str]) -> dict[str, str]:
    """Reads headers with repeated names, text that is not ASCII, or errors. Raises :class:`RequestRefused`."""
    fields = []
    for line in lines:
        name, colon, value = line.partition(":")
        # RFC 9112, section 5.1: no white space before the colon; 5.2: no folded lines.
        if not colon or _TOKEN.match(name) is None:
            raise RequestRefused(400, "expected header lines: NAME: VALUE")
        if _FORBIDDEN_IN_VALUE.search(value) is not None:
            raise RequestRefused(400, f"expected printable text in the header {name[:40]}")
        fields.append((name.lower(), value.strip(" \t")))
    return _joined(fields)


def _joined(fields: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Headers by name, the values of a repeated one joined. Raises :class:`RequestRefused`."""
    headers: dict[str, list[str]] = {}
    for name, latin in fields:
        values = headers.setdefault(name, [])
        if values and name == "host":
            # RFC 9112, section 3.2.
            raise RequestRefused(400, "expected one Host header, got more")
        if name == "host" and not is_host(latin):
            # The URL of the request is made from it: a path in it would take the place of the requested one.
            raise RequestRefused(400, "expected a host in the header Host")
        values.append(_text(latin))
    # RFC 6265, section 5.4: cookies are joined by a semicolon, everything else by a comma.
    return {
        name: ("; " if name == "cookie" else ", ").join(values) for name, values in headers.items()
    }


def already_read(
    target: str, fields: Iterable[tuple[bytes, bytes]], method: str = "GET"
) -> RequestHead:
    """A request whose head another server has parsed; names are in lower case.

    Raises :class:`RequestRefused` as :func:`read_request` does for headers.
    """
    headers = _joined((name.decode("latin-1"), value.decode("latin-1")) for name, value in fields)
    return RequestHead(method, target, headers)


def header_text(value: bytes) -> str:
    """The text of a header: UTF-8 if it is valid, else Latin-1 (RFC 9110, section 5.5)."""
    return _text(value.decode("latin-1"))


def _text(latin: str) -> str:
    """UTF-8, which browsers send in cookies, if it is valid; else Latin-1."""
    if latin.isascii():
        return latin
    try:
        return latin.encode("latin-1").decode()
    except UnicodeDecodeError:
        return latin


def shown_location(location: str) -> str:
    """The target of a redirect (RFC 9110, section 10.2.2) for a log line: without credentials and query, which may be
    secrets."""
    try:
        parts = urlsplit(location)
    except ValueError:
        return "no URL"
    host = parts.netloc.rpartition("@")[2]
    return (f"{parts.scheme}://{host}" if host else "") + parts.path


def refusal(error: RequestRefused, *, is_head: bool = False) -> bytes:
    """The response to a refused request; the connection is closed after it. With ``is_head``, the request was a HEAD, whose
    response has no content (RFC 9110, section 9.3.2)."""
    body = f"{error}\n".encode()
    lines = [
        f"HTTP/1.1 {error.status} {HTTPStatus(error.status).phrase}",
        "Content-Type: text/plain; charset=utf-8",
        f"Content-Length: {len(body)}",
        "Connection: close",
        *(f"{name}: {value}" for name, value in error.headers),
    ]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1") + (b"" if is_head else body)
