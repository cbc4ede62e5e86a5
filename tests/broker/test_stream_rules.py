"""Which rule holds for a stream."""

import time

import pytest

from catenary.broker.stream_rules import CACHE_LIMIT, NO_RULE, StreamRules
from catenary.config.stream_rules import StreamRule
from catenary.messages.names import Stream


def rules_of(*patterns: str) -> StreamRules:
    return StreamRules(tuple(StreamRule(match=each) for each in patterns))


@pytest.mark.parametrize(
    ("patterns", "stream", "expected"),
    [
        ((), "chat/1", "*"),
        (("chat/*",), "chat/1", "chat/*"),
        (("chat/*",), "chat/1/typing\n", "chat/*"),
        (("chat/*",), "chat/", "chat/*"),
        (("chat/*",), "my-chat/1", "*"),
        (("chat/*",), "Chat/1", "*"),
        (("chat/?",), "chat/12", "*"),
        (("chat/?",), "chat/é", "chat/?"),
        (("*/typing", "chat/*"), "chat/1/typing", "*/typing"),
        (("chat/*", "*/typing"), "chat/1/typing", "chat/*"),
        (("a[bc].+",), "a[bc].+", "a[bc].+"),
        (("a[bc].+",), "ab.+", "*"),
    ],
)
def test_the_first_rule_that_matches_the_whole_name_holds(
    patterns: tuple[str, ...], stream: str, expected: str
) -> None:
    assert rules_of(*patterns).of(Stream(stream)).match == expected


def test_replaced_rules_hold_at_once() -> None:
    rules = rules_of("a*")
    changes: list[str] = []
    rules.on_change.append(lambda: changes.append(rules.of(Stream("ab")).match))
    assert rules.of(Stream("ab")).match == "a*"
    rules.replace((StreamRule(match="ab"),))
    assert changes == ["ab"]
    rules.replace(())
    assert rules.is_empty
    assert rules.of(Stream("ab")) is NO_RULE


def test_names_that_clients_choose_fill_no_memory() -> None:
    rules = rules_of("chat/*")
    for number in range(3 * CACHE_LIMIT):
        rules.of(Stream(f"chat/{number}"))
    rules.of(Stream("x" * 100_000))
    assert len(rules._cache) <= CACHE_LIMIT


def test_a_pattern_with_many_stars_takes_linear_time() -> None:
    rules = rules_of("*a" * 20 + "*b")
    begun = time.process_time()
    rules.of(Stream("a" * 5_000))
    assert time.process_time() - begun < 1
