"""A child process that logs lines to its standard error, and never outlives this process.

Linux kills it when its parent dies (``PR_SET_PDEATHSIG``, prctl(2)). On other systems a guard process reads from a pipe
that this process holds open: the kernel closes the pipe when this process dies, in whatever way.
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
    """A running process, in a session of its own: Ctrl-C in the terminal does not reach it."""

    def __init__(self, process: Process, guard: Process | None) -> None:
        self._process = process
        self._guard = guard

    @classmethod
    async def start(cls, command: Sequence[str], *, is_guarded: bool = not IS_LINUX) -> "Child":
        """Starts a program. Raises OSError where there is none."""
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

    async def listen(self, on_line: Callable[[str], None]) -> int:
        """Calls ``on_line`` for each line until the process ends, and returns its status.

        A process that was killed by a signal has the negative number of the signal as its status.
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
            on_line(line.decode(errors="replace").rstrip())
        status = await self._process.wait()
        await self._dismiss_guard()
        return status

    async def stop(self, timeout_s: float) -> None:
        """Sends SIGTERM, and kills the process if it has not ended after ``timeout_s``."""
        if self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self._process.terminate()
            # Not asyncio.timeout(): in a task that is cancelled, CPython 3.11.2 raises CancelledError at its end.
            ended = asyncio.ensure_future(self._process.wait())
            await asyncio.wait([ended], timeout=timeout_s)
            if not ended.done():
                with contextlib.suppress(ProcessLookupError):
                    self._process.kill()
            await ended
        await self._dismiss_guard()

    async def _dismiss_guard(self) -> None:
        """Ends the guard before another process can get the id that it would kill."""
        guard, self._guard = self._guard, None
        if guard is not None:
            with contextlib.suppress(ProcessLookupError):
                guard.kill()
            await guard.wait()


def _tie_to(parent: int) -> Callable[[], None]:
    """Returns what the child runs before the program: it asks the kernel to be killed with its parent."""
    prctl = ctypes.CDLL(None).prctl

    def tie() -> None:
        prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)

    return tie
