"""Request heads by RFC 9112, and refusals as a client reads them. What an upgrade must carry besides:
test_handshake.py, where every fault of a head is tried in an upgrade, too."""

import io
import socket
import time
from http.client import HTTPMessage, HTTPResponse
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from catenary.errors import RequestRefused
from catenary.wire import http1
from catenary.wire.http1 import RequestHead, already_read, read_request, refusal


@pytest.mark.parametrize(
    ("target", "path", "query"),
    [
        ("/cable", "/cable", ""),
        ("/cable?", "/cable", ""),
        ("/cable?a=1&b=/?c", "/cable", "a=1&b=/?c"),
        ("/", "/", ""),
        ("*", "*", ""),
        ("/a%20b?%3F", "/a%20b", "%3F"),
    ],
)
def test_target_is_path_and_query(target: str, path: str, query: str) -> None:
    request = read_request(b"GET " + target.encode() + b" HTTP/1.1")

    assert (request.target, request.path, request.query) == (target, path, query)


@pytest.mark.parametrize(
    ("target", "scheme", "host", "origin_form"),
    [
        ("http://a.example/cable", "http", "a.example", "/cable"),
        (
            "HTTPS://a.example:8080/cable?x=1&u=http://b/",
            "https",
            "a.example:8080",
            "/cable?x=1&u=http://b/",
        ),
        ("ws://[::1]:80/cable", "ws", "[::1]:80", "/cable"),
        ("http://a.example", "http", "a.example", "/"),
        ("http://a.example?x", "http", "a.example", "/?x"),
        ("http://user:hush@a.example/cable", "http", "a.example", "/cable"),
        ("http://h\u00e9/\u00e9?\u00fc", "http", "h\u00e9", "/\u00e9?\u00fc"),
        ("http://a.example:/", "http", "a.example:", "/"),
    ],
)
def test_a_target_may_be_a_whole_url(target: str, scheme: str, host: str, origin_form: str) -> None:
    request = read_request(f"GET {target} HTTP/1.1\r\nHost: other\r\nA: b".encode())

    assert request == RequestHead("GET", origin_form, {"host": host, "a": "b"}, scheme)
    assert "host" not in read_request(f"GET {target} HTTP/1.1".encode()).headers, "it is missing"


@pytest.mark.parametrize("target", ["*", "a.example:80", "http:/cable", "//h/cable", "/http://h/"])
def test_every_other_target_is_left_as_it_is(target: str) -> None:
    request = read_request(f"GET {target} HTTP/1.1\r\nHost: other".encode())

    assert request == RequestHead("GET", target, {"host": "other"})


@pytest.mark.parametrize("authority", ["", "[::1", "a:b", "a:999999", "a@", "a\\b", "<a>", ":80"])
def test_a_url_without_a_host_is_refused(authority: str) -> None:
    with pytest.raises(RequestRefused) as refused:
        read_request(f"GET http://{authority}/cable HTTP/1.1\r\nHost: a".encode())
    assert refused.value.status == 400


def test_http_1_0_needs_no_host_and_keeps_no_connection() -> None:
    assert read_request(b"GET / HTTP/1.0") == RequestHead("GET", "/", {"host": ""}, "", True)
    assert read_request(b"GET / HTTP/1.0\r\nHost: a").headers == {"host": "a"}
    assert not read_request(b"GET / HTTP/1.7").is_http_1_0


@pytest.mark.parametrize(
    ("lines", "headers"),
    [
        pytest.param(b"a:b", {"a": "b"}, id="no space"),
        pytest.param(b"a: \t b\t ", {"a": "b"}, id="white space around"),
        pytest.param(b"a:", {"a": ""}, id="empty"),
        pytest.param(b"a: b: c", {"a": "b: c"}, id="a colon inside"),
        pytest.param(b"a: b\tc", {"a": "b\tc"}, id="a tab inside"),
        pytest.param(b"X-Api-TOKEN: AbC", {"x-api-token": "AbC"}, id="names in lower case"),
        pytest.param(b"!#$%&'*+-.^_`|~09aZ: b", {"!#$%&'*+-.^_`|~09az": "b"}, id="odd name"),
        pytest.param(b"a: 1\r\nA: 2\r\na:3", {"a": "1, 2, 3"}, id="repeated"),
        pytest.param(b"a: 1\r\na:", {"a": "1, "}, id="repeated, empty"),
        pytest.param(b"Cookie: a=1\r\ncookie: b=2", {"cookie": "a=1; b=2"}, id="repeated cookies"),
        pytest.param(
            b"HOST: a\r\nCooKie: b\r\norigin: c\r\nX-Forwarded-For: d",
            {"host": "a", "cookie": "b", "origin": "c", "x-forwarded-for": "d"},
            id="usual names, however they are spelled",
        ),
        pytest.param(
            b"Host:  a  \r\nOrigin:b", {"host": "a", "origin": "b"}, id="usual, odd blanks"
        ),
        pytest.param("a: é😀".encode(), {"a": "é😀"}, id="UTF-8"),
        pytest.param(b"a: \xe9\xff", {"a": "éÿ"}, id="Latin-1"),
        pytest.param(b"a: \xc3\xa9\r\nb: \xe9", {"a": "é", "b": "é"}, id="each on its own"),
    ],
)
def test_reads_headers(lines: bytes, headers: dict[str, str]) -> None:
    assert read_request(b"GET / HTTP/1.1\r\n" + lines).headers == headers


@pytest.mark.parametrize(
    "host",
    ["[", "a/path?", "a#", "a?", "a b", "user@a", "a\\b", "[::1", "a:b", "a:1:2", 'a"', "é/"],
)
def test_a_host_that_is_none_is_refused(host: str) -> None:
    """It would become a part of the path in logs and for applications."""
    raw = f"GET /cable HTTP/1.1\r\nHost: {host}".encode()
    with pytest.raises(RequestRefused, match="Host") as refused:
        read_request(raw)
    assert refused.value.status == 400
    with pytest.raises(RequestRefused, match="Host"):
        already_read("/cable", [(b"host", host.encode())])


@pytest.mark.parametrize(
    "host", ["", "a", "a.example:80", "[::1]:80", "127.0.0.1", "a_b", "a:", "bücher.example"]
)
def test_hosts_are_accepted(host: str) -> None:
    assert read_request(f"GET / HTTP/1.1\r\nHost: {host}".encode()).headers["host"] == host
    assert already_read("/", [(b"host", host.encode())]).headers["host"] == host


@pytest.mark.parametrize("line", [b"Host", b"Host ", b"Host : a", b" Host: a", b"Host:\x00", b""])
def test_a_usual_name_excuses_no_fault(line: bytes) -> None:
    with pytest.raises(RequestRefused) as refused:
        read_request(b"GET / HTTP/1.1\r\nOrigin: a\r\n" + line + b"\r\nUpgrade: b")
    assert refused.value.status == 400


@given(
    lines=st.lists(
        st.tuples(
            st.sampled_from(["Host", "cookie", "X-a", "a b", "é", ""]),
            st.sampled_from([": ", ":", " : ", ""]),
            st.text(st.sampled_from(" \tab:\r\n\x00\x7fé"), max_size=4),
        ),
        max_size=4,
    )
)
def test_plain_headers_are_read_as_odd_ones_are(lines: list[tuple[str, str, str]]) -> None:
    """A value that is not ASCII lets all lines be read with care, and changes nothing else."""

    def read(last: str) -> dict[str, str] | int:
        head = "\r\n".join(["GET / HTTP/1.1", *("".join(line) for line in lines), f"Last: {last}"])
        try:
            return {**read_request(head.encode()).headers, "last": ""}
        except RequestRefused as error:
            return error.status

    first = read("e")
    assert first == read("é")
    assert first == read("e"), "remembered"


def test_few_lines_are_cached_and_no_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    remembered: dict[str, tuple[str, str]] = {}
    monkeypatch.setattr(http1, "_cached_lines", remembered)
    read_request(
        b"GET / HTTP/1.1\r\nHost: h\r\nCookie: session=hush\r\nAuthorization: Bearer hush\r\n"
        b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nX-Real-IP: 1.2.3.4\r\norigin: o\r\n"
        b"Sec-WebSocket-Protocol: actioncable-v1-json, anycable-token.hush"
    )
    assert remembered == {"Host: h": ("host", "h"), "origin: o": ("origin", "o")}
    offer = "actioncable-v1-ext-json, actioncable-v1-json, actioncable-unsupported"
    read_request(b"GET / HTTP/1.1\r\nsec-websocket-protocol: " + offer.encode())
    assert remembered.pop(f"sec-websocket-protocol: {offer}")[1] == offer
    for number in range(2_000):
        read_request(b"GET / HTTP/1.1\r\nUser-Agent: %d" % number)
    assert len(remembered) == 256
    assert "User-Agent: 1999" in remembered
    read_request(b"GET / HTTP/1.1\r\nUser-Agent: " + b"x" * 300)
    assert max(map(len, remembered)) < 200


def test_target_may_be_utf8() -> None:
    assert read_request("GET /é?ü HTTP/1.1".encode()).target == "/é?ü"


@given(
    names=st.lists(st.sampled_from(["a", "b", "cookie"]), max_size=6),
    value=st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E, exclude_characters=",;")),
)
def test_repeated_headers_are_joined_in_order(names: list[str], value: str) -> None:
    lines = [f"{name}: {value}{at}" for at, name in enumerate(names)]
    headers = read_request("\r\n".join(["GET / HTTP/1.1", *lines]).encode()).headers

    for name in set(names):
        values = [f"{value}{at}" for at, each in enumerate(names) if each == name]
        assert headers[name] == ("; " if name == "cookie" else ", ").join(values)


def test_blanks_that_end_in_a_fault_cost_no_more_than_others() -> None:
    """Where a pattern tries again from each of them, this takes half a minute."""
    before = time.thread_time()
    with pytest.raises(RequestRefused) as refused:
        read_request(b"GET / HTTP/1.1\r\na: " + b" " * 65_000 + b"\x01")
    assert refused.value.status == 400
    assert time.thread_time() - before < 0.5


def test_headers_without_end() -> None:
    def request(number: int) -> bytes:
        return b"GET / HTTP/1.1\r\n" + b"\r\n".join([b"a: b"] * number)

    assert read_request(request(128)).headers["a"].count("b") == 128
    for number in (129, 5000):
        with pytest.raises(RequestRefused) as refused:
            read_request(request(number))
        assert refused.value.status == 431


class _Answer(io.BytesIO):
    """Stands where ``http.client`` expects a socket."""

    def makefile(self, _mode: str) -> io.BytesIO:
        return self


def parsed(answer: bytes) -> tuple[int, str, HTTPMessage, bytes]:
    response = HTTPResponse(cast("socket.socket", _Answer(answer)), method="GET")
    response.begin()
    return response.status, response.reason, response.headers, response.read()


@pytest.mark.parametrize("status", [400, 401, 403, 404, 405, 408, 422, 426, 431, 503, 505])
def test_refusal_is_an_answer(status: int) -> None:
    answer = refusal(RequestRefused(status, "expected é, got ☃", (("Retry-After", "5"),)))
    got, reason, headers, body = parsed(answer)

    assert got == status
    assert reason
    assert body == "expected é, got ☃\n".encode()
    assert headers["Connection"] == "close"
    assert headers["Content-Type"] == "text/plain; charset=utf-8"
    assert headers["Retry-After"] == "5"
    assert answer.endswith(b"\r\n\r\n" + body)


def test_the_refusal_of_a_head_request_has_no_content() -> None:
    refused = RequestRefused(401, "expected a token")
    assert refusal(refused, is_head=True) + b"expected a token\n" == refusal(refused)
