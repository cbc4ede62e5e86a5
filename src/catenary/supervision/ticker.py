"""Calls a function at regular intervals, by a timer instead of a task."""

import asyncio
from collections.abc import Callable


class Ticker:
    """Calls a function every ``interval_s`` seconds, from :meth:`start` to :meth:`stop`."""

    __slots__ = ("_call", "_interval_s", "_timer")

    def __init__(self, interval_s: float, call: Callable[[], object]) -> None:
        self._interval_s = interval_s
        self._call = call
        self._timer: asyncio.TimerHandle | None = None

    async def start(self) -> None:
        """The first call comes after one interval."""
        self._schedule()

    async def stop(self, timeout_s: float) -> None:
        """Stops calling."""
        if self._timer is not None:
            self._timer.cancel()

    def _schedule(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(self._interval_s, self._tick)

    def _tick(self) -> None:
        self._schedule()
        self._call()
