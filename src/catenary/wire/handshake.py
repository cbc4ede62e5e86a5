"""The opening handshake of a WebSocket (RFC 6455, section 4.2): checks a request and writes the response.

Knows: the headers of an upgrade. Does not know: how heads are parsed, which paths exist, which clients may connect.
"""

import binascii
import hashlib
import re
from collections.abc import Sequence
from typing import Final

import msgspec

from catenary.errors import RequestRefused
from catenary.wire.http1 import RequestHead

_GUID: Final = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_UPGRADE: Final = ("Upgrade", "websocket")
_VERSION: Final = (("Sec-WebSocket-Version", "13"),)

_MAX_OFFERS: Final = 32
"""The maximum of extensions, and of parameters of each. Browsers offer one with one; 64 KB of them would take 20 ms."""

# RFC 6455, section 9.1: extensions are separated by commas, their parameters by semicolons. A value in quotes is a
# token, too; a backslash in it is ignored.
_TCHAR = r"[!#$%&'*+.^_`|~0-9A-Za-z-]"
# One part is matched at a time, so no pattern can backtrack beyond its part: that bounds the time without possessive
# repetitions, which are wrong in Python before 3.11.5 (gh-106052).
_NAME = re.compile(rf"[ \t]*({_TCHAR}+)?[ \t]*")
_PARAMETER = re.compile(
    rf';[ \t]*({_TCHAR}+)[ \t]*(?:=[ \t]*(?:({_TCHAR}+)|"((?:\\?{_TCHAR})+)")[ \t]*)?'
)


class Extension(msgspec.Struct, frozen=True, gc=False):
    """An extension that the client offers; the value of a parameter without one is None."""

    name: str
    parameters: tuple[tuple[str, str | None], ...] = ()


def wants_upgrade(request: RequestHead) -> bool:
    """Whether a request asks for a WebSocket; others are for an HTTP server."""
    value = request.headers.get("upgrade", "")
    return value == "websocket" or "websocket" in _tokens(value)


def check_upgrade(request: RequestHead) -> str:
    """Returns the value for Sec-WebSocket-Accept (section 4.2.2).

    Raises :class:`RequestRefused`: 405, 400, or 426 with the version that the server accepts.
    """
    headers = request.headers
    if request.method != "GET":
        raise RequestRefused(405, f"expected GET, got {request.method[:20]}", (("Allow", "GET"),))
    if "host" not in headers:
        raise RequestRefused(400, "expected a Host header", _VERSION)
    if not wants_upgrade(request):
        raise RequestRefused(426, "expected Upgrade: websocket", (_UPGRADE, *_VERSION))
    if "transfer-encoding" in headers or headers.get("content-length", "0") != "0":
        # The next bytes would be frames for this server, and a body for a proxy.
        raise RequestRefused(400, "expected a request without a body", _VERSION)
    connection = headers.get("connection", "")
    if connection != "Upgrade" and "upgrade" not in _tokens(connection):
        raise RequestRefused(400, "expected Connection: Upgrade", _VERSION)
    version = headers.get("sec-websocket-version", "")
    if version != "13":
        # Section 4.2.2: the response to an unknown version names the known one.
        raise RequestRefused(
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
        raise RequestRefused(400, "expected a Sec-WebSocket-Key of 16 bytes in base64", _VERSION)
    return key


def accept_value(key: str) -> str:
    """Section 4.2.2, step 5.4."""
    digest = hashlib.sha1(key.encode() + _GUID).digest()  # noqa: S324
    return binascii.b2a_base64(digest, newline=False).decode()


def _tokens(value: str) -> Sequence[str]:
    if "," not in value:
        return (value.strip().lower(),)
    return [token.strip().lower() for token in value.split(",")]


def offered_subprotocols(request: RequestHead) -> list[str]:
    """The subprotocols that the client offers, in its order of preference."""
    value = request.headers.get("sec-websocket-protocol", "")
    if "," not in value:
        token = value.strip()
        return [token] if token else []
    return [token.strip() for token in value.split(",") if token.strip()]


def offered_extensions(request: RequestHead) -> list[Extension]:
    """The extensions that the client offers, in its order of preference (section 9.1).

    Raises :class:`RequestRefused` with 400 for an invalid list.
    """
    value = request.headers.get("sec-websocket-extensions", "")
    offers: list[Extension] = []
    position = 0
    while position < len(value):
        named = _NAME.match(value, position)
        assert named is not None, "also matches an empty element of the list"
        position = named.end()
        if named[1] is not None:
            parameters, position = _parameters(value, position)
            offers.append(Extension(named[1], parameters))
        if position < len(value) and value[position] != ",":
            raise RequestRefused(
                400, "expected Sec-WebSocket-Extensions: NAME; PARAMETER=VALUE, ...", _VERSION
            )
        position += 1
        if len(offers) > _MAX_OFFERS:
            raise RequestRefused(400, f"expected up to {_MAX_OFFERS} extensions", _VERSION)
    return offers


def _parameters(value: str, position: int) -> tuple[tuple[tuple[str, str | None], ...], int]:
    """The parameters that begin at a position, and their end."""
    parameters: list[tuple[str, str | None]] = []
    while (match := _PARAMETER.match(value, position)) is not None:
        name, plain, quoted = match.groups("")
        parameters.append((name, quoted.replace("\\", "") or plain or None))
        position = match.end()
        if len(parameters) > _MAX_OFFERS:
            raise RequestRefused(400, f"expected up to {_MAX_OFFERS} parameters", _VERSION)
    return tuple(parameters), position


_SWITCHING: Final = (
    "HTTP/1.1 101 Switching Protocols\r\n"
    "Upgrade: websocket\r\n"
    "Connection: Upgrade\r\n"
    "Sec-WebSocket-Accept: "
)


def switching(accept: str, subprotocol: str | None, extra: Sequence[tuple[str, str]] = ()) -> bytes:
    """The response that opens the WebSocket."""
    text = f"{_SWITCHING}{accept}\r\n"
    if subprotocol is not None:
        text += f"Sec-WebSocket-Protocol: {subprotocol}\r\n"
    for name, value in extra:
        text += f"{name}: {value}\r\n"
    return (text + "\r\n").encode("latin-1")
