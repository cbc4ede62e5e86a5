"""Loops that pause: what they do in one turn of the event loop, alone and together."""

import asyncio
from typing import Self

import pytest

from catenary.adapters.pacing import BUDGET_BYTES, ITEM_BYTES, WOKEN_AT_ONCE, paced
from tests.parts.heart import in_loop

IN_A_TURN = BUDGET_BYTES // ITEM_BYTES + 2 * 30
"""Items without a size: what a turn has room for, and what a loop does before it looks."""


class Turns:
    """How many items were done in each turn of the event loop."""

    def __init__(self) -> None:
        self.items: list[int] = []
        self.numbers: list[int] = []
        self._done = 0
        self._handle: asyncio.Handle | None = None

    def __enter__(self) -> Self:
        self._next()
        return self

    def __exit__(self, *_: object) -> None:
        assert self._handle is not None
        self._handle.cancel()
        self.numbers.append(len(self.items) - self._done)

    def _next(self) -> None:
        self.numbers.append(len(self.items) - self._done)
        self._done = len(self.items)
        self._handle = asyncio.get_running_loop().call_soon(self._next)

    async def loop(self, number: int, item: int = 0) -> None:
        async for _ in paced(range(number)):
            self.items.append(item)


@in_loop
async def test_a_few_items_are_one_turn() -> None:
    with Turns() as turns:
        await turns.loop(100)
    assert turns.numbers == [0, 100]


@in_loop
async def test_many_items_are_many_turns() -> None:
    with Turns() as turns:
        await turns.loop(10_000)
    assert len(turns.items) == 10_000
    assert max(turns.numbers) <= IN_A_TURN


@in_loop
async def test_large_items_count_by_their_size() -> None:
    with Turns() as turns:
        async for _ in paced(range(50), lambda _: BUDGET_BYTES // 5):
            turns.items.append(0)
    assert len(turns.items) == 50
    assert max(turns.numbers) <= 5


@pytest.mark.parametrize(("loops", "items"), [(100, 1_000), (500, 20)])
@in_loop
async def test_many_loops_together_take_no_longer_turns_than_one(loops: int, items: int) -> None:
    with Turns() as turns:
        await asyncio.gather(*(turns.loop(items, each) for each in range(loops)))
    assert len(turns.items) == loops * items
    assert max(turns.numbers) <= IN_A_TURN + WOKEN_AT_ONCE * 30


@in_loop
async def test_no_loop_waits_for_the_end_of_all_others() -> None:
    with Turns() as turns:
        long = asyncio.ensure_future(turns.loop(1_000_000, 1))
        await asyncio.sleep(0)
        await turns.loop(1_000, 2)
        long.cancel()
    assert turns.items.count(1) < 10_000


@in_loop
async def test_a_loop_that_is_cancelled_while_it_waits_leaves_the_others_going() -> None:
    with Turns() as turns:
        loops = [asyncio.ensure_future(turns.loop(1_000, each)) for each in range(30)]
        await asyncio.sleep(0)
        for each in loops[::2]:
            each.cancel()
        await asyncio.gather(*loops, return_exceptions=True)
    assert all(turns.items.count(each) == 1_000 for each in range(1, 30, 2))


def test_another_event_loop_begins_afresh() -> None:
    """The one before may have ended in the middle of a turn."""

    async def spend_all() -> None:
        async for _ in paced(range(BUDGET_BYTES // ITEM_BYTES + 1)):
            pass

    for _ in range(2):
        asyncio.run(spend_all())
