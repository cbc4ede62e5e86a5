"""A parent notices that the event loop of a worker hangs: each worker writes a byte to a pipe at regular intervals.

Knows: pipes, time. Does not know: how workers are started or replaced.
"""

import asyncio
import contextlib
import logging
import os
from collections.abc import Callable
from typing import Final

_log: Final = logging.getLogger("catenary.workers")

BEATS_PER_TIMEOUT: Final = 3
"""How many bytes a worker writes within the time after which it is considered hung."""


class Heartbeat:
    """Writes to ``pipe`` from its creation to the end of the process, also during the shutdown."""

    def __init__(self, pipe: int, timeout_s: float) -> None:
        """Must be called where the loop runs."""
        self._pipe = pipe
        self._interval_s = timeout_s / BEATS_PER_TIMEOUT
        self._call_later = asyncio.get_running_loop().call_later
        os.set_blocking(pipe, False)
        self._beat()

    def _beat(self) -> None:
        # A full pipe means that the parent is behind; without a reader, it has died.
        with contextlib.suppress(BlockingIOError, BrokenPipeError):
            os.write(self._pipe, b".")
        self._call_later(self._interval_s, self._beat)


class HeartbeatMonitor:
    """Calls ``hung`` once if nothing arrives for ``timeout_s`` after the first byte, until the other end of the pipe is closed."""

    def __init__(self, pipe: int, timeout_s: float, hung: Callable[[], None]) -> None:
        """``pipe`` is the end to read from, which is closed at the end. Must be called where the loop runs."""
        self._pipe = pipe
        self._timeout_s = timeout_s
        self._hung = hung
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        os.set_blocking(pipe, False)
        self._loop.add_reader(pipe, self._read)

    def _read(self) -> None:
        try:
            found = os.read(self._pipe, 4096)
        except BlockingIOError:
            return
        if self._timer is not None:
            self._timer.cancel()
        if found:
            self._wait()
        else:
            self._loop.remove_reader(self._pipe)
            os.close(self._pipe)
            self._timer = None

    def _wait(self) -> None:
        due = self._loop.time() + self._timeout_s
        self._timer = self._loop.call_at(due, self._expire, due)

    def _expire(self, due: float) -> None:
        timer = self._timer
        if self._loop.time() - due > self._timeout_s / BEATS_PER_TIMEOUT:
            # This process was stopped itself, or the machine was: the worker gets its time again.
            self._wait()
        else:
            # Timers come before pipes in a turn of the loop.
            self._read()
        if self._timer is timer:
            self._hung()
