"""Log lines that anybody can cause: so many in a second, then how many were left out.

A line takes longer to write than what caused it took to refuse: a flood must not get one for each.
Knows: a logger, a clock. Does not know: what is complained of.
"""

import logging
import time
from collections.abc import Callable
from typing import Final

LINES_PER_SECOND: Final = 100


class Complaints:
    """Writes to one logger. ``clock`` is monotonic, in seconds."""

    __slots__ = ("_clock", "_left", "_left_out", "_log", "_second")

    def __init__(self, log: logging.Logger, clock: Callable[[], float] = time.monotonic) -> None:
        self._log = log
        self._clock = clock
        self._second = 0.0
        self._left = LINES_PER_SECOND
        self._left_out = 0

    def write(self, level: int, text: str, *args: object) -> None:
        """One line, unless this second has had its share."""
        now = self._clock()
        if now - self._second >= 1:
            self._second = now
            self._left = LINES_PER_SECOND
            if self._left_out:
                self._log.warning("%d lines like these were left out", self._left_out)
                self._left_out = 0
        if self._left == 0:
            self._left_out += 1
            return
        self._left -= 1
        self._log.log(level, text, *args)
