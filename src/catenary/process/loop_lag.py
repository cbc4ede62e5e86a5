"""Event-loop lag: how late a timer runs because other work held the loop."""

from collections import deque
from collections.abc import Callable
from typing import Final

from catenary.metrics.counters import Counters

INTERVAL_S: Final = 0.25
"""Time between two measurements: a shorter blockage may fall between them."""

WINDOW: Final = 20
"""Measurements that the figure covers (5 s): a scraper that reads it every 5 s misses none."""


class LoopLag:
    """``event_loop_lag_ms`` is the worst of the last :data:`WINDOW` measurements; ``event_loop_lag_seconds`` has them all.

    A timer calls :meth:`measure` every :data:`INTERVAL_S`, scheduled from the previous call. ``clock`` is monotonic, in
    seconds.
    """

    __slots__ = ("_clock", "_counters", "_due", "_lags_ms")

    def __init__(self, counters: Counters, clock: Callable[[], float]) -> None:
        self._counters = counters
        self._clock = clock
        self._lags_ms: deque[int] = deque(maxlen=WINDOW)
        self._due: float | None = None

    def measure(self) -> None:
        """Measures the lateness of this call. The first call only starts the measurement."""
        now = self._clock()
        if self._due is not None:
            lag_s = max(now - self._due, 0.0)
            self._counters.event_loop_lag_seconds.observe(lag_s)
            self._lags_ms.append(round(lag_s * 1000))
            self._counters.event_loop_lag_ms = max(self._lags_ms)
        self._due = now + INTERVAL_S
