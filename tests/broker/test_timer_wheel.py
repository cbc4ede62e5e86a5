"""Keys are never due early, and at most a tick late."""

import math
import tracemalloc
from collections.abc import Iterator
from time import perf_counter

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from catenary.broker.timer_wheel import TICKS, TimerWheel


def due(wheel: TimerWheel[str], now: float) -> list[str]:
    return sorted(all_due(wheel, now))


def all_due(wheel: TimerWheel[str], now: float) -> Iterator[str]:
    while (key := wheel.pop_due(now)) is not None:
        yield key


def test_never_early_and_at_most_a_tick_late() -> None:
    wheel = TimerWheel[str](TICKS)
    wheel.schedule("a", 10.0)
    wheel.schedule("b", 10.5)
    wheel.schedule("c", 11.0)
    assert due(wheel, 10.0) == []
    assert due(wheel, 10.99) == []
    assert due(wheel, 11.0) == ["a", "b"]
    assert due(wheel, 11.99) == []
    assert due(wheel, 12.0) == ["c"]
    assert len(wheel) == 0


def test_moved_and_cancelled() -> None:
    wheel = TimerWheel[str](TICKS)
    for key in "abcd":
        wheel.schedule(key, 10.0)
    wheel.schedule("a", 20.0)
    wheel.schedule("b", 5.0)
    wheel.cancel("c")
    wheel.cancel("never there")
    assert due(wheel, 6.0) == ["b"]
    assert due(wheel, 11.0) == ["d"]
    assert due(wheel, 100.0) == ["a"]


def test_keys_are_returned_in_the_order_of_ticks() -> None:
    wheel = TimerWheel[str](TICKS)
    for deadline in (7, 3, 9, 1):
        wheel.schedule(str(deadline), deadline)
    assert list(all_due(wheel, 8.0)) == ["1", "3", "7"]


def test_a_deadline_in_the_past_is_due() -> None:
    wheel = TimerWheel[str](TICKS)
    wheel.schedule("a", 100.0)
    assert due(wheel, 200.0) == ["a"]
    wheel.schedule("b", 100.0)
    assert due(wheel, 200.0) == ["b"]


@pytest.mark.parametrize("ttl_s", [-1, 0, 0.001, 15, 1e7])
def test_any_ttl(ttl_s: float) -> None:
    wheel = TimerWheel[str](ttl_s)
    wheel.schedule("a", 1.7e9 + ttl_s)
    # At this size of numbers the clock itself has steps of 0.2 µs.
    assert due(wheel, 1.7e9 + ttl_s) == []
    assert due(wheel, 1.7e9 + ttl_s + wheel.tick_s * 1.01) == ["a"]


def test_cost_does_not_depend_on_keys_that_are_not_due() -> None:
    def sweeps_s(keys: int) -> float:
        wheel = TimerWheel[int](TICKS)
        for key in range(keys):
            wheel.schedule(key, 1000.0 + key % 100)
        start = perf_counter()
        for now in range(900):
            assert wheel.pop_due(now) is None
        return perf_counter() - start

    # A scan of 50,000 would be a thousand times as much, not fifty.
    assert min(sweeps_s(50_000) for _ in range(3)) < 50 * min(sweeps_s(10) for _ in range(3))


def test_going_back_and_forth_leaves_nothing() -> None:
    wheel = TimerWheel[str](TICKS)
    wheel.schedule("stays", 1000.0)
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        for turn in range(20_000):
            wheel.schedule("a", 50.0 + turn % 50)
            wheel.schedule(str(turn), 70.0)
            wheel.cancel(str(turn))
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(wheel) == 2
    assert after - before < 20_000


def test_keys_that_leave_long_before_their_deadlines_leave_nothing() -> None:
    """Clients with tokens that are valid for a month come and go: each second has another deadline."""
    wheel = TimerWheel[str](TICKS)
    wheel.schedule("stays", 5e6)
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        for second in range(20_000):
            wheel.schedule(str(second), 2_592_000.0 + second)
            wheel.cancel(str(second))
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert after - before < 20_000
    assert due(wheel, 6e6) == ["stays"]


class WheelAgainstModel(RuleBasedStateMachine):
    """The model is a dict of deadlines, which is searched as a whole each time."""

    def __init__(self) -> None:
        super().__init__()
        self.wheel = TimerWheel[str](10)
        self.deadlines: dict[str, float] = {}
        self.now = 1_000.0

    keys = st.sampled_from("abcdef")
    moments = st.floats(-5, 50, allow_nan=False)

    @rule(key=keys, ahead=moments)
    def schedule(self, key: str, ahead: float) -> None:
        self.wheel.schedule(key, self.now + ahead)
        self.deadlines[key] = self.now + ahead

    @rule(key=keys)
    def cancel(self, key: str) -> None:
        self.wheel.cancel(key)
        self.deadlines.pop(key, None)

    @rule(seconds=st.floats(0, 20, allow_nan=False))
    def sweep(self, seconds: float) -> None:
        self.now += seconds
        found = due(self.wheel, self.now)
        assert all(self.deadlines.pop(key) < self.now for key in found)
        overdue = [key for key, each in self.deadlines.items() if each < self._surely_over()]
        assert overdue == []

    def _surely_over(self) -> float:
        return math.nextafter(self.now - self.wheel.tick_s, -math.inf) - 1e-9

    @rule()
    def pop_one(self) -> None:
        key = self.wheel.pop_due(self.now)
        if key is not None:
            assert self.deadlines.pop(key) < self.now

    @invariant()
    def nobody_is_lost(self) -> None:
        assert len(self.wheel) == len(self.deadlines)

    def teardown(self) -> None:
        assert due(self.wheel, self.now + 1_000) == sorted(self.deadlines)


TestWheelAgainstModel = WheelAgainstModel.TestCase
