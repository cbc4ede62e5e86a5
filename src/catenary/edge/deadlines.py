"""Times out connections on which expected bytes do not arrive, with one timer for all of them.

Knows: when each wait began. Does not know: what is expected.
"""

import asyncio
from collections.abc import Callable
from typing import Final

from catenary.ports import Waiting

SWEEP_S: Final = 1.0

AT_ONCE: Final = 50
"""At most so many connections are timed out in one turn of the event loop: 2 to 3 ms."""


class Deadlines:
    """Satisfies :class:`catenary.ports.Watch`. Calls ``time_out`` of connections that are watched for more
    than ``timeout_s``, at most ``sweep_s`` late (default: a second).

    ``clock`` is monotonic, in seconds. The timer exists only while a connection is watched.
    """

    __slots__ = ("_clock", "_sweep_s", "_sweeper", "_waiting", "timeout_s")

    def __init__(
        self, timeout_s: float, clock: Callable[[], float], sweep_s: float | None = None
    ) -> None:
        self.timeout_s = timeout_s
        self._clock = clock
        self._sweep_s = SWEEP_S if sweep_s is None else sweep_s
        self._waiting: dict[Waiting, float] = {}
        self._sweeper: asyncio.Handle | None = None

    def watch(self, connection: Waiting) -> None:
        """Starts its timeout, or starts it again."""
        self._waiting.pop(connection, None)
        self._waiting[connection] = self._clock() + self.timeout_s
        if self._sweeper is None:
            self._sweep_later()

    def forget(self, connection: Waiting) -> None:
        """Stops its timeout: the bytes arrived, or the connection is closed."""
        self._waiting.pop(connection, None)

    def __contains__(self, connection: Waiting) -> bool:
        """Whether it is watched."""
        return connection in self._waiting

    def _sweep_later(self) -> None:
        self._sweeper = asyncio.get_running_loop().call_later(
            self._sweep_s, self._sweep_after_reading
        )

    def _sweep_after_reading(self) -> None:
        """A timer that is late because the loop was busy is called before the loop reads what has arrived meanwhile: the sweep
        follows after that, in the turn after the next."""
        self._sweeper = asyncio.get_running_loop().call_soon(self._sweep_next)

    def _sweep_next(self) -> None:
        self._sweeper = asyncio.get_running_loop().call_soon(self._sweep)

    def _sweep(self) -> None:
        self._sweeper = None
        overdue = self._overdue(self._clock())
        try:
            for connection in overdue:
                # The end of one connection may have ended another.
                if self._waiting.pop(connection, None) is not None:
                    connection.time_out()
        finally:
            # Also after an exception: the remaining ones are timed out in the next turn.
            if len(overdue) == AT_ONCE:
                self._sweeper = asyncio.get_running_loop().call_soon(self._sweep)
            elif self._waiting and self._sweeper is None:
                self._sweep_later()

    def _overdue(self, now: float) -> list[Waiting]:
        """Insertion order is deadline order: every entry has the same timeout."""
        overdue: list[Waiting] = []
        for connection, deadline in self._waiting.items():
            if deadline > now or len(overdue) == AT_ONCE:
                break
            overdue.append(connection)
        return overdue


class NoDeadlines:
    """Satisfies :class:`catenary.ports.Watch`: nothing times out."""

    __slots__ = ()

    def watch(self, connection: Waiting) -> None:
        """Does nothing."""

    def forget(self, connection: Waiting) -> None:
        """Does nothing."""
