"""Headers of the PROXY protocol, and the chains that proxies write into requests: seeds, words and what must hold."""

from ipaddress import ip_address
from random import Random
from typing import Final

from catenary.config.options import AddressHeader
from catenary.edge.proxies import TrustedProxies
from catenary.metrics.counters import Counters
from catenary.wire.proxy_protocol import SIGNATURE, ProxyHeader, ProxyHeaderError, read_header

SEEDS: Final = (
    b"PROXY TCP4 203.0.113.7 10.0.0.1 5000 443\r\nGET /",
    b"PROXY TCP6 2001:db8::1 ::1 5000 443\r\n",
    b"PROXY UNKNOWN\r\n",
    SIGNATURE + b"\x21\x11\x00\x0c\xcb\x00q\x07\x0a\x00\x00\x01\x13\x88\x01\xbb",
    SIGNATURE + b"\x21\x21\x00\x2c" + bytes(36) + b"\x20\x00\x05\x01\x00\x00\x00\x00",
    SIGNATURE + b"\x20\x00\x00\x00",
)
WORDS: Final = (b"PROXY ", SIGNATURE, b"\r\n", b"\xff\xff", b"TCP6", b":", b"UNKNOWN")


def check_header(data: bytes, random: Random) -> None:
    try:
        found = read_header(data)
    except ProxyHeaderError:
        return
    if isinstance(found, int):
        assert found >= 1
        return
    assert isinstance(found, ProxyHeader)
    assert 15 <= found.size <= len(data)
    ip_address(found.address or "::")
    assert 0 <= found.port <= 65_535
    # A reader that reads as many bytes as are missing comes to the same header, and not beyond it.
    length = 0
    while not isinstance(missing := read_header(data[:length]), ProxyHeader):
        length += random.randint(1, missing)
    assert (missing, length) == (found, found.size)


CHAINS: Final = (
    b"203.0.113.7, 10.0.0.2",
    b"[2001:db8::1]:443, unknown, 10.0.0.2:80",
    b'for="[2001:db8::1]:443";proto=https;host="a.example", for=10.0.0.2;by=_hidden',
)
CHAIN_WORDS: Final = (
    b",",
    b'"',
    b";",
    b"for=",
    b"10.0.0.3",
    b"::ffff:10.0.0.3",
    b"proto=wss",
    b"host=",
)
_HEADERS: Final[tuple[AddressHeader, ...]] = ("x-forwarded-for", "forwarded")
_PROXIES: Final = [TrustedProxies(["10.0.0.0/8"], each, Counters()) for each in _HEADERS]


def check_chain(data: bytes, random: Random) -> None:
    value = data.decode("latin-1")
    last = f"203.0.113.{random.randrange(256)}"
    for header, proxies in zip(_HEADERS, _PROXIES, strict=True):
        name = "for=" if header == "forwarded" else ""
        found = proxies.origin({header: value, "x-forwarded-host": value}, "10.0.0.1")
        ip_address(found.address)
        assert found.scheme in ("", "http", "https")
        assert not set(found.host) & set("/?# \r\n")
        appended = f"{value}, {name}{last}"
        assert proxies.origin({header: appended}, "10.0.0.1").address == last
