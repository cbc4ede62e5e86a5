"""Entries of ``trusted_proxies``."""

import pytest

from catenary.config.networks import network


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("10.0.0.0/8", "10.0.0.0/8"),
        (" 192.0.2.7 ", "192.0.2.7/32"),
        ("2001:DB8::/32", "2001:db8::/32"),
        ("::1", "::1/128"),
        ("::ffff:10.0.0.0/104", "10.0.0.0/8"),
        ("0.0.0.0/0", "0.0.0.0/0"),
        ("unix", "None"),
    ],
)
def test_networks_and_addresses(text: str, shown: str) -> None:
    assert str(network(text)) == shown


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("10.0.0.1/8", "expected 10.0.0.0/8 or a single address, got '10.0.0.1/8'"),
        ("proxy.example", "an address, or unix, got 'proxy.example'"),
        ("10.0.0.0/33", "expected a network such as"),
        ("", "expected a network such as"),
        ("10.0.0", "expected a network such as"),
    ],
)
def test_other_entries_are_refused(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match="expected") as error:
        network(text)
    assert reason in str(error.value)
