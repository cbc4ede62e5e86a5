"""The operating-system process of a code worker: start, stop, kill.

A socket pair connects it to the serving process, so that each side notices when the other one dies.
Knows: processes, sockets. Does not know: messages.
"""

import asyncio
import contextlib
import os
import socket
from collections.abc import Sequence
from typing import Final

from catenary.codeworkers.link import WorkerLink

SOCKET: Final = "CATENARY_CODE_SOCKET"
"""The environment variable with the file descriptor of the worker's socket."""

TRACED: Final = "traced"
"""The argument of a code worker whose server traces calls."""

READ_REST_S: Final = 1.0
"""How long reading the rest of the socket of a dead process may take."""


class CodeProcess:
    """One code worker: its process, and ``link`` for its calls."""

    def __init__(self, process: asyncio.subprocess.Process, link: WorkerLink) -> None:
        self._process = process
        self.link = link
        self._watch = asyncio.get_running_loop().create_task(self._disconnect_when_dead())

    @classmethod
    async def start(cls, command: Sequence[str], link: WorkerLink) -> "CodeProcess":
        """Starts a process; ``link.ready`` says when its code is loaded. Raises OSError if the system refuses."""
        ours, theirs = socket.socketpair()
        with ours, theirs:
            # In a session of its own: Ctrl-C in a terminal reaches the parent only, which stops its workers.
            process = await asyncio.create_subprocess_exec(
                *command,
                env={**os.environ, SOCKET: str(theirs.fileno())},
                pass_fds=[theirs.fileno()],
                start_new_session=True,
            )
            theirs.close()
            try:
                loop = asyncio.get_running_loop()
                await loop.create_unix_connection(lambda: link.ipc, sock=ours.dup())
            except BaseException:
                process.kill()
                raise
        return cls(process, link)

    @property
    def pid(self) -> int:
        return self._process.pid

    async def end(self, calls_s: float, stop_s: float) -> None:
        """Waits up to ``calls_s`` for its calls, asks it to stop within ``stop_s``, then kills it."""
        await self.link.idle(calls_s)
        # The rest of the time is for the exit of the process.
        self.link.end(stop_s * 0.8)
        try:
            async with asyncio.timeout(stop_s):
                await self._process.wait()
        except TimeoutError:
            await self.kill()
        # Its last publications may still be in the socket.
        await self.link.gone.wait()

    async def _disconnect_when_dead(self) -> None:
        """Closes the link of a dead process, even if a process that it forked holds the socket open."""
        await self._process.wait()
        try:
            async with asyncio.timeout(READ_REST_S):
                await self.link.gone.wait()
        except TimeoutError:
            self.link.ipc.abort()

    async def kill(self) -> int:
        """Kills the process if it runs; returns its exit status, or the number of the signal as a negative one."""
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()
        return await self._process.wait()
