"""The one reader of URLs: every part, every form of a host, and nothing of a password in an error."""

from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from catenary.config.urls import (
    WEBSOCKET,
    Url,
    ascii_host,
    bracketed,
    host_and_port,
    http_url,
    is_everywhere,
    is_ip,
    joined,
    read_url,
    without_secrets,
)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("a://h", Url(scheme="a", host="h")),
        ("A://Host.Example", Url(scheme="a", host="Host.Example")),
        ("h:1", Url(scheme="d", host="h", port=1)),
        ("a://h:/", Url(scheme="a", host="h", path="/")),
        ("a://[::1]", Url(scheme="a", host="::1")),
        ("a://[::1]:65535/x", Url(scheme="a", host="::1", port=65535, path="/x")),
        ("a://[fe80::1%25eth0]:1", Url(scheme="a", host="fe80::1%eth0", port=1)),
        ("::1", Url(scheme="d", host="::1")),
        ("a://u@h", Url(scheme="a", host="h", user="u")),
        ("a://u:@h", Url(scheme="a", host="h", user="u", has_password=True)),
        ("a://:p@h", Url(scheme="a", host="h", password="p", has_password=True)),
        ("a://u:p@q:r@h", Url(scheme="a", host="h", user="u", password="p@q:r", has_password=True)),
        (
            "a://u%40:p%2F%3a%25@h",
            Url(scheme="a", host="h", user="u@", password="p/:%", has_password=True),
        ),
        ("a:///path?x=1&y=&x=2#f", Url(scheme="a", path="/path", query="x=1&y=&x=2")),
        ("a://h?q", Url(scheme="a", host="h", query="q")),
        ("a://b\u00fccher.example", Url(scheme="a", host="b\u00fccher.example")),
    ],
)
def test_urls(text: str, found: Url) -> None:
    assert read_url(text, default_scheme="d") == found


def test_parameters() -> None:
    assert read_url("a://h?x=1&y=&x=2%26").parameters == {"x": "2&", "y": ""}


@pytest.mark.parametrize(
    "text",
    [
        *("h", "", "a://h:0", "a://h:65536", "a://h:x", "a://h:\u0661", "a://h:-1", "a://h:+1"),
        *("a://[::1", "a://[::1]x", "a://[h]:1", "a://1:2:3", "a://h h", "a://a..b", "a://.h"),
        *("a://h\n", " a://h", "a://h ", "a://h\x00", "a://h\\x", f"a://{'x' * 64}.test"),
        *("a://:hush#x@h", "a://u:hu/sh@h:1", "a://u:[hush@h:x", "a://u:hush@h:hush"),
    ],
)
def test_what_is_no_url_is_told_without_its_parts(text: str) -> None:
    with pytest.raises(ValueError, match=r"^got ") as caught:
        read_url(text)
    assert "hush" not in str(caught.value)
    assert "hu/" not in str(caught.value)


@given(st.text(max_size=40))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        found = read_url(text, default_scheme="a")
    except ValueError as error:
        told = str(error)
    else:
        assert found.port is None or 0 < found.port < 65536
        assert ascii_host(found.host) is not None
        return
    assert told.startswith("got ")


@given(
    st.text(max_size=9), st.text(max_size=9), st.sampled_from(["h", "::1", "10.0.0.1", "a-b.test"])
)
def test_what_is_encoded_comes_out_again(user: str, password: str, host: str) -> None:
    text = f"a://{quote(user, safe='')}:{quote(password, safe='')}@{joined(host, 7)}/p"
    found = read_url(text)
    assert (found.user, found.password, found.host, found.port) == (user, password, host, 7)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("h", ("h", None)),
        ("h:7", ("h", 7)),
        ("[::1]:7", ("::1", 7)),
        ("[::1]", ("::1", None)),
        ("::1", ("::1", None)),
        ("10.0.0.1:7", ("10.0.0.1", 7)),
    ],
)
def test_host_and_port(text: str, found: tuple[str, int | None]) -> None:
    assert host_and_port(text) == found


@pytest.mark.parametrize("text", ["", ":7", "h:x", "u@h", "h/p", "[::1", "a b"])
def test_what_is_no_host_and_port(text: str) -> None:
    with pytest.raises(ValueError, match=r"^got "):
        host_and_port(text)


def test_hosts() -> None:
    assert bracketed("::1") == "[::1]"
    assert bracketed("h") == "h"
    assert joined("::1", 7) == "[::1]:7"
    assert [is_ip(each) for each in ("::1", "1.2.3.4", "fe80::1%eth0", "h", "")] == [
        *(True, True, True, False, False)
    ]
    assert [is_everywhere(each) for each in ("", "::", "0.0.0.0", "::0", "0::0")] == [True] * 5
    assert [is_everywhere(each) for each in ("::1", "h", "127.0.0.1")] == [False] * 3


def test_http() -> None:
    found = http_url("https://u:p%40@B\u00fccher.example:8443/a b/\u00fc?q=\u00e4&x=%20#f")
    assert found.is_encrypted
    assert (found.host, found.port) == ("xn--bcher-kva.example", 8443)
    assert found.authority == "xn--bcher-kva.example:8443"
    assert found.target == "/a%20b/%C3%BC?q=%C3%A4&x=%20"
    assert found.authorization == "Basic dTpwQA=="
    assert found.url == f"https://xn--bcher-kva.example:8443{found.target}"
    plain = http_url("http://[::1]")
    assert (plain.port, plain.authority, plain.target, plain.authorization) == (
        80,
        "[::1]",
        "/",
        "",
    )
    assert http_url("wss://h", WEBSOCKET).port == 443
    for text in ("ftp://h", "http://", "http:///p", "h", "ws://h", "http://h:x"):
        with pytest.raises(ValueError, match=r"^got "):
            http_url(text)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://localhost:6379/5", "redis://localhost:6379/5"),
        ("redis://:p@ss/w?rd@host:1/0?password=x", "redis://host:1/0"),
        ("nats://token@host:4222", "nats://host:4222"),
        ("localhost:50051", "localhost:50051"),
        ("dns:///host:1", "dns:///host:1"),
    ],
)
def test_a_url_for_people_has_no_secrets(url: str, shown: str) -> None:
    assert without_secrets(url) == shown
