"""The measure itself: it lets linear work pass, and finds what is worse, in Python and in C."""

import asyncio
from collections import OrderedDict
from collections.abc import Callable

import pytest

from tests.growth.measure import Case, Work, assert_near_linear, assert_turns_bounded, count


def appending(size: int) -> Work:
    def work() -> None:
        found: list[int] = []
        for number in range(size):
            found.append(number)  # noqa: PERF402

    return work


def sorting(size: int) -> Work:
    return lambda: sorted(range(size), key=lambda number: number % 97)


def ordered(size: int) -> Work:
    waiting = OrderedDict.fromkeys(range(size))
    return lambda: [waiting.popitem(last=False) for _ in range(size)]


@pytest.mark.parametrize("case", [appending, sorting, ordered])
def test_linear_work_passes(case: Case) -> None:
    assert_near_linear(case)


def pairs(size: int) -> Work:
    return lambda: [first + second for first in range(size) for second in range(size)]


def copying(size: int) -> Work:
    def work() -> None:
        data = b""
        for _ in range(size):
            data = data + b"0123456789"

    return work


def shifting(size: int) -> Work:
    waiting = list(range(size))
    return lambda: [waiting.pop(0) for _ in range(size)]


def looking(size: int) -> Work:
    names = [f"{number}" for number in range(size)]

    def work() -> None:
        known: list[str] = []
        for each in names:
            if each not in known:
                known.append(each)

    return work


def first_of_a_dict(size: int) -> Work:
    waiting = dict.fromkeys(range(size))

    def work() -> None:
        for _ in range(size):
            del waiting[next(iter(waiting))]

    return work


@pytest.mark.parametrize("case", [pairs, copying, shifting, looking, first_of_a_dict])
def test_work_that_grows_faster_is_found(case: Case) -> None:
    """Comparisons are slow enough to be found at a smaller size than copies are."""
    large = 5_000 if case is looking else 20_000
    with pytest.raises(AssertionError, match="expected"):
        assert_near_linear(case, sizes=(10, 100), large_sizes=(large // 20, large))


def in_one_turn(size: int) -> Work:
    async def work() -> None:
        for _ in range(size):
            pass

    return work


def in_turns(size: int) -> Work:
    async def work() -> None:
        for number in range(size):
            if number % 100 == 0:
                await asyncio.sleep(0)

    return work


def test_a_turn_that_grows_is_found() -> None:
    assert_turns_bounded(in_turns)
    with pytest.raises(AssertionError, match="turns that do not grow"):
        assert_turns_bounded(in_one_turn)


@pytest.mark.parametrize("make", [appending, in_turns])
def test_steps_are_the_same_each_time(make: Callable[[int], Work]) -> None:
    assert count(make, 1000) == count(make, 1000)
