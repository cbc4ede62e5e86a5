"""Shares of the event loop: large work is done in steps, some in each turn of the loop.

All large work waits in one queue. A turn has a budget: steps are called until it is spent. The event loop handles all
other events before the next turn, so no client waits for the whole of another client's request.
Knows: the queue, costs. Does not know: what a step does.
"""

from collections import deque
from collections.abc import Callable, Iterator
from functools import partial
from typing import Final

CLIENTS_BUDGET_US: Final = 2_000
"""The budget of a turn for all clients that send or request much, in microseconds as estimated by the callers."""

Step = Callable[[], None]
"""One step of some work. It calls :meth:`Turns.spend` with its cost, and :meth:`Turns.wait` for the next step,
if any."""


class Turns:
    """One queue for one event loop. ``budget`` is the cost of a turn, in a unit on which all callers agree.

    A step is called even if it costs more than the rest of the budget.
    """

    __slots__ = ("_call_soon", "_is_due", "_queue", "budget", "room")

    def __init__(self, budget: int, call_soon: Callable[..., object]) -> None:
        """``call_soon`` is the loop's."""
        self._call_soon = call_soon
        self._is_due = False
        self._queue: deque[Step] = deque()
        self.budget = budget
        self.room = budget
        """The rest of the budget of this turn."""

    @property
    def is_free(self) -> bool:
        """Whether this turn has room, and no step waits for it."""
        return self.room > 0 and not self._queue

    def spend(self, cost: int) -> None:
        """Subtracts a cost from the budget of this turn."""
        self.room -= cost
        self._schedule()

    def run(self, work: Iterator[int]) -> None:
        """Runs work whose steps yield their cost: as many as this turn has room for, the others in later turns. The
        work must not raise."""
        if self.is_free:
            self._continue(work)
        else:
            self.wait(partial(self._continue, work))

    def _continue(self, work: Iterator[int]) -> None:
        for cost in work:
            self.spend(cost)
            if self.room <= 0:
                self.wait(partial(self._continue, work))
                return

    def wait(self, step: Step) -> None:
        """Queues a step: it is called in a later turn, after all that wait before it."""
        self._queue.append(step)
        self._schedule()

    def _schedule(self) -> None:
        if not self._is_due:
            self._is_due = True
            self._call_soon(self._turn)

    def _turn(self) -> None:
        self.room = self.budget
        if not self._queue:
            self._is_due = False
            return
        # First, so that a step that raises does not stop the queue.
        self._call_soon(self._turn)
        while self._queue and self.room > 0:
            self._queue.popleft()()
