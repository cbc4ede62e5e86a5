"""The client behind trusted proxies: its address, scheme and host, and what others may not claim."""

from typing import Any

import pytest

from catenary.edge.proxies import PROXY_HEADERS, TrustedProxies, proxy_headers_of
from catenary.edge.request import Peer
from catenary.metrics.counters import Counters
from catenary.wire.http1 import RequestHead

NETWORKS = ("10.0.0.0/8", "fd00::/8", "192.0.2.1")
PROXY = Peer("http", "10.0.0.1")


def request(**headers: str) -> RequestHead:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return RequestHead("GET", "/cable", {"host": "internal:8080"} | named)


def proxies(header: Any = "x-forwarded-for", *networks: str) -> TrustedProxies:
    return TrustedProxies(networks or NETWORKS, header, Counters())


@pytest.mark.parametrize(
    ("chain", "address"),
    [
        pytest.param("203.0.113.7", "203.0.113.7", id="a client"),
        pytest.param("203.0.113.7:5000", "203.0.113.7", id="with its port"),
        pytest.param("203.0.113.7, 10.9.9.9, 192.0.2.1", "203.0.113.7", id="several proxies"),
        pytest.param("6.6.6.6, 203.0.113.7", "203.0.113.7", id="an address that a client sent"),
        pytest.param("10.6.6.6, 203.0.113.7", "203.0.113.7", id="a proxy that a client sent"),
        pytest.param("10.0.0.3, 10.0.0.2", "10.0.0.3", id="proxies only"),
        pytest.param("", "10.0.0.1", id="nothing"),
        pytest.param("unknown", "10.0.0.1", id="unknown"),
        pytest.param("unknown, 10.0.0.2", "10.0.0.2", id="unknown to the first proxy"),
        pytest.param("203.0.113.7, ", "10.0.0.1", id="an empty element"),
        pytest.param("6.6.6.6 203.0.113.7", "10.0.0.1", id="without a comma"),
        pytest.param("999.1.1.1", "10.0.0.1", id="no address"),
        pytest.param("01.2.3.4", "10.0.0.1", id="octal"),
        pytest.param("[2001:DB8::0:1]:443", "2001:db8::1", id="IPv6"),
        pytest.param("2001:db8::1, fd00::5", "2001:db8::1", id="IPv6 proxies"),
        pytest.param("::ffff:203.0.113.7", "203.0.113.7", id="IPv4 in IPv6"),
        pytest.param("203.0.113.7, ::ffff:10.0.0.9", "203.0.113.7", id="a proxy in IPv6"),
    ],
)
def test_the_client_is_the_rightmost_address_that_is_no_proxy(chain: str, address: str) -> None:
    _, peer = proxies().client(request(x_forwarded_for=chain), PROXY)
    assert peer.address == address
    quoted = ", ".join(f'for="{each.strip()}"' for each in chain.split(",")) if chain else ""
    _, peer = proxies("forwarded").client(request(forwarded=quoted), PROXY)
    assert peer.address == address


def test_a_malformed_chain_is_counted() -> None:
    counters = Counters()
    trusted = TrustedProxies(NETWORKS, "x-forwarded-for", counters)
    trusted.client(request(x_forwarded_for="nonsense, 203.0.113.7"), PROXY)
    assert counters.malformed_forwarding_total == 0
    trusted.client(request(x_forwarded_for="203.0.113.7, nonsense"), PROXY)
    assert counters.malformed_forwarding_total == 1


@pytest.mark.parametrize("address", ["203.0.113.7", "11.0.0.1", "2001:db8::1", "", "nonsense"])
def test_the_headers_of_other_peers_are_removed(address: str) -> None:
    sent = dict.fromkeys(PROXY_HEADERS, "10.0.0.1")
    head = RequestHead("GET", "/", {"host": "a", "cookie": "b", **sent})
    seen, peer = proxies().client(head, Peer("http", address))
    assert seen.headers == {"host": "a", "cookie": "b"}
    assert peer == Peer("http", address)


def test_the_header_that_proxies_do_not_write_is_not_read() -> None:
    sent = {"x_forwarded_for": "203.0.113.7", "forwarded": "for=6.6.6.6;proto=https;host=evil"}
    _, peer = proxies().client(request(**sent), PROXY)
    assert peer == Peer("http", "203.0.113.7")
    sent = {
        "x_forwarded_for": "6.6.6.6",
        "forwarded": "for=203.0.113.7",
        "x_forwarded_host": "evil",
        "x_forwarded_proto": "https",
    }
    head, peer = proxies("forwarded").client(request(**sent), PROXY)
    assert (peer, head.headers["host"]) == (Peer("http", "203.0.113.7"), "internal:8080")


@pytest.mark.parametrize(
    ("headers", "scheme", "host"),
    [
        ({}, "http", "internal:8080"),
        ({"x_forwarded_proto": "https"}, "https", "internal:8080"),
        ({"x_forwarded_proto": "http, wss"}, "https", "internal:8080"),
        ({"x_forwarded_proto": "javascript"}, "http", "internal:8080"),
        ({"x_forwarded_host": "cable.example"}, "http", "cable.example"),
        ({"x_forwarded_host": "evil.example, cable.example:444"}, "http", "cable.example:444"),
        ({"x_forwarded_host": "a/b"}, "http", "internal:8080"),
    ],
)
def test_scheme_and_host(headers: dict[str, str], scheme: str, host: str) -> None:
    head, peer = proxies().client(request(x_forwarded_for="203.0.113.7", **headers), PROXY)
    assert (peer.scheme, head.headers["host"]) == (scheme, host)


def test_scheme_and_host_of_forwarded_are_those_of_the_client_s_element() -> None:
    chain = "for=203.0.113.7;proto=https;host=cable.example, for=10.0.0.2;proto=http;host=inner"
    head, peer = proxies("forwarded").client(request(forwarded=chain), PROXY)
    assert (peer.scheme, head.headers["host"]) == ("https", "cable.example")


def test_the_scheme_of_the_proxy_overrides_that_of_an_absolute_url() -> None:
    head = RequestHead("GET", "/", {"host": "a", "x-forwarded-proto": "https"}, scheme="http")
    seen, peer = proxies().client(head, PROXY)
    assert (seen.scheme, peer.scheme) == ("", "https")


def test_peers_of_unix_sockets() -> None:
    head = request(x_forwarded_for="203.0.113.7")
    assert proxies("x-forwarded-for", "unix").client(head, Peer("http", ""))[1].address == (
        "203.0.113.7"
    )
    assert not proxies("x-forwarded-for", "unix").trust("10.0.0.1")
    assert not proxies("x-forwarded-for", "10.0.0.0/8").trust("")


@pytest.mark.parametrize("address", ["fd00::1", "FD00::1", "fd00::1%eth0", "::ffff:10.0.0.1"])
def test_trusted_addresses_in_every_notation(address: str) -> None:
    assert proxies().trust(address)


def test_other_networks_from_the_next_request_on() -> None:
    trusted = proxies()
    assert trusted.trust("10.0.0.1")
    trusted.replace(["172.16.0.0/12"])
    assert not trusted.trust("10.0.0.1")
    assert trusted.trust("172.16.0.1")


def test_many_peers_are_not_remembered_for_ever() -> None:
    trusted = proxies()
    for number in range(5_000):
        trusted.trust(f"203.0.{number % 256}.{number // 256}")
    assert len(trusted._known) <= 1024
    assert trusted.trust("10.0.0.1")


def test_the_headers_of_a_scope() -> None:
    fields = [(b"x-forwarded-for", b"6.6.6.6"), (b"cookie", b"a"), (b"x-forwarded-for", b"1.1.1.1")]
    assert proxy_headers_of(fields) == {"x-forwarded-for": "6.6.6.6, 1.1.1.1"}
