"""The paced queue of Disconnect calls: nothing lost, nothing twice, no faster than it may."""

import asyncio
import logging
from collections.abc import Awaitable, Callable

import pytest

from catenary.errors import AppUnavailable
from catenary.messages.environment import Environment
from catenary.messages.names import Identifier, Sid
from catenary.metrics.counters import Counters
from catenary.node.disconnector import Disconnector, Ended
from tests.parts.heart import PreparedApplication, in_loop, settle

BACKLOG = 1_000_000


class Queue:
    """A disconnector, the application it tells, and when each call began."""

    def __init__(
        self,
        *,
        rate: int,
        backlog: int = BACKLOG,
        hang_up: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self.counters = Counters()
        self.application = PreparedApplication()
        self.application.hang_up = self._note
        self._hang_up = hang_up
        self.began_s: list[float] = []
        self.disconnector = Disconnector(
            self.application, self.counters, rate=rate, backlog=backlog, clock=self._loop.time
        )

    async def _note(self) -> None:
        self.began_s.append(self._loop.time())
        if self._hang_up is not None:
            await self._hang_up()

    def enqueue(self, *sids: str) -> None:
        for sid in sids:
            environment = Environment(Sid(sid), "ws://test/", {})
            self.disconnector.enqueue(Ended(environment, (Identifier(f"of-{sid}"),)))

    @property
    def told(self) -> list[str]:
        return [environment.sid for environment, _ in self.application.ended]


def names(number: int) -> list[str]:
    return [f"s{n}" for n in range(number)]


@in_loop
async def test_a_session_is_told_with_its_subscriptions() -> None:
    queue = Queue(rate=1000)
    queue.enqueue("a")
    assert queue.counters.disconnect_queue_size == 1
    await settle()
    ((environment, subscriptions),) = queue.application.ended
    assert (environment.sid, subscriptions) == ("a", ("of-a",))
    assert queue.counters.disconnect_queue_size == 0


@in_loop
async def test_a_crowd_is_paced() -> None:
    queue = Queue(rate=100)
    queue.enqueue(*names(10))
    await queue_is_told(queue, 10)
    assert queue.told == names(10)
    spent_s = queue.began_s[-1] - queue.began_s[0]
    assert spent_s >= 0.085, "ten calls at 100 a second take 90 ms"


@in_loop
async def test_those_who_leave_one_after_the_other_are_paced_as_well() -> None:
    queue = Queue(rate=100)
    for name in names(10):
        queue.enqueue(name)
        await settle(5)  # the queue is empty again, for as long as it keeps up
    await queue_is_told(queue, 10)
    assert queue.told == names(10)
    assert queue.began_s[-1] - queue.began_s[0] >= 0.085


@in_loop
async def test_after_a_pause_the_first_goes_at_once_and_there_is_no_burst() -> None:
    queue = Queue(rate=100)
    queue.enqueue("early")
    await asyncio.sleep(0.05)
    queue.enqueue(*names(5))
    await settle()
    # One in its turn and one that the pause has earned, at most.
    assert 2 <= len(queue.told) <= 3
    await queue_is_told(queue, 6)


@in_loop
async def test_more_than_the_backlog_is_not_paced(caplog: pytest.LogCaptureFixture) -> None:
    queue = Queue(rate=1, backlog=2)
    with caplog.at_level(logging.WARNING, "catenary.disconnector"):
        queue.enqueue("early")
        await settle()
        queue.enqueue(*names(30))
        await asyncio.sleep(1.1)
        told = len(queue.told)
    assert told >= 28, "what is above the backlog goes as soon as the pacer wakes"
    assert "More than 2 Disconnect calls wait" in caplog.text
    await queue.disconnector.drain(1)
    assert queue.told == ["early", *names(30)]


@in_loop
async def test_draining_is_not_paced_and_waits_for_the_calls() -> None:
    gate = asyncio.Event()

    async def slow() -> None:
        await gate.wait()

    queue = Queue(rate=1, hang_up=slow)
    queue.enqueue(*names(50))
    draining = asyncio.ensure_future(queue.disconnector.drain(5))
    await settle()
    assert len(queue.began_s) == 50
    assert not draining.done()
    gate.set()
    await draining
    assert sorted(queue.told) == sorted(names(50))
    assert queue.counters.abandoned_disconnects_total == 0


@in_loop
async def test_who_leaves_during_the_drain_is_told_too() -> None:
    queue = Queue(rate=1)
    left = iter(names(5))

    async def one_more_leaves() -> None:
        name = next(left, None)
        if name is not None:
            queue.enqueue(name)

    queue._hang_up = one_more_leaves
    queue.enqueue("first")
    await queue.disconnector.drain(5)
    assert queue.told == ["first", *names(5)]


@in_loop
async def test_who_leaves_when_the_last_call_ends_is_told_too() -> None:
    gates = [asyncio.get_running_loop().create_future() for _ in range(2)]
    waiting = iter(gates)

    async def gated() -> None:
        await next(waiting)

    queue = Queue(rate=1000, hang_up=gated)
    queue.enqueue("a")
    draining = asyncio.ensure_future(queue.disconnector.drain(5))
    await settle()
    gates[0].set_result(None)
    gates[1].set_result(None)
    queue.enqueue("b")
    await draining
    assert queue.told == ["a", "b"]


@in_loop
async def test_a_drain_interrupts_the_pacer_between_two_calls_and_loses_none() -> None:
    for turns in range(8):
        queue = Queue(rate=1)
        queue.enqueue(*names(4))
        await settle(turns)
        await queue.disconnector.drain(5)
        assert queue.told == names(4)


@in_loop
async def test_an_empty_drain_ends_at_once() -> None:
    await asyncio.wait_for(Queue(rate=1).disconnector.drain(60), 0.5)


@in_loop
async def test_what_the_time_does_not_suffice_for_is_counted(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def never() -> None:
        await asyncio.Event().wait()

    queue = Queue(rate=1, hang_up=never)
    queue.enqueue(*names(250))
    with caplog.at_level(logging.ERROR, "catenary.disconnector"):
        await asyncio.wait_for(queue.disconnector.drain(0.05), 2)
    assert queue.counters.abandoned_disconnects_total == 250
    assert "250 Disconnect calls" in caplog.text
    assert queue.told == []


@in_loop
async def test_a_call_that_fails_is_logged_and_the_next_is_made(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def away() -> None:
        raise AppUnavailable("nobody is there")

    queue = Queue(rate=1000, hang_up=away)
    queue.enqueue("a", "b")
    with caplog.at_level(logging.WARNING, "catenary.disconnector"):
        await queue.disconnector.drain(5)
    assert len(queue.began_s) == 2
    assert "sid=a Disconnect call failed: nobody is there" in caplog.text


async def queue_is_told(queue: Queue, number: int) -> None:
    deadline_s = asyncio.get_running_loop().time() + 5
    while len(queue.told) < number:
        assert asyncio.get_running_loop().time() < deadline_s, queue.told
        await asyncio.sleep(0.005)


@in_loop
async def test_a_pacer_that_fails_or_is_cancelled_by_mistake_is_followed_by_another(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("catenary.node.disconnector.PAUSE_S", 0.01)
    queue = Queue(rate=100)
    queue.enqueue(*names(10))
    await queue_is_told(queue, 2)
    pacer = queue.disconnector._pacer
    assert pacer is not None
    pacer.cancel()
    await queue_is_told(queue, 4)
    clock, queue.disconnector._clock = queue.disconnector._clock, lambda: 1 // 0
    await settle()
    async with asyncio.timeout(5):
        while "ZeroDivisionError" not in caplog.text:  # noqa: ASYNC110
            await asyncio.sleep(0.005)
    queue.disconnector._clock = clock
    await queue_is_told(queue, 10)
    await queue.disconnector.drain(1)
