"""Measures how work grows with its input: prepares it for several sizes, counts its cost, compares.

There are two measures, because neither detects everything:

- **Steps**: executed lines and calls of Python (``sys.settrace``), exact and the same on every machine.
  They count each loop in Python, and none in C.
- **CPU** of this thread, for sizes at which a copy of everything (``bytes + bytes``, ``list.pop(0)``,
  ``in`` on a list, the first key of a dict whose first keys were deleted) takes longer than all other work.
  Linear work takes ten times as long for ten times the input, quadratic work a hundred times: the
  limit is far from both, and only the best of several runs counts, so that a busy machine does not fail it.

A case is a function that returns the work to be measured for a size; the case itself is not measured::

    def a_line_byte_by_byte(size: int) -> Work:
        reader, pieces = Reader(), in_pieces(b"x" * size + b"\r\n")
        return for_each(pieces, reader.feed)

Add it to the list of ``parametrize`` below it. Work that waits returns an awaitable; an event loop is running.
"""

import asyncio
import gc
import itertools
import sys
import time
from collections.abc import Awaitable, Callable, Iterable
from types import FrameType
from typing import Any, Final, NamedTuple, TypeVar

T = TypeVar("T")
Work = Callable[[], object]
Case = Callable[[int], Work]

SIZES: Final = (10, 100, 1_000)
STEPS_RATIO: Final = 14
"""Limit of steps for ten times the input: 10 times as many, or some more for a sort or a heap."""

LARGE_SIZES: Final = (1_000, 10_000)
CPU_RATIO: Final = 40
"""What ten times the input may take: linear work was seen to take 26 times as much where only the smaller size fits in
the processor's caches; quadratic work takes 100 times as much."""

ATTEMPTS: Final = 3

LARGER_TURN: Final = 1.5
"""Limit of the growth of the longest turn of the event loop for ten times the input."""


def for_each(inputs: Iterable[T], call: Callable[[T], object]) -> Work:
    """The work of one call for each input."""

    def work() -> None:
        for each in inputs:
            call(each)

    return work


class Counted(NamedTuple):
    """Steps of all, and of the longest turn of the event loop."""

    steps: int
    longest_turn: int


def count(case: Case, size: int) -> Counted:
    """Runs a case of a size once, and counts its steps."""
    counting = _CountingLoop()
    with asyncio.Runner(loop_factory=lambda: counting) as runner:
        runner.run(_run(case, size, counting.begin, counting.end))
    return Counted(counting.steps, counting.longest_turn)


async def steps_of(work: Callable[[], Awaitable[object]]) -> int:
    """Awaits some work, which may wait for a server, and counts its steps in this process."""
    steps = 0

    def trace(frame: FrameType, event: str, arg: object) -> Any:
        nonlocal steps
        steps += 1
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        await work()
    finally:
        sys.settrace(before)
    return steps


def cpu_s(case: Case, size: int) -> float:
    """Runs a case of a size once, and measures its CPU time."""
    moments: list[float] = []

    def note() -> None:
        moments.append(time.thread_time())

    gc.collect()
    gc.disable()
    try:
        asyncio.run(_run(case, size, note, note))
    finally:
        gc.enable()
    return moments[1] - moments[0]


def assert_near_linear(
    case: Case, *, sizes: tuple[int, ...] = SIZES, large_sizes: tuple[int, int] = LARGE_SIZES
) -> None:
    """Ten times the input takes about ten times the work."""
    steps = [count(case, size).steps for size in sizes]
    for less, more in itertools.pairwise(steps):
        assert more <= less * STEPS_RATIO, f"expected steps in proportion to {sizes}, got {steps}"
    small, large = large_sizes
    least_small_s = least_large_s = float("inf")
    for _ in range(ATTEMPTS):
        least_small_s = min(least_small_s, *(cpu_s(case, small) for _ in range(3)))
        least_large_s = min(least_large_s, cpu_s(case, large))
        if least_large_s <= least_small_s * CPU_RATIO:
            return
    ratio = least_large_s / least_small_s
    raise AssertionError(f"expected 10 times the CPU for 10 times the input, got {ratio:.0f} times")


def assert_turns_bounded(case: Case, *, size: int = 1_000) -> None:
    """The longest turn of the event loop is as long for ten times the input."""
    less, more = count(case, size), count(case, size * 10)
    assert more.steps > less.steps * 2, f"expected more work for more input: {less}, {more}"
    assert more.longest_turn <= less.longest_turn * LARGER_TURN, (
        f"expected turns that do not grow with the input: {less}, {more}"
    )


async def _run(case: Case, size: int, begin: Callable[[], None], end: Callable[[], None]) -> None:
    work = case(size)
    # Callbacks that the preparation has scheduled run before the work begins.
    await asyncio.sleep(0)
    begin()
    try:
        done = work()
        if isinstance(done, Awaitable):
            await done
    finally:
        end()


class _CountingLoop(asyncio.SelectorEventLoop):
    """An event loop that counts the steps of each of its turns between ``begin`` and ``end``."""

    def __init__(self) -> None:
        super().__init__()
        self.steps = 0
        self.longest_turn = 0
        self._turn_began_at = 0
        self._before: Any = None

    def begin(self) -> None:
        self._turn_began_at = self.steps
        self._before = sys.gettrace()
        sys.settrace(self._trace)

    def end(self) -> None:
        sys.settrace(self._before)
        self._end_turn()

    def _run_once(self) -> None:
        super()._run_once()  # type: ignore[misc]
        self._end_turn()

    def _end_turn(self) -> None:
        self.longest_turn = max(self.longest_turn, self.steps - self._turn_began_at)
        self._turn_began_at = self.steps

    def _trace(self, frame: FrameType, event: str, arg: object) -> Any:
        self.steps += 1
        return self._trace
