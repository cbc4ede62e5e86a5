"""The opening handshake: upgrades by RFC 6455, and answers as a client reads them."""

import io
import socket
import string
import time
from http.client import HTTPMessage, HTTPResponse
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from catenary.errors import RequestRefused
from catenary.wire.handshake import (
    Extension,
    accept_value,
    check_upgrade,
    offered_extensions,
    offered_subprotocols,
    switching,
    wants_upgrade,
)
from catenary.wire.http1 import RequestHead, read_request, refusal

# Section 1.3 of RFC 6455.
RFC_KEY = "dGhlIHNhbXBsZSBub25jZQ=="
RFC_ACCEPT = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="

HEADERS = {
    "Host": "server.example.com",
    "Upgrade": "websocket",
    "Connection": "Upgrade",
    "Sec-WebSocket-Key": RFC_KEY,
    "Sec-WebSocket-Version": "13",
}


def head(
    *more: bytes,
    first: bytes = b"GET /cable HTTP/1.1",
    without: str = "",
    **changes: str,
) -> bytes:
    """The RFC's request, its header lines added to, left out or changed (``_`` is ``-``)."""
    changed = {name.replace("_", "-"): value for name, value in changes.items()}
    headers = {name: changed.get(name, value) for name, value in HEADERS.items() if name != without}
    lines = [f"{name}: {value}".encode("latin-1") for name, value in headers.items()]
    return b"\r\n".join([first, *lines, *more])


def upgraded(request: bytes) -> str:
    return check_upgrade(read_request(request))


# Requests


def test_request_of_the_rfc_is_accepted() -> None:
    request = read_request(head())

    assert request == RequestHead(
        "GET", "/cable", {name.lower(): value for name, value in HEADERS.items()}
    )
    assert check_upgrade(request) == RFC_ACCEPT == accept_value(RFC_KEY)


@pytest.mark.parametrize(
    "request_head",
    [
        pytest.param(head(Upgrade="WebSocket"), id="Upgrade in capitals"),
        pytest.param(head(Upgrade="h2c, websocket"), id="one of several upgrades"),
        pytest.param(head(Connection="keep-alive, Upgrade"), id="one of several connections"),
        pytest.param(head(Connection="keep-alive ,\tUPGRADE ,"), id="odd list"),
        pytest.param(
            head(b"Connection: Upgrade", Connection="keep-alive"), id="list over two lines"
        ),
        pytest.param(head().replace(b": ", b":"), id="no spaces"),
        pytest.param(
            b"GET /cable HTTP/1.1\r\n"
            b"host:a\r\nupgrade:websocket\r\nconnection:upgrade\r\nsec-websocket-version:13\r\n"
            b"sec-websocket-key:" + RFC_KEY.encode(),
            id="names in lower case",
        ),
        pytest.param(head(Host=""), id="an empty Host"),
        pytest.param(head(b"Sec-WebSocket-Extensions: permessage-deflate"), id="extensions"),
    ],
)
def test_upgrade_is_accepted(request_head: bytes) -> None:
    assert upgraded(request_head) == RFC_ACCEPT


# Refusals


@pytest.mark.parametrize(
    ("request_head", "status"),
    [
        *(
            pytest.param(head(first=first), 400, id=f"request line {first!r}")
            for first in (
                b"",
                b"GET",
                b"GET /",
                b"GET / ",
                b"GET /  HTTP/1.1",
                b"GET  / HTTP/1.1",
                b" GET / HTTP/1.1",
                b"GET / HTTP/1.1 ",
                b"GET / http/1.1",
                b"GET / HTTP/11",
                b"GET / HTTP/1,1",
                b"GET / HTTP/1.10",
                b"GET / HTTP/\xb2.1",
                b"GET /a b HTTP/1.1",
                b"GET\t/ HTTP/1.1",
                b"GET /\x00 HTTP/1.1",
                b"GET /\x7f HTTP/1.1",
                b"GET / HTTP/1.1\nHost: a",
                b"GET / HTTP/1.1\rHost: a",
                b"G(T / HTTP/1.1",
                b"G\xe9T / HTTP/1.1",
                b"\r\nGET / HTTP/1.1",
                b"\x16\x03\x01\x02\x00",
            )
        ),
        *(
            pytest.param(head(first=b"GET / HTTP/" + version), 505, id=f"HTTP/{version.decode()}")
            for version in (b"0.9", b"2.0", b"3.0")
        ),
        *(
            pytest.param(head(line), 400, id=f"line {line!r}")
            for line in (
                b"",
                b"a",
                b": a",
                b"a : b",
                b"a\t: b",
                b" a: b",
                b"a b: c",
                b"a: b\r\n c",
                b"a: b\r\n\tc: d",
                b"a: b\nc: d",
                b"a: b\rc: d",
                b"a: b\r",
                b"a: \nb",
                b"a\n: b",
                b"a: \x00",
                b"a: \x0b",
                b"a: \x1b[0m",
                b"a: \x7f",
                b"a\x00: b",
                b"\xc3\xa9: b",
                b"a(b): c",
                b"Host: other.example.com",
                b"host: server.example.com",
            )
        ),
        pytest.param(head(without="Host"), 400, id="no Host"),
        pytest.param(head(first=b"POST /cable HTTP/1.1"), 405, id="POST"),
        pytest.param(head(first=b"get /cable HTTP/1.1"), 405, id="method in lower case"),
        pytest.param(head(without="Upgrade"), 426, id="no Upgrade"),
        pytest.param(head(Upgrade="h2c"), 426, id="Upgrade to something else"),
        pytest.param(head(Upgrade="websockets"), 426, id="Upgrade that begins alike"),
        pytest.param(head(Upgrade="websocket/13"), 426, id="Upgrade with a version"),
        pytest.param(head(without="Connection"), 400, id="no Connection"),
        pytest.param(head(Connection="keep-alive"), 400, id="Connection: keep-alive"),
        pytest.param(head(Connection="keep-alive Upgrade"), 400, id="Connection without comma"),
        pytest.param(head(without="Sec-WebSocket-Version"), 426, id="no version"),
        *(
            pytest.param(head(Sec_WebSocket_Version=version), 426, id=f"version {version!r}")
            for version in ("", "8", "7", "14", "13.0", "013", "x")
        ),
        pytest.param(head(b"Sec-WebSocket-Version: 13"), 426, id="version twice"),
        pytest.param(head(without="Sec-WebSocket-Key"), 400, id="no key"),
        *(
            pytest.param(head(Sec_WebSocket_Key=key), 400, id=f"key {key!r}")
            for key in (
                "",
                "x",
                "AAAA",
                "dGhlIHNhbXBsZSBub25jZQ",
                "dGhlIHNhbXBsZSBub25jZQ=",
                "dGhlIHNhbXBsZSBub25jZQ===",
                "dGhlIHNhbXBsZSBub25jZQ==AAAA",
                "dGhlIHNhbXBsZSBub25jZTE2",
                "dGhlIHNhbXBsZ SBub25jZQ==",
                "dGhlIHNhbXBsZSBub25jZ_-=",
                "\xe9GhlIHNhbXBsZSBub25jZQ==",
            )
        ),
        pytest.param(head(f"Sec-WebSocket-Key: {RFC_KEY}".encode()), 400, id="key twice"),
    ],
)
def test_is_refused(request_head: bytes, status: int) -> None:
    with pytest.raises(RequestRefused) as caught:
        upgraded(request_head)

    assert caught.value.status == status
    assert str(caught.value).startswith("expected ")


@pytest.mark.parametrize(
    ("request_head", "headers"),
    [
        (head(first=b"POST / HTTP/1.1"), {"Allow": "GET"}),
        (head(without="Upgrade"), {"Upgrade": "websocket", "Sec-WebSocket-Version": "13"}),
        (
            head(Sec_WebSocket_Version="8"),
            {"Upgrade": "websocket", "Sec-WebSocket-Version": "13"},
        ),
    ],
    ids=["method", "upgrade", "version"],
)
def test_a_refusal_names_the_accepted_version(request_head: bytes, headers: dict[str, str]) -> None:
    with pytest.raises(RequestRefused) as caught:
        upgraded(request_head)

    assert dict(caught.value.headers) == headers


@pytest.mark.parametrize(
    ("upgrade", "wanted"),
    [("websocket", True), ("h2c,WEBSOCKET", True), ("", False), ("h2", False)],
)
def test_wants_upgrade(upgrade: str, wanted: bool) -> None:
    assert wants_upgrade(read_request(head(Upgrade=upgrade))) is wanted


# Subprotocols


@pytest.mark.parametrize(
    ("lines", "offered"),
    [
        pytest.param((), [], id="none"),
        pytest.param((b"Sec-WebSocket-Protocol:",), [], id="empty"),
        pytest.param((b"Sec-WebSocket-Protocol: , ,",), [], id="commas"),
        pytest.param((b"Sec-WebSocket-Protocol: b,a , B",), ["b", "a", "B"], id="in its order"),
        pytest.param(
            (b"Sec-WebSocket-Protocol: a", b"Sec-WebSocket-Protocol: b, c"),
            ["a", "b", "c"],
            id="over two lines",
        ),
    ],
)
def test_offered_subprotocols(lines: tuple[bytes, ...], offered: list[str]) -> None:
    assert offered_subprotocols(read_request(head(*lines))) == offered


# Extensions


@pytest.mark.parametrize(
    ("value", "offered"),
    [
        pytest.param("", [], id="empty"),
        pytest.param("a", [Extension("a")], id="one"),
        pytest.param(" a ,\tb ", [Extension("a"), Extension("b")], id="two"),
        pytest.param(",, a,,", [Extension("a")], id="empty elements"),
        pytest.param(
            "permessage-deflate; client_max_window_bits; server_max_window_bits=10, b",
            [
                Extension(
                    "permessage-deflate",
                    (("client_max_window_bits", None), ("server_max_window_bits", "10")),
                ),
                Extension("b"),
            ],
            id="parameters",
        ),
        pytest.param('a;b="10"', [Extension("a", (("b", "10"),))], id="in quotes"),
        pytest.param(r'a;b="1\0"', [Extension("a", (("b", "10"),))], id="escaped in quotes"),
        pytest.param(
            "a ; b = 1 ;b", [Extension("a", (("b", "1"), ("b", None)))], id="spaces, and twice"
        ),
    ],
)
def test_offered_extensions(value: str, offered: list[Extension]) -> None:
    request = read_request(head(b"Sec-WebSocket-Extensions: " + value.encode()))

    assert offered_extensions(request) == offered


def test_extensions_may_be_offered_over_two_lines() -> None:
    request = read_request(
        head(b"Sec-WebSocket-Extensions: a; b=1", b"Sec-WebSocket-Extensions: c")
    )

    assert offered_extensions(request) == [Extension("a", (("b", "1"),)), Extension("c")]
    assert offered_extensions(read_request(head())) == []


@pytest.mark.parametrize(
    "value",
    [
        "a b",
        "a;",
        "a;;b",
        ";b",
        "a;b=",
        "a;=1",
        'a;b="',
        'a;b=""',
        'a;b="1 0"',
        "a;b=1=2",
        "a/b",
        "é",
    ],
)
def test_an_invalid_list_of_extensions_is_refused(value: str) -> None:
    """Section 9.1: who receives such a value MUST fail the connection."""
    request = read_request(head(b"Sec-WebSocket-Extensions: " + value.encode()))

    with pytest.raises(RequestRefused, match="Sec-WebSocket-Extensions") as raised:
        offered_extensions(request)
    assert raised.value.status == 400


@pytest.mark.parametrize(
    "value", ["a;" + "b" * 60_000 + "!(", "a" + " " * 60_000 + "(", "a" + ";b" * 30_000 + "("]
)
def test_a_long_list_that_is_none_is_refused_at_once(value: str) -> None:
    request = RequestHead("GET", "/", {"sec-websocket-extensions": value})
    began = time.process_time()

    with pytest.raises(RequestRefused):
        offered_extensions(request)
    assert time.process_time() - began < 0.5


# Answers, as a client reads them


class _Answer(io.BytesIO):
    """Stands where ``http.client`` expects a socket."""

    def makefile(self, _mode: str) -> io.BytesIO:
        return self


def parsed(answer: bytes) -> tuple[int, str, HTTPMessage, bytes]:
    response = HTTPResponse(cast("socket.socket", _Answer(answer)), method="GET")
    response.begin()
    return response.status, response.reason, response.headers, response.read()


def test_switching_has_exact_bytes() -> None:
    assert switching(RFC_ACCEPT, "actioncable-v1-json", [("X-A", "b")]) == (
        b"HTTP/1.1 101 Switching Protocols\r\n"
        b"Upgrade: websocket\r\n"
        b"Connection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"
        b"Sec-WebSocket-Protocol: actioncable-v1-json\r\n"
        b"X-A: b\r\n"
        b"\r\n"
    )


def test_switching_names_no_subprotocol_where_there_is_none() -> None:
    status, _, headers, _ = parsed(switching(RFC_ACCEPT, None))

    assert status == 101
    assert headers.keys() == ["Upgrade", "Connection", "Sec-WebSocket-Accept"]


# Properties

ANY_LINE = st.one_of(
    st.binary(max_size=40),
    st.builds(
        lambda name, value: name.encode() + b":" + value,
        st.sampled_from([*HEADERS, "Sec-WebSocket-Protocol", "Cookie", "Transfer-Encoding", "x"]),
        st.binary(max_size=40),
    ),
)


@st.composite
def almost_requests(draw: st.DrawFn) -> bytes:
    """The RFC's request with lines added, and bytes changed."""
    data = bytearray(head(*draw(st.lists(ANY_LINE, max_size=3))))
    for _ in range(draw(st.integers(0, 3))):
        data[draw(st.integers(0, len(data) - 1))] = draw(st.integers(0, 255))
    return bytes(data)


@given(data=st.binary(max_size=200) | almost_requests())
def test_any_bytes_are_read_or_refused_with_an_answer(data: bytes) -> None:
    try:
        request = read_request(data)
        answer, expected = switching(check_upgrade(request), None), 101
    except RequestRefused as error:
        answer, expected = refusal(error), error.status
    else:
        assert all(token.strip() for token in offered_subprotocols(request))

    status, _, headers, body = parsed(answer)
    assert status == expected
    if status != 101:
        assert headers.get_all("Content-Length") == [str(len(body))]


PRINTABLE = bytes(string.printable, "ascii") + bytes(range(0x80, 0x100))


@given(value=st.lists(st.sampled_from(PRINTABLE)).map(bytes) | st.binary(max_size=60))
def test_a_subprotocol_never_adds_a_line_to_the_answer(value: bytes) -> None:
    """For any offer: if it were echoed, it would not end its header."""
    try:
        offered = offered_subprotocols(read_request(head(b"Sec-WebSocket-Protocol: " + value)))
    except RequestRefused:
        return
    for token in offered:
        if token.isascii():
            lines = switching(RFC_ACCEPT, token).split(b"\r\n")
            assert lines[4:] == [b"Sec-WebSocket-Protocol: " + token.encode(), b"", b""]
        assert not set(token) & {chr(code) for code in (*range(0x09), *range(0x0A, 0x20), 0x7F)}


def test_parameters_that_upset_python_s_own_patterns() -> None:
    """gh-101955: a group in a possessive repetition may end before it begins, a SystemError; before
    Python 3.11.5, such repetitions take what does not match (gh-106052)."""
    request = read_request(b'GET / HTTP/1.1\r\nSec-WebSocket-Extensions: n;a=x;y="z"')
    assert offered_extensions(request) == [Extension("n", (("a", "x"), ("y", "z")))]


def test_extensions_without_end() -> None:
    def offering(number: int) -> RequestHead:
        return read_request(b"GET / HTTP/1.1\r\nSec-WebSocket-Extensions: " + b"a," * number)

    assert len(offered_extensions(offering(32))) == 32
    with pytest.raises(RequestRefused) as refused:
        offered_extensions(offering(33))
    assert refused.value.status == 400


def test_parameters_without_end() -> None:
    def offering(number: int) -> RequestHead:
        line = b"Sec-WebSocket-Extensions: a" + b";b" * number
        return read_request(b"GET / HTTP/1.1\r\n" + line)

    assert len(offered_extensions(offering(32))[0].parameters) == 32
    with pytest.raises(RequestRefused) as refused:
        offered_extensions(offering(33))
    assert refused.value.status == 400


@pytest.mark.parametrize(
    "head",
    [
        b"GET / HTTP/1.1\r\n" + b"N" * 5000 + b": \x01",
        b"M" * 5000 + b" / HTTP/1.1\r\nHost: a",
    ],
    ids=["header", "method"],
)
def test_a_refusal_repeats_little_of_the_request(head: bytes) -> None:
    with pytest.raises(RequestRefused) as refused:
        check_upgrade(read_request(head))
    assert len(refusal(refused.value)) < 500
