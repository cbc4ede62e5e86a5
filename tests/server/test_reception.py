"""A few handshakes in each turn of the loop, in order, and nobody twice."""

import asyncio
import functools

from catenary.metrics.counters import Counters
from catenary.server.reception import PER_TURN, Reception
from tests.parts.heart import in_loop


@in_loop
async def test_a_few_in_each_turn_and_in_order() -> None:
    counters = Counters()
    reception = Reception(1000, counters, asyncio.get_running_loop().call_soon)
    served: list[int] = []
    for number in range(3 * PER_TURN):
        assert reception.receive(number, functools.partial(served.append, number))
    assert served == list(range(PER_TURN))
    assert counters.held_handshakes_total == 2 * PER_TURN
    await asyncio.sleep(0)
    assert served == list(range(2 * PER_TURN))
    await asyncio.sleep(0)
    assert served == list(range(3 * PER_TURN))
    # Nobody is in line: the next is served at once.
    await asyncio.sleep(0)
    reception.receive("next", lambda: served.append(-1))
    assert served[-1] == -1


@in_loop
async def test_who_comes_later_does_not_overtake() -> None:
    reception = Reception(1000, Counters(), asyncio.get_running_loop().call_soon)
    served: list[int] = []
    for number in range(2 * PER_TURN + 1):
        reception.receive(number, functools.partial(served.append, number))
    await asyncio.sleep(0)
    reception.receive(99, lambda: served.append(99))
    await asyncio.sleep(0)
    assert served == [*range(2 * PER_TURN + 1), 99]


@in_loop
async def test_the_line_has_an_end() -> None:
    reception = Reception(2, Counters(), asyncio.get_running_loop().call_soon)
    taken = [reception.receive(number, lambda: None) for number in range(PER_TURN + 3)]
    assert taken == [True] * (PER_TURN + 2) + [False]


@in_loop
async def test_who_leaves_is_not_served_and_who_says_more_keeps_its_place() -> None:
    reception = Reception(10, Counters(), asyncio.get_running_loop().call_soon)
    served: list[str] = []
    for number in range(PER_TURN):
        reception.receive(number, lambda: None)
    for name in "abc":
        reception.receive(name, functools.partial(served.append, name))
    assert reception.holds("b")
    reception.forget("b")
    reception.forget("nobody")
    reception.receive("a", lambda: served.append("a, and more"))
    await asyncio.sleep(0)
    assert served == ["a, and more", "c"]
    assert not reception.holds("a")


def upset() -> None:
    raise ValueError("upset")


@in_loop
async def test_one_that_upsets_the_server_does_not_stop_the_line() -> None:
    reception = Reception(10, Counters(), asyncio.get_running_loop().call_soon)
    served: list[str] = []
    heard: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: heard.append(context))
    for number in range(PER_TURN):
        reception.receive(number, lambda: None)
    reception.receive("a", upset)
    reception.receive("b", lambda: served.append("b"))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert served == ["b"]
    assert len(heard) == 1
