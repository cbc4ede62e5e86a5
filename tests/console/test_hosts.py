"""Host names of a console without a key."""

import pytest

from catenary.auth.origins import Origins
from catenary.console.hosts import OwnHosts


@pytest.mark.parametrize(
    "host",
    [
        *("localhost", "localhost:8080", "LOCALHOST:1", "cable.localhost", "localhost.:8080"),
        *("127.0.0.1", "127.0.0.1:8080", "10.0.0.7:80", "[::1]", "[::1]:8080", "[fe80::1]:9"),
    ],
)
def test_addresses_and_localhost_are_always_own(host: str) -> None:
    assert OwnHosts("0.0.0.0", Origins([])).include(host)


@pytest.mark.parametrize(
    "host",
    [
        *(
            "",
            "evil.example",
            "evil.example:8080",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
        ),
        *(
            "2130706433.example",
            "[evil.example]",
            "xn--localhost",
            "notlocalhost",
        ),
    ],
)
def test_other_names_are_not_own(host: str) -> None:
    assert not OwnHosts("", Origins([])).include(host)


def test_the_configured_host_is_own_at_any_port() -> None:
    own = OwnHosts("Cable.Internal", Origins([]))
    assert own.include("cable.internal")
    assert own.include("cable.internal:8090")
    assert not own.include("other.internal")


@pytest.mark.parametrize(
    ("entries", "host", "is_own"),
    [
        (["app.example"], "app.example", True),
        (["https://app.example"], "app.example", True),
        (["app.example:8080"], "app.example:8080", True),
        (["app.example"], "app.example:8080", False),
        (["*.example"], "cable.example", True),
        (["*"], "any.example:1", True),
        (["app.example"], "evil.example", False),
    ],
)
def test_hosts_of_the_allowed_origins_are_own(entries: list[str], host: str, is_own: bool) -> None:
    assert OwnHosts("", Origins(entries)).include(host) is is_own
