"""A process that runs the application's code: started, and seen to its end.

It is connected by a socket pair: when one side dies, the other hears of it.
Knows: processes, sockets. Does not know: what is said.
"""

import asyncio
import contextlib
import os
import socket
from collections.abc import Sequence
from typing import Final

from catenary.codeworkers.link import WorkerLink

SOCKET: Final = "CATENARY_CODE_SOCKET"
"""The variable that tells such a process the descriptor of its socket."""

LAST_WORDS_S: Final = 1.0
"""How long what stands in the socket of a dead process may take to be read."""


class CodeProcess:
    """One code worker, and the link to it."""

    def __init__(self, process: asyncio.subprocess.Process, link: WorkerLink) -> None:
        self._process = process
        self.link = link
        self._watch = asyncio.get_running_loop().create_task(self._cut_off())

    @classmethod
    async def start(cls, command: Sequence[str], link: WorkerLink) -> "CodeProcess":
        """Starts one; its link tells when it is ready. Raises OSError where the system has no room."""
        ours, theirs = socket.socketpair()
        with ours, theirs:
            # In a session of its own: Ctrl-C in a terminal is for its parent, which ends it.
            process = await asyncio.create_subprocess_exec(
                *command,
                env={**os.environ, SOCKET: str(theirs.fileno())},
                pass_fds=[theirs.fileno()],
                start_new_session=True,
            )
            theirs.close()
            try:
                loop = asyncio.get_running_loop()
                await loop.create_unix_connection(lambda: link.wire, sock=ours.dup())
            except BaseException:
                process.kill()
                raise
        return cls(process, link)

    @property
    def pid(self) -> int:
        return self._process.pid

    async def end(self, calls_s: float, stop_s: float) -> None:
        """Lets it finish its calls, then come to its end, each within a time; then kills it."""
        await self.link.idle(calls_s)
        # It needs some of the time to end as a process.
        self.link.end(stop_s * 0.8)
        try:
            async with asyncio.timeout(stop_s):
                await self._process.wait()
        except TimeoutError:
            await self.kill()
        # What it published last may stand in the socket still.
        await self.link.gone.wait()

    async def _cut_off(self) -> None:
        """When it has ended, so has its link, although a process that it forked may hold the socket."""
        await self._process.wait()
        try:
            async with asyncio.timeout(LAST_WORDS_S):
                await self.link.gone.wait()
        except TimeoutError:
            self.link.wire.abort()

    async def kill(self) -> int:
        """Ends it at once, if it has not ended; returns its status, negative for a signal's number."""
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()
        return await self._process.wait()
