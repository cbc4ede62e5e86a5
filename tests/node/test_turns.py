"""Large work in steps, some in each turn of the event loop, in order."""

import asyncio

from catenary.node.turns import Turns
from tests.parts.heart import in_loop, settle

BUDGET = 4


def turns_of_this_loop() -> Turns:
    return Turns(BUDGET, asyncio.get_running_loop().call_soon)


@in_loop
async def test_a_turn_has_room_for_its_budget() -> None:
    turns = turns_of_this_loop()
    assert turns.is_free
    turns.spend(BUDGET - 1)
    assert turns.is_free
    turns.spend(1)
    assert not turns.is_free
    await settle()
    assert turns.is_free


@in_loop
async def test_a_step_may_cost_more_than_is_left() -> None:
    turns = turns_of_this_loop()
    turns.spend(2 * BUDGET)
    assert not turns.is_free
    await settle()
    assert turns.room == BUDGET


@in_loop
async def test_steps_are_done_in_order_and_as_many_as_the_budget_allows() -> None:
    turns, done, seen = turns_of_this_loop(), list[int](), [0]

    def step(number: int) -> None:
        done.append(number)
        turns.spend(2)

    for number in range(6):
        turns.wait(lambda number=number: step(number))  # type: ignore[misc]
    for _ in range(6):
        await asyncio.sleep(0)
        seen.append(len(done))
    assert done == list(range(6))
    assert {2, 4} <= set(seen) <= {0, 2, 4, 6}


@in_loop
async def test_work_that_goes_on_stands_after_all_that_waits() -> None:
    turns, done = turns_of_this_loop(), list[str]()
    turns.wait(lambda: done.append("first"))
    assert not turns.is_free
    turns.wait(lambda: turns.wait(lambda: done.append("third")))
    turns.wait(lambda: done.append("second"))
    await settle()
    assert done == ["first", "second", "third"]


@in_loop
async def test_a_step_that_raises_does_not_stop_the_line() -> None:
    raised, done = list[object](), list[str]()
    asyncio.get_running_loop().set_exception_handler(
        lambda _, context: raised.append(context["exception"])
    )
    turns = turns_of_this_loop()
    turns.wait(lambda: done.remove("nobody"))
    turns.wait(lambda: done.append("second"))
    await settle()
    assert done == ["second"]
    assert isinstance(raised[0], ValueError)
    assert turns.is_free


@in_loop
async def test_nothing_is_called_while_there_is_nothing_to_do() -> None:
    called = 0

    def call_soon(call: object, *args: object) -> None:
        nonlocal called
        called += 1
        asyncio.get_running_loop().call_soon(call, *args)  # type: ignore[arg-type]

    turns = Turns(BUDGET, call_soon)
    await settle()
    assert called == 0
    turns.spend(1)
    turns.wait(lambda: None)
    await settle()
    assert called == 2
