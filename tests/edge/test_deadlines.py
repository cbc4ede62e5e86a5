"""One timer for all watched connections, and none if there is none."""

import asyncio
import contextlib
import socket
import time

import pytest
import uvloop

from catenary.edge import deadlines as module
from catenary.edge.deadlines import AT_ONCE, Deadlines
from tests.parts.heart import in_loop, settle


@pytest.fixture(autouse=True)
def _sweeps_every_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SWEEP_S", 0)


class Clock:
    """Seconds that pass when a test says so, and how often they were read."""

    def __init__(self) -> None:
        self.now = 0.0
        self.reads = 0

    def __call__(self) -> float:
        self.reads += 1
        return self.now


class Waiting:
    """Counts its timeouts; is watched again after the first ``again`` of them."""

    def __init__(self, deadlines: Deadlines, *, again: int = 0) -> None:
        self._deadlines = deadlines
        self._again = again
        self.times = 0

    def time_out(self) -> None:
        self.times += 1
        if self.times <= self._again:
            self._deadlines.watch(self)


@in_loop
async def test_a_connection_that_is_watched_again_adds_no_second_timer() -> None:
    clock = Clock()
    deadlines = Deadlines(0, clock)
    patient, other = Waiting(deadlines, again=2), Waiting(deadlines)
    deadlines.watch(patient)
    deadlines.watch(other)
    await settle()
    assert (patient.times, other.times) == (3, 1)
    # Two and two more were watched; three sweeps.
    assert clock.reads == 4 + 3


@in_loop
async def test_a_connection_is_timed_out_once_its_time_has_passed() -> None:
    clock = Clock()
    deadlines = Deadlines(5, clock)
    first, second = Waiting(deadlines), Waiting(deadlines)
    deadlines.watch(first)
    clock.now = 3
    deadlines.watch(second)
    clock.now = 4.9
    await settle()
    assert (first.times, second.times) == (0, 0)
    clock.now = 5
    await settle()
    assert (first.times, second.times) == (1, 0)
    deadlines.watch(second)
    clock.now = 8
    await settle()
    assert second.times == 0, "its time began again"
    clock.now = 10
    await settle()
    assert second.times == 1


@in_loop
async def test_a_forgotten_connection_is_not_timed_out() -> None:
    deadlines = Deadlines(0, Clock())
    gone, there = Waiting(deadlines), Waiting(deadlines)
    deadlines.watch(gone)
    deadlines.watch(there)
    deadlines.forget(gone)
    deadlines.forget(gone)
    await settle()
    assert (gone.times, there.times) == (0, 1)


def test_what_arrived_while_the_loop_was_busy_is_read_before_the_deadline_counts() -> None:
    """uvloop calls the timers that have become due during a read before it reads again."""

    async def hold() -> tuple[int, int]:
        loop = asyncio.get_running_loop()
        deadlines = Deadlines(0.001, time.monotonic, sweep_s=0.001)
        served, silent = Waiting(deadlines), Waiting(deadlines)
        with contextlib.ExitStack() as pairs:
            (work, busy), (here, there) = (
                map(pairs.enter_context, socket.socketpair()) for _ in range(2)
            )

            def receive_work() -> None:
                work.recv(1)
                deadlines.watch(served)
                deadlines.watch(silent)
                there.send(b"GET / HTTP/1.1\r\n")
                time.sleep(0.01)

            loop.add_reader(work, receive_work)
            loop.add_reader(here, deadlines.forget, served)
            busy.send(b"1")
            while not silent.times:  # noqa: ASYNC110  (nothing is waited for that a callback reports)
                await asyncio.sleep(0.001)
            loop.remove_reader(work)
            loop.remove_reader(here)
        return served.times, silent.times

    assert uvloop.run(hold()) == (0, 1)


@in_loop
async def test_many_are_timed_out_a_few_in_each_turn() -> None:
    deadlines = Deadlines(0, Clock())
    everybody = [Waiting(deadlines) for _ in range(3 * AT_ONCE + 1)]
    for each in everybody:
        deadlines.watch(each)
    over: list[int] = []
    while not over or over[-1] < len(everybody):
        await asyncio.sleep(0)
        over.append(sum(each.times for each in everybody))
    assert sorted(set(over)) == [0, AT_ONCE, 2 * AT_ONCE, 3 * AT_ONCE, len(everybody)]
    await settle()
    assert {each.times for each in everybody} == {1}


@in_loop
async def test_a_failing_timeout_does_not_prevent_others() -> None:
    failures: list[object] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: failures.append(context["exception"]))
    deadlines = Deadlines(0, Clock())

    class Broken(Waiting):
        def time_out(self) -> None:
            raise RuntimeError("the transport is closed")

    other = Waiting(deadlines)
    deadlines.watch(Broken(deadlines))
    deadlines.watch(other)
    await settle()
    assert other.times == 1
    assert len(failures) == 1
