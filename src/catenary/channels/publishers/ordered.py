"""The base of publishers to other processes: one thread that sends in order, with a limited backlog.

Knows: threads, event loops. Does not know: HTTP, Redis, NATS.
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
"""The limit of publications under way in one publisher."""


class OrderedPublisher(ABC):
    """Satisfies :class:`catenary.channels.publishing.Publisher`: sends in order, on one connection.

    One thread sends for all threads and event loops of the process; it starts and connects with the
    first publication. In an event loop, ``publish`` returns an awaitable at once; elsewhere it returns
    when the publication was accepted. A forked process starts a thread and a connection of its own.
    """

    def __init__(self) -> None:
        self._start_thread()
        self._is_closed = False

    def _start_thread(self) -> None:
        self._process = os.getpid()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="catenary-publisher")
        self._places = threading.Semaphore(BACKLOG)

    def publish(self, raw: bytes) -> Awaitable[None] | None:
        """Raises :class:`BackendError`: at once if ``BACKLOG`` publications are under way."""
        if self._process != os.getpid():
            # Neither threads nor connections survive a fork.
            self._start_thread()
            self._hang_up()
        if self._is_closed:
            raise BackendError("expected an open publisher, got one that was closed")
        if not self._places.acquire(blocking=False):
            raise BackendError(f"expected at most {BACKLOG} publications under way, got more")
        places = self._places
        accepted = self._thread.submit(self._deliver, raw)
        accepted.add_done_callback(lambda _: places.release())
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            accepted.result()
            return None
        return asyncio.wrap_future(accepted)

    def close(self) -> None:
        """Waits for publications under way, and closes the connection."""
        self._is_closed = True
        self._thread.shutdown()
        self._hang_up()

    @abstractmethod
    def _deliver(self, raw: bytes) -> None:
        """Sends one publication, after connecting if necessary. Raises :class:`BackendError`."""

    @abstractmethod
    def _hang_up(self) -> None:
        """Closes the connection, if there is one."""
