"""Reads URLs, and hosts with ports, for all addresses in options.

``urllib.parse.urlsplit`` is not used: it lowercases hosts (names of Redis masters have upper case), quotes
parts of passwords in its errors, and drops line feeds. Source: RFC 3986, section 3.2 (authority).
Knows: text. Does not know: which server is at an address.
"""

import base64
import ipaddress
from collections.abc import Mapping
from typing import Final
from urllib.parse import parse_qsl, quote, unquote

import msgspec

_NO_HOST: Final = frozenset('/\\?#@[]<>"^`{|}')
_KEPT: Final = "/%:@!$&'()*+,;=~-._?"
"""Characters of a request target that are not encoded: they are encoded already, or need not be."""

UNENCODED: Final = "got a password with /, ? or #: they are written as %2F, %3F and %23"


class Url(msgspec.Struct, frozen=True, kw_only=True):
    """``SCHEME://USER:PASSWORD@HOST:PORT/PATH?QUERY``; every part except ``path`` and ``query`` is decoded.

    A missing ``host`` is empty, a missing ``port`` None. ``has_password`` distinguishes an empty password from none.
    """

    scheme: str
    host: str = ""
    port: int | None = None
    user: str = ""
    password: str = ""
    has_password: bool = False
    path: str = ""
    query: str = ""

    @property
    def parameters(self) -> dict[str, str]:
        """The parameters of the query; the last one of each name."""
        return dict(parse_qsl(self.query, keep_blank_values=True))


def read_url(text: str, *, default_scheme: str = "") -> Url:
    """Splits a URL. Text without ``://`` has the ``default_scheme``.

    In users and passwords, ``/``, ``?``, ``#`` and ``%`` must be written as %2F, %3F, %23 and %25. Raises
    ValueError, whose text shows nothing of the URL: it may contain a password.
    """
    if not text.isprintable() or text != text.strip():
        raise ValueError("got spaces or control characters")
    scheme, separator, rest = text.partition("://")
    if not separator:
        scheme, rest = default_scheme, text
    if not scheme:
        raise ValueError("got no scheme")
    rest, _, fragment = rest.partition("#")
    if "@" in fragment:
        raise ValueError(UNENCODED)
    rest, _, query = rest.partition("?")
    authority, slash, path = rest.partition("/")
    userinfo, _, where = authority.rpartition("@")
    user, colon, password = userinfo.partition(":")
    host, port = ("", None) if not where else _split(where)
    return Url(
        scheme=scheme.lower(),
        host=host,
        port=port,
        user=unquote(user),
        password=unquote(password),
        has_password=bool(colon),
        path=slash + path,
        query=query,
    )


def host_and_port(text: str) -> tuple[str, int | None]:
    """Reads ``HOST``, ``HOST:PORT``, ``[IPv6]``, ``[IPv6]:PORT`` or an IPv6 address alone.

    Raises ValueError as :func:`read_url`, also for an empty host.
    """
    host, port = _split(text)
    if not host:
        raise ValueError("got no host")
    return host, port


def joined(host: str, port: int) -> str:
    """``HOST:PORT``, with the brackets of an IPv6 address."""
    return f"{bracketed(host)}:{port}"


def bracketed(host: str) -> str:
    """A host as it is written in a URL."""
    return f"[{host}]" if ":" in host else host


def is_ip(host: str) -> bool:
    """Whether a host is an IPv4 or IPv6 address; the latter may have a zone (``fe80::1%eth0``)."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def is_everywhere(host: str) -> bool:
    """Whether listening on a host means listening on all addresses of this machine; an empty host does."""
    return not host or (is_ip(host) and ipaddress.ip_address(host).is_unspecified)


def _split(where: str) -> tuple[str, int | None]:
    if where.startswith("["):
        host, bracket, rest = where[1:].partition("]")
        if not bracket or (rest and not rest.startswith(":")) or ":" not in host:
            raise ValueError("got brackets without an IPv6 address")
        port = rest[1:]
    elif where.count(":") > 1:
        host, port = where, ""
    else:
        host, _, port = where.partition(":")
    return _checked(unquote(host)), _port(port)


def _checked(host: str) -> str:
    """The host. Raises ValueError for one that is neither a name nor an address."""
    if ":" in host:
        if not is_ip(host):
            raise ValueError("got a host that is no IPv6 address, and has colons")
        return host
    if _NO_HOST & set(host) or any(each.isspace() for each in host):
        raise ValueError("got a host with characters that no name has")
    try:
        ascii_host(host)
    except UnicodeError as error:
        raise ValueError("got a host with an empty or a too long part") from error
    return host


def ascii_host(host: str) -> str:
    """A name in ASCII, for DNS and HTTP (RFC 3490). Raises UnicodeError."""
    return host if not host or ":" in host else host.encode("idna").decode()


def _port(text: str) -> int | None:
    if not text:
        return None
    if not (text.isascii() and text.isdecimal()) or not 0 < int(text) < 2**16:
        raise ValueError("got a port that is not from 1 to 65535")
    return int(text)


class HttpUrl(msgspec.Struct, frozen=True, kw_only=True):
    """An HTTP or WebSocket address; ``path`` and ``query`` are encoded as in a request."""

    is_encrypted: bool
    host: str
    port: int
    authority: str
    """Value of the Host header; it has a port only if the URL has one."""
    authorization: str
    """Value of the Authorization header for the user in the URL; empty if there is none."""
    path: str
    query: str

    @property
    def target(self) -> str:
        """The request target: path and query."""
        return (self.path or "/") + (f"?{self.query}" if self.query else "")

    @property
    def url(self) -> str:
        """The URL without user and password, for logs and for clients that send :attr:`authorization`."""
        return f"{'https' if self.is_encrypted else 'http'}://{self.authority}{self.target}"


HTTP: Final = {"http": False, "https": True}
WEBSOCKET: Final = {"ws": False, "wss": True, **HTTP}


def http_url(text: str, schemes: Mapping[str, bool] = HTTP) -> HttpUrl:
    """Reads an HTTP URL; ``schemes`` maps each accepted scheme to whether it is encrypted.

    Raises ValueError, whose text shows nothing of the URL.
    """
    found = read_url(text)
    is_encrypted = schemes.get(found.scheme)
    if is_encrypted is None:
        raise ValueError(f"got {found.scheme}://…")
    if not found.host:
        raise ValueError("got no host")
    host = ascii_host(found.host)
    authorization = ""
    if found.user or found.has_password:
        credentials = f"{found.user}:{found.password}".encode()
        authorization = f"Basic {base64.b64encode(credentials).decode()}"
    return HttpUrl(
        is_encrypted=is_encrypted,
        host=host,
        port=found.port or (443 if is_encrypted else 80),
        authority=bracketed(host) if found.port is None else joined(host, found.port),
        authorization=authorization,
        path=quote(found.path, _KEPT),
        query=quote(found.query, _KEPT),
    )


def without_secrets(url: str) -> str:
    """A URL for people: without user, password and query."""
    scheme, separator, rest = url.rpartition("://")
    return scheme + separator + rest.rpartition("@")[2].partition("?")[0]
