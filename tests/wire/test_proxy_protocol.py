"""Headers of the PROXY protocol, versions 1 and 2."""

import socket
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from catenary.wire.proxy_protocol import (
    MAX_V2,
    SHORTEST,
    SIGNATURE,
    ProxyHeader,
    ProxyHeaderError,
    begins_header,
    read_header,
)


def v2(
    source: str = "203.0.113.7",
    *,
    command: int = 0x21,
    family: int | None = None,
    rest: bytes = b"",
) -> bytes:
    """A header of version 2: the source, port 5000, and what follows the addresses."""
    kind, default = (socket.AF_INET6, 0x21) if ":" in source else (socket.AF_INET, 0x11)
    packed = socket.inet_pton(kind, source)
    body = packed + bytes(len(packed)) + struct.pack(">HH", 5000, 443) + rest
    family = default if family is None else family
    return SIGNATURE + bytes((command, family)) + struct.pack(">H", len(body)) + body


TLS = b"\x20\x00\x05\x01\x00\x00\x00\x00"
NO_TLS = b"\x20\x00\x05\x00\x00\x00\x00\x00"
AWS = b"\xea\x00\x03\x01vp"


@pytest.mark.parametrize(
    ("data", "address", "port", "is_tls"),
    [
        (b"PROXY TCP4 203.0.113.7 10.0.0.1 5000 443\r\n", "203.0.113.7", 5000, False),
        (b"PROXY TCP6 2001:DB8::0:1 ::1 65535 443\r\n", "2001:db8::1", 65535, False),
        (b"PROXY UNKNOWN\r\n", "", 0, False),
        (b"PROXY UNKNOWN ffff::1 ffff::2 65535 65535\r\n", "", 0, False),
        (v2(), "203.0.113.7", 5000, False),
        (v2("2001:db8::1"), "2001:db8::1", 5000, False),
        (v2("::ffff:203.0.113.7"), "203.0.113.7", 5000, False),
        (v2(command=0x20), "", 0, False),
        (v2(family=0x00), "", 0, False),
        (SIGNATURE + b"\x20\x00\x00\x00", "", 0, False),
        (SIGNATURE + b"\x21\x31\x00\xd8" + bytes(216), "", 0, False),
        (v2(rest=AWS + TLS), "203.0.113.7", 5000, True),
        (v2(rest=NO_TLS), "203.0.113.7", 5000, False),
        (v2(rest=AWS + bytes(MAX_V2 - 12 - len(AWS) - 3)[:0]), "203.0.113.7", 5000, False),
    ],
)
def test_headers(data: bytes, address: str, port: int, *, is_tls: bool) -> None:
    expected = ProxyHeader(address, port, is_tls, len(data))
    assert read_header(data) == expected
    assert read_header(data + b"GET / HTTP/1.1\r\n") == expected
    assert begins_header(data)
    for end in range(len(data)):
        # A reader that reads as many bytes as are said to be missing never reads too many.
        missing = read_header(data[:end])
        assert isinstance(missing, int)
        assert 1 <= missing <= len(data) - end


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\n",
        b"\x16\x03\x01",
        b"PROXY TCP4 203.0.113.7 10.0.0.1 5000\r\n",
        b"PROXY TCP4 2001:db8::1 ::1 5000 443\r\n",
        b"PROXY TCP6 203.0.113.7 10.0.0.1 5000 443\r\n",
        b"PROXY TCP4 999.0.113.7 10.0.0.1 5000 443\r\n",
        b"PROXY TCP4 203.0.113.7 10.0.0.1 70000 443\r\n",
        b"PROXY TCP4  203.0.113.7 10.0.0.1 5000 443\r\n",
        b"PROXY TCP5 203.0.113.7 10.0.0.1 5000 443\r\n",
        b"PROXY \r\n",
        b"PROXY TCP4 " + b"1" * 100,
        SIGNATURE + b"\x11\x11\x00\x0c" + bytes(12),
        SIGNATURE + b"\x22\x11\x00\x0c" + bytes(12),
        SIGNATURE + b"\x21\x41\x00\x0c" + bytes(12),
        SIGNATURE + b"\x21\x11\x00\x08" + bytes(8),
        SIGNATURE + b"\x21\x11" + struct.pack(">H", MAX_V2 + 1),
        v2(rest=b"\x20\x00"),
        v2(rest=b"\x20\x00\x09\x01"),
        b"\r\n\r\n\x00\r\nquit\n",
    ],
)
def test_malformed_headers(data: bytes) -> None:
    with pytest.raises(ProxyHeaderError):
        read_header(data)


@given(
    st.binary(max_size=40),
    st.sampled_from([b"", b"PROXY ", SIGNATURE, SIGNATURE + b"\x21\x11\x00\x20"]),
)
def test_any_bytes_are_read_or_refused(data: bytes, start: bytes) -> None:
    try:
        found = read_header(start + data)
    except ProxyHeaderError:
        return
    assert isinstance(found, ProxyHeader) or found >= 1


def test_the_shortest_header() -> None:
    assert len(b"PROXY UNKNOWN\r\n") == SHORTEST
