"""Connections to databases around the methods of channels, as Django keeps them around requests.

No request begins or ends in a channel, so that nobody would close what the database has closed long
ago, or what is older than CONN_MAX_AGE. Plain functions use the connections of their own threads.
Coroutines reach the ORM through asgiref, which would run it for all clients in one thread of the
process: here they share ``LANES`` threads.
Source: django.core.handlers.asgi; asgiref.sync, ThreadSensitiveContext.
"""

import asyncio
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, Final

from asgiref.sync import SyncToAsync, ThreadSensitiveContext
from django.db import close_old_connections

LANES: Final = 10
"""Threads for the ORM of coroutines; as many as a cable has for plain functions."""


@contextmanager
def database_connections() -> Iterator[None]:
    """Closes what is old before and behind a method: for ``Cable(around=…)``."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        close_old_connections()
        try:
            yield
        finally:
            close_old_connections()
        return
    lane = min(_lanes, key=lambda each: each.users)
    lane.users += 1
    token = SyncToAsync.thread_sensitive_context.set(lane.context)
    try:
        yield
    finally:
        SyncToAsync.thread_sensitive_context.reset(token)
        lane.users -= 1
        lane.tidy()


class _Lane(ThreadPoolExecutor):
    """One thread for the ORM of those coroutines that are in it. Nobody waits for its tidying, which
    it does before and behind what it is given; with ``users`` in it, what they began stays."""

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

    def tidy(self) -> None:
        """When the last has left."""
        if self._is_used and not self.users:
            self._is_used = False
            super().submit(close_old_connections)


_lanes: Final = tuple(_Lane() for _ in range(LANES))
