"""``X-Forwarded-For`` and ``Forwarded`` (RFC 7239), read from the right."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from catenary.wire.forwarded import (
    MAX_HOPS,
    Hop,
    forwarded_hops,
    last,
    scheme_of,
    x_forwarded_hops,
)


@pytest.mark.parametrize(
    ("value", "addresses"),
    [
        ("1.2.3.4", ["1.2.3.4"]),
        ("1.2.3.4, 10.0.0.1", ["10.0.0.1", "1.2.3.4"]),
        ("1.2.3.4,\t10.0.0.1 ", ["10.0.0.1", "1.2.3.4"]),
        ("1.2.3.4:5678", ["1.2.3.4"]),
        ("[2001:db8::1]:443, 2001:db8::2, [::1]", ["::1", "2001:db8::2", "2001:db8::1"]),
        ("unknown", [""]),
        ("1.2.3.4, ", ["", "1.2.3.4"]),
        ("1.2.3.4:port", [""]),
        ("[1.2.3.4", [""]),
        ("<script>", [""]),
        ("1" * 60_000, [""]),
        ("é", [""]),
    ],
)
def test_the_hops_of_x_forwarded_for(value: str, addresses: list[str]) -> None:
    assert [hop.address for hop in x_forwarded_hops(value)] == addresses


@pytest.mark.parametrize(
    ("value", "hops"),
    [
        ("for=192.0.2.60", [Hop("192.0.2.60")]),
        ("For=192.0.2.60;Proto=HTTPS;by=203.0.113.43", [Hop("192.0.2.60", "https")]),
        (
            'for="[2001:db8:cafe::17]:4711" ; host="a.example:8080"; proto=wss',
            [Hop("2001:db8:cafe::17", "https", "a.example:8080")],
        ),
        ("for=192.0.2.43, for=198.51.100.17", [Hop("198.51.100.17"), Hop("192.0.2.43")]),
        ('for="_gazonk"', [Hop("")]),
        ("for=unknown", [Hop("")]),
        ("proto=https", [Hop("", "https")]),
        ("for=1.2.3.4;for=5.6.7.8", [Hop("")]),
        ('for="1.2.3.4', [Hop("")]),
        ("for", [Hop("")]),
        # Quotes that a client left open do not reach the element of its proxy.
        ('for="evil, for=198.51.100.17', [Hop("198.51.100.17"), Hop("")]),
    ],
)
def test_the_hops_of_forwarded(value: str, hops: list[Hop]) -> None:
    assert list(forwarded_hops(value)) == hops


def test_a_chain_is_read_up_to_a_limit() -> None:
    endless = "1.2.3.4, " * 5_000 + "10.0.0.1"
    assert len(list(x_forwarded_hops(endless))) == MAX_HOPS
    assert len(list(forwarded_hops(endless))) == MAX_HOPS


@given(st.text(st.sampled_from('for=";,.:[] 1a\t'), max_size=60), st.sampled_from(["", ", "]))
def test_nothing_on_the_left_changes_what_the_last_proxy_wrote(left: str, comma: str) -> None:
    left = left + comma if comma else ""
    assert next(x_forwarded_hops(f"{left}192.0.2.1")) == Hop("192.0.2.1")
    assert next(forwarded_hops(f"{left}for=192.0.2.1;proto=http")) == Hop("192.0.2.1", "http")


@pytest.mark.parametrize(
    ("value", "text"), [("", ""), ("https", "https"), ("http, https", "https"), ("a,", "")]
)
def test_the_last_value_of_a_list(value: str, text: str) -> None:
    assert last(value) == text


@pytest.mark.parametrize(
    ("text", "scheme"),
    [("https", "https"), ("WSS", "https"), ("ws", "http"), ("http", "http"), ("gopher", "")],
)
def test_schemes(text: str, scheme: str) -> None:
    assert scheme_of(text) == scheme
