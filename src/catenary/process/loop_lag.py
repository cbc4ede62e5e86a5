"""Event-loop lag: how late a timer runs because other work held the loop."""

import asyncio
from typing import Final

from catenary.metrics.counters import Counters

INTERVAL_S: Final = 0.25
"""Time between two measurements: a shorter blockage may fall between them."""

WINDOW: Final = 20
"""Measurements that the figure covers (5 s): a scraper that reads it every 5 s misses none."""


class LoopLag:
    """Measures from :meth:`start` to :meth:`stop`; ``event_loop_lag_ms`` is the worst of the last :data:`WINDOW`."""

    __slots__ = ("_counters", "_due", "_lags_ms", "_timer")

    def __init__(self, counters: Counters) -> None:
        self._counters = counters
        self._lags_ms: list[int] = []
        self._due = 0.0
        self._timer: asyncio.TimerHandle | None = None

    async def start(self) -> None:
        """Starts measuring."""
        self._schedule()

    async def stop(self, timeout_s: float) -> None:
        """Stops measuring."""
        if self._timer is not None:
            self._timer.cancel()

    def _schedule(self) -> None:
        loop = asyncio.get_running_loop()
        self._due = loop.time() + INTERVAL_S
        self._timer = loop.call_at(self._due, self._measure)

    def _measure(self) -> None:
        lag_s = asyncio.get_running_loop().time() - self._due
        self._schedule()
        self._lags_ms = [*self._lags_ms[1 - WINDOW :], max(round(lag_s * 1000), 0)]
        self._counters.event_loop_lag_ms = max(self._lags_ms)
