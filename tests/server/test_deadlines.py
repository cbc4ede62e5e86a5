"""One timer for everybody who is watched, and none for nobody."""

import asyncio

from catenary.server.deadlines import SWEEP_S, Deadlines
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
