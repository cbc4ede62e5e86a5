"""Work that is carried out although no caller waits for it.

Knows: tasks. Does not know: what they do.
"""

import asyncio
from collections.abc import Awaitable


class BackgroundTasks:
    """The tasks of one node that run until they are done, even if their client leaves."""

    __slots__ = ("_running",)

    def __init__(self) -> None:
        self._running: set[asyncio.Future[None]] = set()

    def run(self, work: Awaitable[None] | None) -> None:
        """Runs work in a task of its own; None is work that is done already."""
        if work is not None:
            self.hold(asyncio.ensure_future(work))

    def hold(self, task: "asyncio.Future[None]") -> None:
        """Keeps a task from being collected while it runs."""
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    async def wait(self, timeout_s: float) -> None:
        """Waits until the tasks that run now are done, or the time is over."""
        if self._running:
            await asyncio.wait(self._running, timeout=timeout_s)
