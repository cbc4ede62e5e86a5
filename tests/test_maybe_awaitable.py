"""A continuation gets its value now, or when it is awaited."""

import asyncio
from collections.abc import Awaitable

import pytest

from catenary.maybe_awaitable import settled, then


async def later(value: int) -> int:
    await asyncio.sleep(0)
    return value


def double(value: int) -> int:
    return 2 * value


def double_later(value: int) -> Awaitable[int]:
    return later(2 * value)


def test_a_value_needs_no_event_loop() -> None:
    assert then(2, double) == 4


def test_a_value_that_is_to_come_is_passed_on_when_it_is_awaited() -> None:
    async def run() -> None:
        called: list[int] = []
        coming = then(later(2), called.append)
        assert called == []
        assert isinstance(coming, Awaitable)
        await coming
        assert called == [2]

    asyncio.run(run())


def test_a_continuation_may_take_its_time_either_way() -> None:
    async def run() -> None:
        for value in (2, later(2)):
            coming: int | Awaitable[int] = then(value, double_later)
            assert await settled(coming) == 4
        assert await settled(then(later(2), double)) == 4
        assert await settled(3) == 3

    asyncio.run(run())


def test_a_failure_passes_by_the_continuation() -> None:
    async def fail() -> int:
        raise ValueError("no value")

    async def run() -> None:
        called: list[int] = []
        with pytest.raises(ValueError, match="no value"):
            await settled(then(fail(), called.append))
        assert called == []

    asyncio.run(run())
