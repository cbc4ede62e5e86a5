"""A few handshakes in each turn of the loop, in order, and none twice."""

import asyncio
import functools

from catenary.edge.handshake_queue import PER_TURN, HandshakeQueue
from catenary.metrics.counters import Counters
from tests.parts.heart import in_loop


@in_loop
async def test_a_few_in_each_turn_and_in_order() -> None:
    counters = Counters()
    queue = HandshakeQueue(1000, counters, asyncio.get_running_loop().call_soon)
    served: list[int] = []
    for number in range(3 * PER_TURN):
        assert queue.enter(number, functools.partial(served.append, number))
    assert served == list(range(PER_TURN))
    assert counters.held_handshakes_total == 2 * PER_TURN
    await asyncio.sleep(0)
    assert served == list(range(2 * PER_TURN))
    await asyncio.sleep(0)
    assert served == list(range(3 * PER_TURN))
    # Nothing waits: the next is served at once.
    await asyncio.sleep(0)
    queue.enter("next", lambda: served.append(-1))
    assert served[-1] == -1


@in_loop
async def test_a_later_handshake_does_not_overtake() -> None:
    queue = HandshakeQueue(1000, Counters(), asyncio.get_running_loop().call_soon)
    served: list[int] = []
    for number in range(2 * PER_TURN + 1):
        queue.enter(number, functools.partial(served.append, number))
    await asyncio.sleep(0)
    queue.enter(99, lambda: served.append(99))
    await asyncio.sleep(0)
    assert served == [*range(2 * PER_TURN + 1), 99]


@in_loop
async def test_the_queue_has_a_limit() -> None:
    queue = HandshakeQueue(2, Counters(), asyncio.get_running_loop().call_soon)
    taken = [queue.enter(number, lambda: None) for number in range(PER_TURN + 3)]
    assert taken == [True] * (PER_TURN + 2) + [False]


@in_loop
async def test_an_owner_that_leaves_is_not_served_and_one_that_sends_more_keeps_its_position() -> (
    None
):
    queue = HandshakeQueue(10, Counters(), asyncio.get_running_loop().call_soon)
    served: list[str] = []
    for number in range(PER_TURN):
        queue.enter(number, lambda: None)
    for name in "abc":
        queue.enter(name, functools.partial(served.append, name))
    assert "b" in queue
    queue.leave("b")
    queue.leave("nobody")
    queue.enter("a", lambda: served.append("a, and more"))
    await asyncio.sleep(0)
    assert served == ["a, and more", "c"]
    assert "a" not in queue


def upset() -> None:
    raise ValueError("upset")


@in_loop
async def test_a_callback_that_raises_does_not_stop_the_queue() -> None:
    queue = HandshakeQueue(10, Counters(), asyncio.get_running_loop().call_soon)
    served: list[str] = []
    heard: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: heard.append(context))
    for number in range(PER_TURN):
        queue.enter(number, lambda: None)
    queue.enter("a", upset)
    queue.enter("b", lambda: served.append("b"))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert served == ["b"]
    assert len(heard) == 1
