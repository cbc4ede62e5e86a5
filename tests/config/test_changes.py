"""The difference between two configurations: what a running server applies, and what needs a restart."""

import pytest

from catenary.config.changes import Changes, changes, described, with_changes
from catenary.config.effective import effective
from catenary.config.options import Options
from tests.config.sources import options


def read(text: str) -> Options:
    return effective(options(file=text))


def places(found: Changes) -> tuple[list[str], list[str]]:
    return [row.place for row in found.applied], [row.place for row in found.restart]


def test_equal_options_have_no_difference() -> None:
    assert places(changes(read("secret = 's'"), read("secret = 's'"))) == ([], [])


def test_a_limit_is_applied_and_a_port_needs_a_restart() -> None:
    before, after = read(""), read("[limits]\nmax_streams = 5\n[server]\nhealth_path = '/up'")
    found = changes(before, after)
    assert places(found) == (["limits.max_streams"], ["server.health_path"])
    merged = with_changes(before, after, found.places)
    assert (merged.limits.max_streams, merged.server.health_path) == (5, "/health")


def test_a_level_that_another_option_implies_is_applied() -> None:
    assert places(changes(read(""), read("[logging]\ndebug = true")))[0] == [
        "log.level",
        "log.debug",
    ]


def test_trusted_proxies_are_replaced_but_not_switched_on() -> None:
    off, one, other = (
        read(text)
        for text in (
            "",
            "server.trusted_proxies = ['10.0.0.0/8']",
            "server.trusted_proxies = '::1'",
        )
    )
    assert places(changes(one, other)) == (["server.trusted_proxies"], [])
    assert places(changes(off, one)) == ([], ["server.trusted_proxies"])
    assert places(changes(one, off)) == ([], ["server.trusted_proxies"])


@pytest.mark.parametrize(
    ("before", "after", "line"),
    [
        ("", "[limits]\nmax_streams = 5", "limits.max_streams: 65536 → 5"),
        ("", "[metrics]\nhttp = '/m'", "metrics.http_path: (empty) → /m"),
        (
            "redis.url = 'redis://u:p@a'",
            "redis.url = 'redis://u:p@b'",
            "redis.url: redis://•••@a → redis://•••@b",
        ),
        ("secret = 'one'", "secret = 'two'", "secret: changed"),
    ],
)
def test_a_change_is_described_without_secrets(before: str, after: str, line: str) -> None:
    running, new = read(before), read(after)
    found = changes(running, new)
    lines = [described(row, running, new) for row in (*found.applied, *found.restart)]
    assert line in lines
