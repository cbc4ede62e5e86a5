"""The paced queue of Disconnect calls: none lost, none made twice, none earlier than the rate allows."""

import asyncio
import logging
from collections.abc import Awaitable, Callable

import pytest

from catenary.errors import AppNotReached, AppUnavailable
from catenary.logs.fields import fields_of
from catenary.messages.environment import Environment
from catenary.messages.names import Identifier, Sid
from catenary.metrics.counters import Counters
from catenary.node import disconnector as disconnector_module
from catenary.node.disconnector import Disconnector, Ended
from tests.parts.heart import PreparedApplication, settle
from tests.parts.virtual_time import in_virtual_time

BACKLOG = 1_000_000


class Queue:
    """A disconnector, the application it tells, and when each call began."""

    def __init__(
        self,
        *,
        rate: int,
        backlog: int = BACKLOG,
        hang_up: Callable[[], Awaitable[None]] | None = None,
        at_once: int = 100,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self.counters = Counters()
        self.application = PreparedApplication()
        self.application.hang_up = self._note
        self._hang_up = hang_up
        self.began_s: list[float] = []
        self.disconnector = Disconnector(
            self.application,
            self.counters,
            rate=rate,
            backlog=backlog,
            clock=self._loop.time,
            at_once=at_once,
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


@in_virtual_time
async def test_the_call_has_the_subscriptions_of_the_session() -> None:
    queue = Queue(rate=1000)
    queue.enqueue("a")
    assert queue.counters.disconnect_queue_size == 1
    await settle()
    ((environment, subscriptions),) = queue.application.ended
    assert (environment.sid, subscriptions) == ("a", ("of-a",))
    assert queue.counters.disconnect_queue_size == 0


@in_virtual_time
async def test_a_crowd_is_paced() -> None:
    queue = Queue(rate=100)
    queue.enqueue(*names(10))
    await asyncio.sleep(1)
    assert queue.told == names(10)
    assert queue.began_s == pytest.approx([number / 100 for number in range(10)])


@in_virtual_time
async def test_clients_that_leave_one_after_the_other_are_paced_as_well() -> None:
    queue = Queue(rate=100)
    for name in names(10):
        queue.enqueue(name)
        await settle(5)  # the queue is empty again, for as long as it keeps up
    await asyncio.sleep(1)
    assert queue.told == names(10)
    assert queue.began_s == pytest.approx([number / 100 for number in range(10)])


@in_virtual_time
async def test_after_a_pause_the_first_goes_at_once_and_there_is_no_burst() -> None:
    queue = Queue(rate=100)
    queue.enqueue("early")
    await asyncio.sleep(0.05)
    queue.enqueue(*names(5))
    await asyncio.sleep(1)
    assert queue.told == ["early", *names(5)]
    # The first in its turn, and one that the pause has earned.
    assert queue.began_s == pytest.approx([0, 0.05, 0.05, 0.06, 0.07, 0.08])


@in_virtual_time
async def test_more_than_the_backlog_is_not_paced(caplog: pytest.LogCaptureFixture) -> None:
    queue = Queue(rate=1, backlog=2)
    with caplog.at_level(logging.WARNING, "catenary.disconnector"):
        queue.enqueue("early")
        await settle()
        queue.enqueue(*names(30))
        await asyncio.sleep(60)
    assert queue.told == ["early", *names(30)]
    # Calls above the backlog start at once; the last two wait until the rate is kept on the whole.
    assert queue.began_s == pytest.approx([*[0] * 29, 29, 30])
    assert "More than 2 Disconnect calls wait" in caplog.text


@in_virtual_time
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


@in_virtual_time
async def test_a_session_that_ends_during_the_drain_is_reported() -> None:
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


@in_virtual_time
async def test_a_session_that_ends_with_the_last_call_is_reported() -> None:
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


@in_virtual_time
async def test_a_drain_interrupts_the_pacer_between_two_calls_and_loses_none() -> None:
    for turns in range(8):
        queue = Queue(rate=1)
        queue.enqueue(*names(4))
        await settle(turns)
        await queue.disconnector.drain(5)
        assert queue.told == names(4)


@in_virtual_time
async def test_an_empty_drain_ends_at_once() -> None:
    await Queue(rate=1).disconnector.drain(60)
    assert asyncio.get_running_loop().time() == 0


@in_virtual_time
async def test_calls_left_after_the_timeout_are_counted(
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


@in_virtual_time
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
    assert "Disconnect call failed: nobody is there" in caplog.messages
    assert [fields_of(each).get("sid") for each in caplog.records][:2] == ["a", "b"]


# The application is away


class Application:
    """Answers, or is away: ``attempts`` are the calls that began, in their order."""

    def __init__(self) -> None:
        self.is_away = True
        self.attempts: list[str] = []
        self.unreachable: set[str] = set()
        """Calls that never get through."""

    def of(self, queue: Queue) -> None:
        """Takes the place of the queue's application."""
        queue.application.disconnect = self.disconnect  # type: ignore[method-assign]
        self.ended = queue.application.ended

    async def disconnect(
        self, environment: Environment, subscriptions: tuple[Identifier, ...]
    ) -> None:
        self.attempts.append(environment.sid)
        await asyncio.sleep(0)
        if self.is_away or environment.sid in self.unreachable:
            raise AppNotReached("nobody is there")
        self.ended.append((environment, subscriptions))


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(disconnector_module, "LONGEST_PAUSE_S", 0.02)


@in_virtual_time
async def test_calls_wait_for_an_application_that_is_away_and_are_made_once(
    quick: None, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    queue, application = Queue(rate=10_000), Application()
    application.of(queue)
    queue.enqueue(*names(50))
    await until(lambda: len(application.attempts) >= 60)
    # One at a time finds out, and none is tried again before the others.
    assert len(set(application.attempts[:50])) >= 40
    assert queue.counters.disconnect_queue_size >= 48
    queue.enqueue("late")
    application.is_away = False
    await queue_is_told(queue, 51)
    assert sorted(queue.told) == sorted([*names(50), "late"])
    assert queue.counters.disconnect_queue_size == 0
    assert [each.getMessage().partition(":")[0] for each in caplog.records] == [
        "Disconnect calls wait for the application",
        "The application is back",
    ]


@in_virtual_time
async def test_a_call_that_never_succeeds_does_not_block_the_others(quick: None) -> None:
    queue, application = Queue(rate=10_000), Application()
    application.of(queue)
    application.is_away = False
    application.unreachable.add("poison")
    queue.enqueue("poison", *names(20))
    await queue_is_told(queue, 20)
    assert sorted(queue.told) == sorted(names(20))


@in_virtual_time
async def test_one_that_it_may_have_got_is_not_made_again(caplog: pytest.LogCaptureFixture) -> None:
    async def late() -> None:
        raise AppUnavailable("no answer within 3 s")

    queue = Queue(rate=1000, hang_up=late)
    queue.enqueue("a")
    await until(lambda: "no answer within 3 s" in caplog.text)
    await settle()
    assert len(queue.began_s) == 1
    assert queue.counters.disconnect_queue_size == 0


@in_virtual_time
async def test_the_queue_has_a_limit_and_the_oldest_are_given_up(
    quick: None, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(disconnector_module, "QUEUE_LIMIT", 100)
    queue, application = Queue(rate=10_000), Application()
    application.of(queue)
    queue.enqueue(*names(150))
    await settle()
    assert queue.counters.disconnect_queue_size <= 100
    assert queue.counters.abandoned_disconnects_total >= 50
    assert "Disconnect calls were abandoned, because more than 100 waited" in caplog.text
    application.is_away = False
    await until(lambda: queue.counters.disconnect_queue_size == 0)
    await queue.disconnector.drain(1)
    assert len(queue.told) + queue.counters.abandoned_disconnects_total == 150
    assert len(set(queue.told)) == len(queue.told)


@in_virtual_time
async def test_only_so_many_are_under_way_however_slow_they_are() -> None:
    gate = asyncio.Event()

    async def slow() -> None:
        await gate.wait()

    queue = Queue(rate=10_000, hang_up=slow, at_once=3)
    queue.enqueue(*names(10))
    await asyncio.sleep(0.02)
    assert len(queue.began_s) == 3
    gate.set()
    await queue_is_told(queue, 10)


@in_virtual_time
async def test_a_drain_does_not_wait_for_an_application_that_is_away(
    caplog: pytest.LogCaptureFixture,
) -> None:
    queue, application = Queue(rate=10_000), Application()
    application.of(queue)
    queue.enqueue(*names(50))
    await settle()
    await asyncio.wait_for(queue.disconnector.drain(60), 1)
    assert queue.counters.abandoned_disconnects_total == 50
    assert "50 Disconnect calls were not made: the application is away" in caplog.text
    assert len(set(application.attempts)) == 50


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110  (nothing here can set an event)
            await asyncio.sleep(0.001)


async def queue_is_told(queue: Queue, number: int) -> None:
    deadline_s = asyncio.get_running_loop().time() + 5
    while len(queue.told) < number:
        assert asyncio.get_running_loop().time() < deadline_s, queue.told
        await asyncio.sleep(0.005)


@in_virtual_time
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
