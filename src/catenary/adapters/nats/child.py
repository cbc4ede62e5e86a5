"""A child process that says lines on its standard error, and never outlives us.

Linux kills it when its parent dies (``PR_SET_PDEATHSIG``, prctl(2)). Elsewhere a guard waits at the
end of a pipe that we hold open: the kernel closes it when we die, however that comes about.
Knows: processes. Does not know: what runs in them.
"""

import asyncio
import contextlib
import ctypes
import os
import signal
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import Callable, Sequence
from typing import Final

IS_LINUX: Final = sys.platform == "linux"

LINE_LIMIT_BYTES: Final = 64 * 1024
"""A longer line is skipped."""

_PR_SET_PDEATHSIG: Final = 1
_GUARD: Final = 'read -r _; kill -9 "$0"'


class Child:
    """A running process; it has its own session, so that a Ctrl-C in our terminal is ours alone."""

    def __init__(self, process: Process, guard: Process | None) -> None:
        self._process = process
        self._guard = guard

    @classmethod
    async def start(cls, command: Sequence[str], *, is_guarded: bool = not IS_LINUX) -> "Child":
        """Raises OSError where there is no such program."""
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=DEVNULL,
            stdout=DEVNULL,
            stderr=PIPE,
            limit=LINE_LIMIT_BYTES,
            start_new_session=True,
            preexec_fn=None if is_guarded else _tie_to(os.getpid()),
        )
        child = cls(process, None)
        if is_guarded:
            try:
                child._guard = await asyncio.create_subprocess_exec(
                    *("/bin/sh", "-c", _GUARD, str(process.pid)), stdin=PIPE, start_new_session=True
                )
            except BaseException:
                await child.stop(0)
                raise
        return child

    @property
    def pid(self) -> int:
        return self._process.pid

    async def listen(self, hear: Callable[[str], None]) -> int:
        """Calls ``hear`` for each line until the process ends, and returns its status.

        The status of one that a signal killed is the signal's number, negative.
        """
        errors = self._process.stderr
        assert errors is not None
        while True:
            try:
                line = await errors.readline()
            except ValueError:
                continue  # longer than the limit
            if not line:
                break
            hear(line.decode(errors="replace").rstrip())
        status = await self._process.wait()
        await self._dismiss_guard()
        return status

    async def stop(self, timeout_s: float) -> None:
        """Asks it to end, and kills it where that takes too long."""
        if self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self._process.terminate()
            try:
                async with asyncio.timeout(timeout_s):
                    await self._process.wait()
            except TimeoutError:
                with contextlib.suppress(ProcessLookupError):
                    self._process.kill()
                await self._process.wait()
        await self._dismiss_guard()

    async def _dismiss_guard(self) -> None:
        """Before anything else may get the number of the process that it would kill."""
        guard, self._guard = self._guard, None
        if guard is not None:
            with contextlib.suppress(ProcessLookupError):
                guard.kill()
            await guard.wait()


def _tie_to(parent: int) -> Callable[[], None]:
    """What the child does before it becomes the program: asks to be killed when we die."""
    prctl = ctypes.CDLL(None).prctl

    def tie() -> None:
        prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)

    return tie
