"""How late the event loop is: what one thing takes, everybody else waits for."""

import asyncio
from typing import Final

from catenary.metrics.counters import Counters

INTERVAL_S: Final = 0.25
"""How often it is measured: a pause shorter than that may fall between two looks."""

WINDOW: Final = 20
"""Looks that a figure stands for: whoever comes every 5 s sees every pause that was seen here."""


class LoopLag:
    """Measures from :meth:`start` to :meth:`stop`; the worst of the last looks is the figure."""

    __slots__ = ("_counters", "_due", "_lags_ms", "_timer")

    def __init__(self, counters: Counters) -> None:
        self._counters = counters
        self._lags_ms: list[int] = []
        self._due = 0.0
        self._timer: asyncio.TimerHandle | None = None

    async def start(self) -> None:
        """Begins to measure."""
        self._again()

    async def stop(self, timeout_s: float) -> None:
        """Measures no longer."""
        if self._timer is not None:
            self._timer.cancel()

    def _again(self) -> None:
        loop = asyncio.get_running_loop()
        self._due = loop.time() + INTERVAL_S
        self._timer = loop.call_at(self._due, self._look)

    def _look(self) -> None:
        lag_s = asyncio.get_running_loop().time() - self._due
        self._again()
        self._lags_ms = [*self._lags_ms[1 - WINDOW :], max(round(lag_s * 1000), 0)]
        self._counters.event_loop_lag_ms = max(self._lags_ms)
