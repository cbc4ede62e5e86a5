"""How long a retry loop waits before its next attempt, and which failures it writes to the log.

Knows: attempts, a clock. Does not know: what is tried.
"""

import random
import time
from collections.abc import Callable
from typing import Final, NamedTuple

MAX_DELAY_S: Final = 5.0
"""The longest pause between two attempts."""

STEADY_S: Final = 1.0
"""What has lasted this long has worked: the next pause is the shortest one again."""

FIRST_REMINDER: Final = 8
"""The failure of a row that is logged after the first one; then each time there are twice as many."""


def delay_s(attempt: int, longest_s: float = MAX_DELAY_S) -> float:
    """0.1 s, doubled each time, and never the same for all nodes; ``longest_s`` is at most MAX_DELAY_S."""
    # 0.1 * 2**6 is more than the longest already; a float overflows at 2**1024.
    return min(0.1 * 2.0 ** min(attempt, 6), longest_s) * random.uniform(0.75, 1.25)  # noqa: S311


class Pause(NamedTuple):
    """The answer to a failure: ``seconds`` until the next attempt.

    ``failures`` is how many attempts in a row have failed. ``is_logged`` says that this failure
    deserves a line in the log.
    """

    seconds: float
    failures: int
    is_logged: bool


class Backoff:
    """The state of one retry loop. ``clock`` is monotonic, in seconds.

    Of the failures in a row the first is logged, then number 8, 16, 32 and so on: 11 s later, 51 s
    later, and again whenever the outage has lasted twice as long. An outage of a day costs a dozen
    lines. A row ends when something has worked for ``steady_s``; a connection that breaks
    sooner, again and again, is one row, of which the first seven are logged as well.
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
        """When it began to work, or to progress, after the last failure."""

    def works(self) -> bool:
        """Notes that the attempt has succeeded. Returns whether that deserves a line in the log:
        the first success does, and the first one after a failure that was logged."""
        self._has_worked = True
        self._since = self._clock()
        is_news, self._is_news = self._is_news, False
        return is_news

    def progressed(self) -> None:
        """Notes that a part has succeeded: the next pause is the shortest, and the row goes on."""
        self._since = self._clock() if self._since is None else self._since
        self._doublings = 0

    def failed(self) -> Pause:
        """Notes that the attempt has failed, or that what worked has ended."""
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
