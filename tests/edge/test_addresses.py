"""IPv4 addresses in IPv6 notation are IPv4 addresses."""

import ipaddress

import pytest

from catenary.edge.addresses import packed
from catenary.messages.ip_addresses import plain, plain_network, text_of


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("::ffff:1.2.3.4", "1.2.3.4"),
        ("::FFFF:102:304", "1.2.3.4"),
        ("0:0:0:0:0:ffff:1.2.3.4", "1.2.3.4"),
        ("1.2.3.4", "1.2.3.4"),
        ("FD00:0::1", "fd00::1"),
        ("::1.2.3.4", "::102:304"),
    ],
)
def test_each_address_has_one_text(written: str, meant: str) -> None:
    found = packed(written)
    assert found is not None
    assert text_of(found) == meant


@pytest.mark.parametrize("text", ["", "x", "1.2.3", "fe80::1%eth0", "1.2.3.4 ", "\0"])
def test_other_text_is_no_address(text: str) -> None:
    assert packed(text) is None


def test_what_the_kernel_writes_loses_its_prefix() -> None:
    texts = ("::ffff:1.2.3.4", "1.2.3.4", "fd00::1", "::ffff:0:0", "", "unix")
    assert [*map(plain, texts)] == ["1.2.3.4", *texts[1:]]


@pytest.mark.parametrize(
    ("network", "meant"),
    [
        ("::ffff:10.0.0.0/104", "10.0.0.0/8"),
        ("::ffff:0:0/96", "0.0.0.0/0"),
        ("::/0", "::/0"),
        ("fd00::/96", "fd00::/96"),
        ("10.0.0.0/8", "10.0.0.0/8"),
    ],
)
def test_networks_too(network: str, meant: str) -> None:
    assert str(plain_network(ipaddress.ip_network(network))) == meant
