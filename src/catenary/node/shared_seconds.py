"""The time in whole seconds, as one int object for all callers within a second: storing it for each client takes no memory.

Knows: a clock. Does not know: clients.
"""

from collections.abc import Callable


class SharedSeconds:
    """``clock`` returns seconds since 1970."""

    __slots__ = ("_clock", "_now")

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._now = 0

    def now(self) -> int:
        """Whole seconds since 1970."""
        now = int(self._clock())
        if now != self._now:
            self._now = now
        return self._now
