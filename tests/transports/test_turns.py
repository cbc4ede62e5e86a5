"""A few clients in each turn of the loop."""

import asyncio

from catenary.transports.turns import PER_TURN, Turns
from tests.parts.heart import in_loop, settle


@in_loop
async def test_a_turn_has_room_for_a_few() -> None:
    turns = Turns()
    assert [turns.take() for _ in range(PER_TURN + 1)] == [True] * PER_TURN + [False]
    await settle()
    assert turns.take()


@in_loop
async def test_whoever_waits_is_served_in_order_and_a_few_at_a_time() -> None:
    turns, served, seen = Turns(), list[int](), [0]
    for number in range(3 * PER_TURN):
        turns.wait(lambda number=number: served.append(number))  # type: ignore[misc]
    for _ in range(6):
        await asyncio.sleep(0)
        seen.append(len(served))
    assert served == list(range(3 * PER_TURN))
    assert {PER_TURN, 2 * PER_TURN} <= set(seen) <= {0, PER_TURN, 2 * PER_TURN, 3 * PER_TURN}


@in_loop
async def test_who_comes_while_others_wait_stands_behind_them() -> None:
    turns, served = Turns(), list[str]()
    turns.wait(lambda: served.append("first"))
    assert not turns.take()
    turns.wait(lambda: turns.wait(lambda: served.append("third")))
    turns.wait(lambda: served.append("second"))
    await settle()
    assert served == ["first", "second", "third"]


@in_loop
async def test_one_that_raises_does_not_stop_the_line() -> None:
    raised, served = list[object](), list[str]()
    asyncio.get_running_loop().set_exception_handler(
        lambda _, context: raised.append(context["exception"])
    )
    turns = Turns()
    turns.wait(lambda: served.remove("nobody"))
    turns.wait(lambda: served.append("second"))
    await settle()
    assert served == ["second"]
    assert isinstance(raised[0], ValueError)
    assert turns.take()
