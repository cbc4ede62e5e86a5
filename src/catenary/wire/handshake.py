"""The opening handshake of a WebSocket (RFC 6455, section 4.2): request bytes → facts → answer.

Knows: the grammar of one HTTP/1.1 request. Does not know: which paths exist, who may come in.
"""

import binascii
import hashlib
import re
from collections.abc import Iterable, Sequence
from typing import Any, Final

import msgspec

from catenary.errors import HandshakeError

_GUID: Final = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_UPGRADE: Final = ("Upgrade", "websocket")
_VERSION: Final = (("Sec-WebSocket-Version", "13"),)
END_OF_HEADERS: Final = b"\r\n\r\n"

MAX_HEADER_BYTES: Final = 65536
"""More stops a request with 431. Precedents: node.js 16 KB, nginx 32 KB, Go (the reference) 1 MB."""

MAX_HEADERS: Final = 128
"""Lines. Precedents: Apache and Python's http.client 100, node.js 2,000. Browsers send some 15."""

_MAX_OFFERS: Final = 32
"""Extensions, and parameters of each. Browsers offer one with one; 64 KB of them would take 20 ms."""

# RFC 9110, section 5.6.2 (token) and RFC 9112, section 3 (request line).
_REQUEST_LINE = re.compile(r"([!#$%&'*+.^_`|~0-9A-Za-z-]+) ([!-~\x80-\xff]+) HTTP/([0-9]\.[0-9])\Z")
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+\Z")
# What browsers, clients and proxies send, as they spell it: a name that stands here need not be checked.
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
# RFC 6455, section 9.1: extensions between commas, each with its parameters behind semicolons. A
# value in quotes is a token, too, and a backslash in it stands for nothing.
_TCHAR = r"[!#$%&'*+.^_`|~0-9A-Za-z-]"
# One part is matched at a time: no pattern here can go back over more than its own part, so that
# neither a possessive repetition is needed (wrong in Python before 3.11.5, gh-106052) nor much time.
_NAME = re.compile(rf"[ \t]*({_TCHAR}+)?[ \t]*")
_PARAMETER = re.compile(
    rf';[ \t]*({_TCHAR}+)[ \t]*(?:=[ \t]*(?:({_TCHAR}+)|"((?:\\?{_TCHAR})+)")[ \t]*)?'
)
_FORBIDDEN_IN_VALUE = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")


class Request(msgspec.Struct, frozen=True, gc=False):
    """The head of an HTTP request. Header names are in lower case; repeated ones are joined by a comma."""

    method: str
    target: str
    headers: dict[str, str]

    @property
    def path(self) -> str:
        return self.target.partition("?")[0]

    @property
    def query(self) -> str:
        return self.target.partition("?")[2]


class Extension(msgspec.Struct, frozen=True, gc=False):
    """One that the client offers; a parameter without a value has None."""

    name: str
    parameters: tuple[tuple[str, str | None], ...] = ()


def read_request(head: bytes, max_headers: int = MAX_HEADERS) -> Request:
    """Reads the bytes up to and without the empty line.

    Raises :class:`HandshakeError` with status 400 (grammar), 431 (too many headers) or 505 (HTTP
    version).
    """
    first, *lines = head.decode("latin-1").split("\r\n", max_headers + 1)
    method, target = _request_line(first)
    if len(lines) > max_headers:
        raise HandshakeError(431, f"expected up to {max_headers} headers")
    return Request(method, target, _headers(lines))


def _request_line(line: str) -> tuple[str, str]:
    """Method and target, quickly where they are what a browser asks for."""
    words = line.split(" ")
    if len(words) == 3 and words[0] == "GET" and words[2] == "HTTP/1.1":
        target = words[1]
        if target and target.isascii() and target.isprintable():
            return "GET", target
    match = _REQUEST_LINE.match(line)
    if match is None:
        raise HandshakeError(400, "expected a request line: METHOD TARGET HTTP/1.1")
    if match[3] != "1.1":
        raise HandshakeError(505, "expected HTTP/1.1")
    return match[1], _text(match[2])


def _headers(lines: list[str]) -> dict[str, str]:
    """Quickly where every line is NAME: VALUE in printable ASCII and no name comes twice, which is
    usual; else with care."""
    read: list[Any] = [_remembered.get(line) or _plain_line(line) for line in lines]
    if all(read):
        headers: dict[str, str] = dict(read)
        if len(headers) == len(read):
            return headers
    return _odd_headers(lines)


def _plain_line(line: str) -> tuple[str, str] | None:
    """None where it is to be read with care."""
    spelled, colon, value = line.partition(": ")
    name = _USUAL_NAMES.get(spelled)
    if name is None and _TOKEN.match(spelled) is not None:
        name = spelled.lower()
    if name is None or not colon or not (line.isascii() and line.isprintable()):
        return None
    read = (name, value.strip(" "))
    if len(line) <= _REMEMBERED_CHARS and _is_shared(*read):
        if len(_remembered) == _REMEMBERED_LINES:
            del _remembered[next(iter(_remembered))]  # the oldest
        _remembered[line] = read
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
"""Whose lines many clients send alike. Nobody's cookies, keys and addresses are remembered."""

_PUBLIC_OFFER: Final = re.compile(r"actioncable[a-z0-9-]*(?:, actioncable[a-z0-9-]*)*\Z")
"""Subprotocols among which there is no token."""


def _is_shared(name: str, value: str) -> bool:
    if name == "sec-websocket-protocol":
        return _PUBLIC_OFFER.match(value) is not None
    return name in _SHARED_NAMES


_REMEMBERED_LINES: Final = 256
_REMEMBERED_CHARS: Final = 200
_remembered: Final[dict[str, tuple[str, str]]] = {}
"""Lines that were read before: to look one up takes a fourth of what it takes to read it."""


def _odd_headers(lines: list[str]) -> dict[str, str]:
    """With repeated names, text that is not ASCII, or a fault. Raises :class:`HandshakeError`."""
    headers: dict[str, str] = {}
    for line in lines:
        name, colon, value = line.partition(":")
        # RFC 9112, section 5.1: no white space before the colon; 5.2: no folded lines.
        if not colon or _TOKEN.match(name) is None:
            raise HandshakeError(400, "expected header lines: NAME: VALUE")
        if _FORBIDDEN_IN_VALUE.search(value) is not None:
            raise HandshakeError(400, f"expected printable text in the header {name[:40]}")
        _add(headers, name.lower(), value.strip(" \t"))
    return headers


def _add(headers: dict[str, str], name: str, latin: str) -> None:
    """One more header. Raises :class:`HandshakeError`."""
    value = _text(latin)
    if name in headers:
        if name == "host":
            # RFC 9112, section 3.2.
            raise HandshakeError(400, "expected one Host header, got more", _VERSION)
        # RFC 6265, section 5.4: cookies are joined by a semicolon, everything else by a comma.
        value = headers[name] + ("; " if name == "cookie" else ", ") + value
    headers[name] = value


def already_read(target: str, fields: Iterable[tuple[bytes, bytes]]) -> Request:
    """An opening request whose grammar another server has checked; names are in lower case.

    Raises :class:`HandshakeError` as :func:`read_request` does for headers.
    """
    headers: dict[str, str] = {}
    for name, value in fields:
        _add(headers, name.decode("latin-1"), value.decode("latin-1"))
    return Request("GET", target, headers)


def _text(latin: str) -> str:
    """UTF-8, which is what browsers send in cookies, where it is that; else Latin-1 as it came."""
    if latin.isascii():
        return latin
    try:
        return latin.encode("latin-1").decode()
    except UnicodeDecodeError:
        return latin


def wants_upgrade(request: Request) -> bool:
    """Does it ask for a WebSocket at all? Everything else is for an HTTP server."""
    value = request.headers.get("upgrade", "")
    return value == "websocket" or "websocket" in _tokens(value)


def check_upgrade(request: Request) -> str:
    """Returns the value for Sec-WebSocket-Accept (section 4.2.2).

    Raises :class:`HandshakeError`: 405, 400, or 426 with what the server would accept.
    """
    headers = request.headers
    if request.method != "GET":
        raise HandshakeError(405, f"expected GET, got {request.method[:20]}", (("Allow", "GET"),))
    if "host" not in headers:
        raise HandshakeError(400, "expected a Host header", _VERSION)
    if not wants_upgrade(request):
        raise HandshakeError(426, "expected Upgrade: websocket", (_UPGRADE, *_VERSION))
    if "transfer-encoding" in headers or headers.get("content-length", "0") != "0":
        # What follows would be frames to us, and a body to a proxy.
        raise HandshakeError(400, "expected a request without a body", _VERSION)
    connection = headers.get("connection", "")
    if connection != "Upgrade" and "upgrade" not in _tokens(connection):
        raise HandshakeError(400, "expected Connection: Upgrade", _VERSION)
    version = headers.get("sec-websocket-version", "")
    if version != "13":
        # Section 4.2.2: a version that we do not know is answered with the one that we do.
        raise HandshakeError(
            426,
            f"expected Sec-WebSocket-Version: 13, got {version[:20]!r}",
            (_UPGRADE, *_VERSION),
        )
    return accept_value(_checked_key(headers.get("sec-websocket-key", "")))


def _checked_key(key: str) -> str:
    try:
        nonce = binascii.a2b_base64(key, strict_mode=True)
    except (binascii.Error, ValueError):
        nonce = b""
    if len(nonce) != 16:
        raise HandshakeError(400, "expected a Sec-WebSocket-Key of 16 bytes in base64", _VERSION)
    return key


def accept_value(key: str) -> str:
    """Section 4.2.2, step 5.4."""
    digest = hashlib.sha1(key.encode() + _GUID).digest()  # noqa: S324
    return binascii.b2a_base64(digest, newline=False).decode()


def _tokens(value: str) -> Sequence[str]:
    if "," not in value:
        return (value.strip().lower(),)
    return [token.strip().lower() for token in value.split(",")]


def offered_subprotocols(request: Request) -> list[str]:
    """What the client can speak, as it prefers."""
    value = request.headers.get("sec-websocket-protocol", "")
    if "," not in value:
        token = value.strip()
        return [token] if token else []
    return [token.strip() for token in value.split(",") if token.strip()]


def offered_extensions(request: Request) -> list[Extension]:
    """What could be added to the protocol, as the client prefers (section 9.1).

    Raises :class:`HandshakeError` with 400 for what is no list of extensions.
    """
    value = request.headers.get("sec-websocket-extensions", "")
    offers: list[Extension] = []
    position = 0
    while position < len(value):
        named = _NAME.match(value, position)
        assert named is not None, "an empty element of a list is one, too"
        position = named.end()
        if named[1] is not None:
            parameters, position = _parameters(value, position)
            offers.append(Extension(named[1], parameters))
        if position < len(value) and value[position] != ",":
            raise HandshakeError(
                400, "expected Sec-WebSocket-Extensions: NAME; PARAMETER=VALUE, ...", _VERSION
            )
        position += 1
        if len(offers) > _MAX_OFFERS:
            raise HandshakeError(400, f"expected up to {_MAX_OFFERS} extensions", _VERSION)
    return offers


def _parameters(value: str, position: int) -> tuple[tuple[tuple[str, str | None], ...], int]:
    """Those that begin here, and where they end."""
    parameters: list[tuple[str, str | None]] = []
    while (match := _PARAMETER.match(value, position)) is not None:
        name, plain, quoted = match.groups("")
        parameters.append((name, quoted.replace("\\", "") or plain or None))
        position = match.end()
        if len(parameters) > _MAX_OFFERS:
            raise HandshakeError(400, f"expected up to {_MAX_OFFERS} parameters", _VERSION)
    return tuple(parameters), position


_SWITCHING: Final = (
    "HTTP/1.1 101 Switching Protocols\r\n"
    "Upgrade: websocket\r\n"
    "Connection: Upgrade\r\n"
    "Sec-WebSocket-Accept: "
)


def switching(accept: str, subprotocol: str | None, extra: Sequence[tuple[str, str]] = ()) -> bytes:
    """The answer that opens the WebSocket."""
    text = f"{_SWITCHING}{accept}\r\n"
    if subprotocol is not None:
        text += f"Sec-WebSocket-Protocol: {subprotocol}\r\n"
    for name, value in extra:
        text += f"{name}: {value}\r\n"
    return (text + "\r\n").encode("latin-1")


_PHRASES: Final = {
    400: "Bad Request",
    403: "Forbidden",
    404: "Not Found",
    405: "Method Not Allowed",
    408: "Request Timeout",
    426: "Upgrade Required",
    431: "Request Header Fields Too Large",
    503: "Service Unavailable",
    505: "HTTP Version Not Supported",
}


def refusal(error: HandshakeError) -> bytes:
    """The answer that refuses it and ends the connection."""
    body = f"{error}\n".encode()
    lines = [
        f"HTTP/1.1 {error.status} {_PHRASES[error.status]}",
        "Content-Type: text/plain; charset=utf-8",
        f"Content-Length: {len(body)}",
        "Connection: close",
        *(f"{name}: {value}" for name, value in error.headers),
    ]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1") + body
