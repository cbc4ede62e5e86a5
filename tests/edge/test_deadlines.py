"""One timer for everybody who is watched, and none for nobody."""

import asyncio

from catenary.edge.deadlines import AT_ONCE, SWEEP_S, Deadlines
from tests.parts.heart import in_loop


class Waiting:
    """Notes when it was timed out; may want to be watched once more."""

    def __init__(self, deadlines: Deadlines, *, again: int = 0) -> None:
        self._deadlines = deadlines
        self._again = again
        self.times = 0

    def time_out(self) -> None:
        self.times += 1
        if self.times <= self._again:
            self._deadlines.watch(self)


@in_loop
async def test_who_is_watched_once_more_brings_no_second_timer() -> None:
    loop = asyncio.get_running_loop()
    sweeps = 0

    def clock() -> float:
        nonlocal sweeps
        sweeps += 1
        return loop.time()

    deadlines = Deadlines(0, clock)
    patient, other = Waiting(deadlines, again=2), Waiting(deadlines)
    deadlines.watch(patient)
    deadlines.watch(other)
    await asyncio.sleep(3.5 * SWEEP_S)
    assert (patient.times, other.times) == (3, 1)
    # Two and two more were watched; three sweeps.
    assert sweeps == 4 + 3


@in_loop
async def test_who_is_forgotten_is_left_alone() -> None:
    deadlines = Deadlines(0, asyncio.get_running_loop().time)
    gone, there = Waiting(deadlines), Waiting(deadlines)
    deadlines.watch(gone)
    deadlines.watch(there)
    deadlines.forget(gone)
    deadlines.forget(gone)
    await asyncio.sleep(1.5 * SWEEP_S)
    assert (gone.times, there.times) == (0, 1)


@in_loop
async def test_many_are_timed_out_a_few_in_each_turn() -> None:
    deadlines = Deadlines(0, asyncio.get_running_loop().time)
    everybody = [Waiting(deadlines) for _ in range(3 * AT_ONCE + 1)]
    for each in everybody:
        deadlines.watch(each)
    over: list[int] = []
    while not over or over[-1] < len(everybody):
        await asyncio.sleep(0)
        over.append(sum(each.times for each in everybody))
    assert sorted(set(over)) == [0, AT_ONCE, 2 * AT_ONCE, 3 * AT_ONCE, len(everybody)]
    await asyncio.sleep(1.5 * SWEEP_S)
    assert {each.times for each in everybody} == {1}


@in_loop
async def test_one_that_cannot_be_timed_out_keeps_no_other_from_it() -> None:
    failures: list[object] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: failures.append(context["exception"]))
    deadlines = Deadlines(0, loop.time)

    class Broken(Waiting):
        def time_out(self) -> None:
            raise RuntimeError("the transport is closed")

    other = Waiting(deadlines)
    deadlines.watch(Broken(deadlines))
    deadlines.watch(other)
    await asyncio.sleep(2.5 * SWEEP_S)
    assert other.times == 1
    assert len(failures) == 1
