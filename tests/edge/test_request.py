"""The environment, the heartbeat and the resumed session of an opening request."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from catenary.edge.request import (
    MAX_PING_INTERVAL_S,
    Peer,
    Proxied,
    environment_of,
    heartbeat_of,
    resumed_sid,
)
from catenary.messages.heartbeat import Heartbeat
from catenary.wire.http1 import RequestHead, read_request

ALL_COOKIES = Proxied(headers=("cookie",), cookies=())
USUAL = Heartbeat(3, "s")


def request(target: str = "/cable", **headers: str) -> RequestHead:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return RequestHead("GET", target, {"host": "example.com"} | named)


# The environment


@pytest.mark.parametrize(
    ("scheme", "target", "host", "url"),
    [
        ("http", "/cable", "example.com", "http://example.com/cable"),
        ("https", "/cable", "example.com:443", "https://example.com:443/cable"),
        ("http", "/cable?a=%20&b=é", "[::1]:80", "http://[::1]:80/cable?a=%20&b=é"),
        ("http", "/cable?", "a", "http://a/cable?"),
        ("http", "/", "", "http:///"),
    ],
)
def test_the_url_is_that_of_the_request(scheme: str, target: str, host: str, url: str) -> None:
    environment = environment_of(request(target, host=host), Peer(scheme, "1.2.3.4"), ALL_COOKIES)

    assert environment.url == url
    assert (environment.identifiers, environment.cstate, environment.istate) == ("", None, None)


@pytest.mark.parametrize(
    ("proxied", "headers", "shown"),
    [
        pytest.param((), {"cookie": "a=1"}, {}, id="none"),
        pytest.param(("cookie",), {"cookie": "a=1"}, {"cookie": "a=1"}, id="one"),
        pytest.param(("cookie",), {}, {}, id="absent"),
        pytest.param(("x-a",), {"x-a": ""}, {}, id="empty"),
        pytest.param(("X-Api-Token",), {"x-api-token": "t"}, {"X-Api-Token": "t"}, id="as named"),
        pytest.param(("a", "b"), {"b": "2", "c": "3"}, {"b": "2"}, id="some"),
        pytest.param(("a",), {"a": "1, 2"}, {"a": "1, 2"}, id="repeated"),
    ],
)
def test_headers_are_those_of_the_option(
    proxied: tuple[str, ...], headers: dict[str, str], shown: dict[str, str]
) -> None:
    environment = environment_of(
        RequestHead("GET", "/", headers),
        Peer("http", "1.2.3.4"),
        Proxied(proxied, ()),
    )

    assert environment.headers == shown | {"REMOTE_ADDR": "1.2.3.4"}


def test_remote_addr_can_not_be_forged() -> None:
    environment = environment_of(
        RequestHead("GET", "/", {"remote_addr": "6.6.6.6", "remote-addr": "6.6.6.6"}),
        Peer("http", "1.2.3.4"),
        Proxied(("REMOTE_ADDR", "cookie"), ()),
    )

    assert environment.headers == {"REMOTE_ADDR": "1.2.3.4"}


TOKEN = {"x-jid": "abc"}


@pytest.mark.parametrize(
    ("headers", "shown"),
    [
        ({}, {}),
        ({"x-jid": "abc"}, TOKEN),
        ({"x-jid": ""}, {}),
        ({"sec-websocket-protocol": "actioncable-v1-json, anycable-token.abc"}, TOKEN),
        ({"sec-websocket-protocol": "anycable-token.abc,actioncable-v1-json"}, TOKEN),
        ({"sec-websocket-protocol": "anycable-token.abc, anycable-token.other"}, TOKEN),
        ({"sec-websocket-protocol": "anycable-token.a.b.c"}, {"x-jid": "a.b.c"}),
        ({"sec-websocket-protocol": "anycable-token."}, {}),
        ({"sec-websocket-protocol": "my-anycable-token.abc"}, {}),
        ({"sec-websocket-protocol": "anycable-token.other", "x-jid": "abc"}, TOKEN),
        ({"sec-websocket-protocol": "anycable-token.abc", "x-jid": ""}, TOKEN),
    ],
)
def test_token_is_a_header_or_a_subprotocol(headers: dict[str, str], shown: dict[str, str]) -> None:
    read = RequestHead("GET", "/", headers)
    environment = environment_of(read, Peer("http", ""), Proxied((), (), "x-jid"))

    assert environment.headers == shown | {"REMOTE_ADDR": ""}
    without = environment_of(read, Peer("http", ""), Proxied((), ()))
    assert without.headers == {"REMOTE_ADDR": ""}


@pytest.mark.parametrize(
    ("names", "header", "shown"),
    [
        ((), "a=1; b=2", "a=1; b=2"),
        (("a",), "a=1", "a=1"),
        (("a",), "a=1; b=2", "a=1"),
        (("b",), "a=1; b=2", "b=2"),
        (("a", "c"), "a=1; b=2; c=3", "a=1;c=3"),
        (("c", "a"), "a=1;b=2;c=3", "a=1;c=3"),
        (("a",), "a=x==; b=2", "a=x=="),
        (("a",), "a=1; a=2", "a=1;a=2"),
        (("a",), "A=1; ab=2; ba=3", None),
        (("a",), "b=a=1", None),
        (("a",), "; ;a", "a"),
        (("a",), "", None),
    ],
)
def test_cookies_are_those_of_the_option(
    names: tuple[str, ...], header: str, shown: str | None
) -> None:
    environment = environment_of(
        request(cookie=header),
        Peer("http", ""),
        Proxied(("Cookie",), names),
    )

    assert environment.headers.get("Cookie") == shown


def test_cookies_of_browsers_are_utf8() -> None:
    read = read_request("GET / HTTP/1.1\r\nHost: a\r\nCookie: name=Zoë".encode())
    environment = environment_of(read, Peer("http", ""), ALL_COOKIES)

    assert environment.headers["cookie"] == "name=Zoë"


# The session's id


@pytest.mark.parametrize(
    "sid", ["a", "...", "a.", "550e8400-e29b-41d4-a716-446655440000", "!~", "x" * 255]
)
def test_sid_is_the_request_id(sid: str) -> None:
    environment = environment_of(request(x_request_id=sid), Peer("http", ""), ALL_COOKIES)

    assert environment.sid == sid


@pytest.mark.parametrize(
    "sid",
    [".", "..", None, "", "a b", "a, b", "é", "x" * 256, "a\n", "a\tb", "\x7f"],
    ids=lambda sid: ascii(sid)[:20],
)
def test_sid_is_made_up_where_the_request_id_is_unfit(sid: str | None) -> None:
    asked = request() if sid is None else request(x_request_id=sid)
    made = [environment_of(asked, Peer("http", ""), ALL_COOKIES).sid for _ in range(50)]

    assert sid not in made
    assert len(set(made)) == 50
    assert all(20 <= len(each) <= 40 and each.isascii() and each.isprintable() for each in made)


def test_sids_do_not_begin_like_options() -> None:
    sids = [environment_of(request(), Peer("http", ""), ALL_COOKIES).sid for _ in range(2_000)]
    assert len(set(sids)) == 2_000
    assert not [each for each in sids if each.startswith("-")]


# The heartbeat


@pytest.mark.parametrize(
    ("query", "heartbeat"),
    [
        ("", USUAL),
        ("a=1", USUAL),
        ("pi=10", Heartbeat(10, "s")),
        ("a=1&pi=10&b=2", Heartbeat(10, "s")),
        ("pi=1&pi=2", Heartbeat(2, "s")),
        ("ptp=ms", Heartbeat(3, "ms")),
        ("ptp=ns&pi=5", Heartbeat(5, "ns")),
        ("ptp=s", Heartbeat(3, "s")),
        ("ptp=us", USUAL),
        ("ptp=MS", USUAL),
        ("ptp=", USUAL),
        ("pi=", USUAL),
        ("pi=x", USUAL),
        ("pi=1.5", USUAL),
        ("pi=1e3", USUAL),
        ("pi=0x10", USUAL),
        ("pi=1_0", USUAL),
        ("pi=%D9%A7", USUAL),
        ("pi=%B2", USUAL),
        ("pi=5%0A", USUAL),
        ("pi=x&ptp=ms", Heartbeat(3, "ms")),
        ("xpi=10", USUAL),
        ("pi=86400", Heartbeat(MAX_PING_INTERVAL_S, "s")),
    ],
)
def test_heartbeat(query: str, heartbeat: Heartbeat) -> None:
    assert heartbeat_of(request(f"/cable?{query}"), USUAL) == heartbeat


@pytest.mark.parametrize("query", ["pi=0", "pi=-1", "pi=-0", "pi=00"])
def test_heartbeat_of_zero_or_less_is_none(query: str) -> None:
    assert heartbeat_of(request(f"/cable?{query}"), USUAL).interval_s <= 0


@pytest.mark.parametrize("digits", ["86401", "9" * 9, "9" * 10, "9" * 5000])
def test_heartbeat_is_never_longer_than_a_day(digits: str) -> None:
    heartbeat = heartbeat_of(request(f"/cable?pi={digits}"), USUAL)

    assert heartbeat in (USUAL, Heartbeat(MAX_PING_INTERVAL_S, "s"))


@given(
    query=st.text()
    | st.builds("pi={}&ptp={}".format, st.text() | st.integers(), st.sampled_from(["ms", "é"]))
)
def test_any_query_gives_a_heartbeat(query: str) -> None:
    heartbeat = heartbeat_of(request(f"/cable?{query}"), USUAL)

    assert heartbeat.interval_s <= MAX_PING_INTERVAL_S
    assert heartbeat.precision in {"s", "ms", "ns"}


@given(cookies=st.text(), names=st.lists(st.text(), max_size=3))
def test_no_cookie_is_shown_that_is_not_named(cookies: str, names: list[str]) -> None:
    environment = environment_of(
        request(cookie=cookies),
        Peer("http", ""),
        Proxied(("cookie",), tuple(names)),
    )
    shown = environment.headers.get("cookie", "")

    if names:
        assert all(pair.partition("=")[0] in names for pair in shown.split(";") if shown)


@pytest.mark.parametrize(
    ("query", "sid"),
    [
        ("sid=a", "a"),
        ("x=1&sid=a&y=2", "a"),
        ("sid=a&sid=b", "b"),
        ("sid=a&sid=", "a"),
        ("sid=a%2Bb+c", "a+b c"),
        ("xsid=a", None),
        ("sid=", None),
        ("sid", None),
    ],
)
def test_a_parameter_of_the_query(query: str, sid: str | None) -> None:
    assert resumed_sid(RequestHead("GET", f"/cable?{query}", {})) == sid
