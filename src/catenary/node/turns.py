"""Shares of the event loop: work that is larger than a turn of it may hold is done in steps, some in each turn.

Everybody who has such work stands in one line. A turn has a budget; steps are called until it is used up, and all
other events of the loop are served before the next turn: whatever a client asks for, others do not wait for the
whole of it.
Knows: an order, costs. Does not know: what a step does.
"""

from collections import deque
from collections.abc import Callable, Iterator
from functools import partial
from typing import Final

CLIENTS_BUDGET_US: Final = 2_000
"""What a turn may cost for all clients that send or ask for much, in microseconds, as whoever spends estimates it."""

Step = Callable[[], None]
"""One step of some work. It calls :meth:`Turns.spend` with what it costs, and :meth:`Turns.wait` if there is
another."""


class Turns:
    """One line, for one event loop. ``budget`` is what a turn may cost, in a unit that all who spend agree on.

    A step that costs more than what is left of the budget is done all the same.
    """

    __slots__ = ("_call_soon", "_is_due", "_line", "budget", "room")

    def __init__(self, budget: int, call_soon: Callable[..., object]) -> None:
        """``call_soon`` is the loop's."""
        self._call_soon = call_soon
        self._is_due = False
        self._line: deque[Step] = deque()
        self.budget = budget
        self.room = budget
        """What is left of the budget of this turn."""

    @property
    def is_free(self) -> bool:
        """Is there room in this turn, and nobody who waits for it?"""
        return self.room > 0 and not self._line

    def spend(self, cost: int) -> None:
        """Takes something from the budget of this turn."""
        self.room -= cost
        self._begin()

    def run(self, work: Iterator[int]) -> None:
        """Carries out some work, whose steps yield what each has cost: as many as this turn has room for, the
        others in turns to come. It must not raise."""
        if self.is_free:
            self._go_on(work)
        else:
            self.wait(partial(self._go_on, work))

    def _go_on(self, work: Iterator[int]) -> None:
        for cost in work:
            self.spend(cost)
            if self.room <= 0:
                self.wait(partial(self._go_on, work))
                return

    def wait(self, step: Step) -> None:
        """Calls a step in a turn to come, after all that wait already."""
        self._line.append(step)
        self._begin()

    def _begin(self) -> None:
        if not self._is_due:
            self._is_due = True
            self._call_soon(self._turn)

    def _turn(self) -> None:
        self.room = self.budget
        if not self._line:
            self._is_due = False
            return
        # First, so that a step that raises does not stop the line.
        self._call_soon(self._turn)
        while self._line and self.room > 0:
            self._line.popleft()()
