"""Connections on which something must be said soon: one timer watches over all of them.

Knows: when each was last waited for. Does not know: what is said.
"""

import asyncio
from collections.abc import Callable
from typing import Final

from catenary.ports import Waiting

SWEEP_S: Final = 1.0

AT_ONCE: Final = 50
"""Connections that are timed out in one turn of the loop: 2 to 3 ms. Others wait for the next."""


class Deadlines:
    """Satisfies :class:`catenary.ports.Watch`. Times out whoever is watched for longer than ``timeout_s``, within a second.

    ``clock`` is monotonic, in seconds. The timer exists only while somebody is watched.
    """

    __slots__ = ("_clock", "_sweeper", "_waiting", "timeout_s")

    def __init__(self, timeout_s: float, clock: Callable[[], float]) -> None:
        self.timeout_s = timeout_s
        self._clock = clock
        self._waiting: dict[Waiting, float] = {}
        self._sweeper: asyncio.Handle | None = None

    def watch(self, connection: Waiting) -> None:
        """From now on its time runs; once more for one that is watched already."""
        self._waiting.pop(connection, None)
        self._waiting[connection] = self._clock() + self.timeout_s
        if self._sweeper is None:
            self._sweep_later()

    def forget(self, connection: Waiting) -> None:
        """It has spoken, or it is gone."""
        self._waiting.pop(connection, None)

    def _sweep_later(self) -> None:
        self._sweeper = asyncio.get_running_loop().call_later(SWEEP_S, self._sweep)

    def _sweep(self) -> None:
        self._sweeper = None
        overdue = self._overdue(self._clock())
        for connection in overdue:
            del self._waiting[connection]
        if len(overdue) == AT_ONCE:
            self._sweeper = asyncio.get_running_loop().call_soon(self._sweep)
        for connection in overdue:
            connection.time_out()
        if self._waiting and self._sweeper is None:
            self._sweep_later()

    def _overdue(self, now: float) -> list[Waiting]:
        """In the order of their deadlines, which is theirs."""
        overdue: list[Waiting] = []
        for connection, deadline in self._waiting.items():
            if deadline > now or len(overdue) == AT_ONCE:
                break
            overdue.append(connection)
        return overdue


class NoDeadlines:
    """Satisfies :class:`catenary.ports.Watch`: everybody may take as long as they like."""

    __slots__ = ()

    def watch(self, connection: Waiting) -> None:
        """Nothing happens."""

    def forget(self, connection: Waiting) -> None:
        """Nothing would have happened."""
