"""Exponential backoff for retry loops: the pause before the next attempt, and which failures are logged.

Knows: attempts, a clock. Does not know: what is attempted.
"""

import random
import time
from collections.abc import Callable
from typing import Final, NamedTuple

MAX_DELAY_S: Final = 5.0
"""The longest pause between two attempts, before jitter."""

STEADY_S: Final = 1.0
"""A success that lasts this long resets the backoff."""

FIRST_REMINDER: Final = 8
"""The second logged failure of a row; then each doubling is logged."""


def delay_s(attempt: int, longest_s: float = MAX_DELAY_S) -> float:
    """0.1 s, doubled with each attempt up to ``longest_s`` (at most MAX_DELAY_S), with a jitter of 25 %."""
    # 0.1 * 2**6 exceeds the longest already; a float overflows at 2**1024.
    return min(0.1 * 2.0 ** min(attempt, 6), longest_s) * random.uniform(0.75, 1.25)  # noqa: S311


class Pause(NamedTuple):
    """The pause after a failure: ``seconds`` until the next attempt, ``failures`` in a row so far, and whether this one
    should be logged.
    """

    seconds: float
    failures: int
    is_logged: bool


class Backoff:
    """The state of one retry loop. ``clock`` is monotonic, in seconds.

    Of the failures in a row, number 1, 8, 16, 32 and so on are logged: 11 s after the first, 51 s after it, and again
    whenever the outage has lasted twice as long. An outage of a day takes a dozen lines. A row ends when something has
    worked for ``steady_s``. A connection that is lost sooner, again and again, is one row, of which failures 2 to 7 are
    logged, too.
    """

    __slots__ = (
        "_clock",
        "_doublings",
        "_failures",
        "_has_worked",
        "_is_news",
        "_longest_s",
        "_since",
        "_steady_s",
    )

    def __init__(
        self,
        longest_s: float = MAX_DELAY_S,
        clock: Callable[[], float] = time.monotonic,
        *,
        steady_s: float = STEADY_S,
    ) -> None:
        self._longest_s = longest_s
        self._steady_s = steady_s
        self._clock = clock
        self._failures = 0
        self._doublings = 0
        self._is_news = True
        self._has_worked = False
        self._since: float | None = None
        """When it began to work, or made progress, after the last failure."""

    def works(self) -> bool:
        """Notes a success. Returns whether it should be logged: the first one should, and the first one after a failure
        that was logged."""
        self._has_worked = True
        self._since = self._clock()
        is_news, self._is_news = self._is_news, False
        return is_news

    def progressed(self) -> None:
        """Notes a partial success: the next pause is the shortest, but the row of failures goes on."""
        self._since = self._clock() if self._since is None else self._since
        self._doublings = 0

    def failed(self) -> Pause:
        """Notes that an attempt has failed, or that a connection that worked was lost."""
        since, self._since = self._since, None
        has_worked, self._has_worked = self._has_worked, False
        if since is not None and self._clock() - since >= self._steady_s:
            self._failures = self._doublings = 0
        seconds = delay_s(self._doublings, self._longest_s)
        self._doublings += 1
        self._failures += 1
        if self._failures < FIRST_REMINDER:
            is_logged = self._failures == 1 or has_worked
        else:
            is_logged = self._failures.bit_count() == 1
        self._is_news = self._is_news or is_logged
        return Pause(seconds, self._failures, is_logged)
