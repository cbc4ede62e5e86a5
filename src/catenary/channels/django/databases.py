"""Closes old database connections around the methods of channels, as Django does around requests.

Channels have no requests, so connections that the database has closed, or that are older than
CONN_MAX_AGE, would stay open. Plain functions use the connections of their own threads. Coroutines use
the ORM through asgiref, which would run it for all clients in one thread of the process: here they share
``ORM_THREADS`` threads.
Source: django.core.handlers.asgi; asgiref.sync, ThreadSensitiveContext.
"""

import asyncio
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, Final

from asgiref.sync import SyncToAsync, ThreadSensitiveContext
from django.db import close_old_connections

ORM_THREADS: Final = 10
"""Threads for the ORM of coroutines: as many as a cable has for plain functions."""


@contextmanager
def database_connections() -> Iterator[None]:
    """Closes old connections before and after a method: for ``Cable(around=…)``."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        close_old_connections()
        try:
            yield
        finally:
            close_old_connections()
        return
    thread = min(_threads, key=lambda each: each.users)
    thread.users += 1
    token = SyncToAsync.thread_sensitive_context.set(thread.context)
    try:
        yield
    finally:
        SyncToAsync.thread_sensitive_context.reset(token)
        thread.users -= 1
        thread.close_if_unused()


class _OrmThread(ThreadPoolExecutor):
    """A thread for the ORM of several coroutines.

    It closes old connections before their first query and after the last coroutine has left, and nothing
    waits for that. While it has ``users``, their transactions stay open.
    """

    def __init__(self) -> None:
        super().__init__(max_workers=1, thread_name_prefix="catenary-orm")
        self.context = ThreadSensitiveContext()
        self.users = 0
        self._is_used = False
        SyncToAsync.context_to_thread_executor[self.context] = self

    def submit(self, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> "Future[Any]":
        if not self._is_used:
            self._is_used = True
            super().submit(close_old_connections)
        return super().submit(function, *args, **kwargs)

    def close_if_unused(self) -> None:
        """Closes old connections if no coroutine uses the thread."""
        if self._is_used and not self.users:
            self._is_used = False
            super().submit(close_old_connections)


_threads: Final = tuple(_OrmThread() for _ in range(ORM_THREADS))
