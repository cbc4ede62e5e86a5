"""What all publishers to other processes have in common: order, a limit, and nobody's loop.

Knows: threads, loops. Does not know: what carries publications.
"""

import asyncio
import os
import threading
from abc import ABC, abstractmethod
from collections.abc import Awaitable
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from catenary.errors import BackendError

BACKLOG: Final = 1_000
"""Publications that may wait for those before them."""


class OrderedPublisher(ABC):
    """Satisfies :class:`catenary.channels.publishing.Publisher`: in order, on one connection.

    One thread sends for all threads and loops of the process; it and the connection begin with the
    first publication. In a loop, ``publish`` returns at once with something to await; elsewhere
    when the publication was taken. A process that was forked begins anew.
    """

    def __init__(self) -> None:
        self._begin()
        self._is_closed = False

    def _begin(self) -> None:
        self._process = os.getpid()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="catenary-publisher")
        self._places = threading.Semaphore(BACKLOG)

    def publish(self, raw: bytes) -> Awaitable[None] | None:
        """Raises :class:`BackendError`, at once where too many wait already."""
        if self._process != os.getpid():
            # Neither threads nor connections come through a fork.
            self._begin()
            self._hang_up()
        if self._is_closed:
            raise BackendError("expected an open publisher, got one that was closed")
        if not self._places.acquire(blocking=False):
            raise BackendError(f"expected at most {BACKLOG} publications under way, got more")
        places = self._places
        taken = self._thread.submit(self._deliver, raw)
        taken.add_done_callback(lambda _: places.release())
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            taken.result()
            return None
        return asyncio.wrap_future(taken)

    def close(self) -> None:
        """Waits for what was published, and hangs up."""
        self._is_closed = True
        self._thread.shutdown()
        self._hang_up()

    @abstractmethod
    def _deliver(self, raw: bytes) -> None:
        """Sends one, connecting where that is needed. Raises :class:`BackendError`."""

    @abstractmethod
    def _hang_up(self) -> None:
        """Closes the connection, if there is one."""
