"""The header of the PROXY protocol, versions 1 and 2: with it a proxy begins each connection, to say whose it is.

Source: "The PROXY protocol", https://www.haproxy.org/download/2.9/doc/proxy-protocol.txt, sections 2.1 and 2.2.
Knows: bytes. Does not know: who may send a header.
"""

import ipaddress
import re
from typing import Final, NamedTuple

from catenary.errors import ProtocolError
from catenary.messages.ip_addresses import text_of

SIGNATURE: Final = b"\r\n\r\n\x00\r\nQUIT\n"
"""Begins a header of version 2."""

SHORTEST: Final = 15
"""Bytes of the shortest header: ``PROXY UNKNOWN`` and CR LF."""

MAX_V1: Final = 107
MAX_V2: Final = 4096
"""The specification allows 64 KB. Proxies send some hundred bytes; nginx, too, reads up to 4,096."""

_V1: Final = b"PROXY "
_V2_FIXED: Final = 16
_V1_LINE: Final = re.compile(
    rb"PROXY (?:UNKNOWN(?: [^\r\n]*)?|TCP(?P<version>[46]) (?P<source>[0-9A-Fa-f:.]+) [0-9A-Fa-f:.]+"
    rb" (?P<port>[0-9]{1,5}) [0-9]{1,5})\r\n"
)
_LOCAL, _PROXY = 0x20, 0x21
_ADDRESSES: Final = {0x11: 12, 0x12: 12, 0x21: 36, 0x22: 36}
"""Bytes of the addresses of TCP and UDP over IPv4 and IPv6."""
_WITHOUT_IP: Final = frozenset({0x00, 0x31, 0x32})
"""Unspecified, and Unix sockets."""
_TLS: Final = 0x20
_TLS_USED: Final = 0x01


class ProxyHeader(NamedTuple):
    """The client of a connection. ``address`` is empty if the connection is the proxy's own, such as a health check.

    ``is_tls``: the client speaks TLS with the proxy. ``size`` is the length of the header in bytes.
    """

    address: str
    port: int
    is_tls: bool
    size: int


class ProxyHeaderError(ProtocolError):
    """The beginning of a connection is no header of the PROXY protocol."""


def begins_header(data: bytes) -> bool:
    """Whether a connection begins as a header does."""
    return data.startswith((_V1, SIGNATURE))


def read_header(data: bytes) -> ProxyHeader | int:
    """The header at the beginning of ``data``; if it is incomplete, how many bytes are missing at least.

    Raises :class:`ProxyHeaderError`.
    """
    if data.startswith(SIGNATURE):
        return _read_v2(data)
    if data.startswith(_V1):
        return _read_v1(data)
    if _V1.startswith(data) or SIGNATURE.startswith(data):
        return SHORTEST - len(data)
    raise ProxyHeaderError("expected a PROXY protocol header from this proxy (proxy_protocol)")


def _read_v1(data: bytes) -> ProxyHeader | int:
    end = data.find(b"\r\n", 0, MAX_V1)
    if end == -1:
        if len(data) >= MAX_V1:
            raise ProxyHeaderError(f"expected a PROXY line of up to {MAX_V1} bytes")
        return max(SHORTEST - len(data), 1)
    size = end + 2
    match = _V1_LINE.fullmatch(data, 0, size)
    if match is None:
        raise ProxyHeaderError("expected PROXY TCP4|TCP6|UNKNOWN with addresses and ports")
    if match["version"] is None:
        return ProxyHeader("", 0, False, size)
    try:
        found = ipaddress.ip_address(match["source"].decode())
    except ValueError:
        raise ProxyHeaderError("expected an IP address in the PROXY line") from None
    port = int(match["port"])
    if found.version != int(match["version"]) or port > 65_535:
        raise ProxyHeaderError(
            "expected an address of the named family, and ports, in the PROXY line"
        )
    return ProxyHeader(text_of(found.packed), port, False, size)


def _read_v2(data: bytes) -> ProxyHeader | int:
    if len(data) < _V2_FIXED:
        return _V2_FIXED - len(data)
    command, family = data[12], data[13]
    length = int.from_bytes(data[14:16], "big")
    if length > MAX_V2:
        raise ProxyHeaderError(f"expected a PROXY header of up to {MAX_V2} bytes, got {length}")
    if command not in (_LOCAL, _PROXY):
        raise ProxyHeaderError("expected version 2 and the command LOCAL or PROXY")
    size = _V2_FIXED + length
    if len(data) < size:
        return size - len(data)
    if command == _LOCAL or family in _WITHOUT_IP:
        return ProxyHeader("", 0, False, size)
    addresses = _ADDRESSES.get(family)
    if addresses is None or length < addresses:
        raise ProxyHeaderError("expected the addresses of a known family in the PROXY header")
    source = data[_V2_FIXED : _V2_FIXED + (addresses - 4) // 2]
    ports = _V2_FIXED + addresses - 4
    return ProxyHeader(
        text_of(source),
        int.from_bytes(data[ports : ports + 2], "big"),
        _is_tls(data[_V2_FIXED + addresses : size]),
        size,
    )


def _is_tls(fields: bytes) -> bool:
    """Whether PP2_TYPE_SSL, one of the fields after the addresses, says so. Others are skipped."""
    at = 0
    while at < len(fields):
        start = at + 3
        stop = start + int.from_bytes(fields[at + 1 : start], "big")
        if start > len(fields) or stop > len(fields):
            raise ProxyHeaderError("expected whole fields after the addresses of the PROXY header")
        if fields[at] == _TLS:
            return stop > start and bool(fields[start] & _TLS_USED)
        at = stop
    return False
