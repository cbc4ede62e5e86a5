"""Subscriptions that ended recently."""

import tracemalloc

from catenary.channels.ended_subscriptions import LIMIT, EndedSubscriptions
from catenary.channels.subscription_key import SubscriptionKey
from catenary.messages.names import Identifier, Sid


def key(number: int, size: int = 1) -> SubscriptionKey:
    return SubscriptionKey(Sid(f"sid{number}"), Identifier(f"{number}".rjust(size, "x")))


def test_an_end_is_remembered_until_it_is_popped() -> None:
    ended = EndedSubscriptions()
    ended.add(key(1), 7.5)
    assert ended.pop(key(2)) is None
    assert ended.pop(key(1)) == 7.5
    assert ended.pop(key(1)) is None


def test_only_the_latest_ends_are_remembered() -> None:
    ended = EndedSubscriptions()
    for number in range(3 * LIMIT):
        ended.add(key(number), number)
    assert all(ended.pop(key(number)) == number for number in range(2 * LIMIT, 3 * LIMIT))
    assert ended.pop(key(LIMIT - 1)) is None


def test_an_end_that_was_added_twice_is_popped_at_once() -> None:
    ended = EndedSubscriptions()
    ended.add(key(0), 1)
    for number in range(1, LIMIT + 1):
        ended.add(key(number), 2)
    ended.add(key(0), 3)
    assert ended.pop(key(0)) == 3
    assert ended.pop(key(0)) is None


def test_long_identifiers_take_no_memory() -> None:
    tracemalloc.start()
    ended = EndedSubscriptions()
    for number in range(3 * LIMIT):
        ended.add(key(number, size=8_000), 1.5 * number)
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert held < 2 * LIMIT * 200
