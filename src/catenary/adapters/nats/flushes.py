"""Flushes of one connection: a PONG confirms that the server has received everything written before its PING.

A server reports a publication that its user's permissions forbid before the PONG, so each flush knows the subjects on
which it refused messages since the flush before.
Source: "Client Protocol" of the NATS documentation (docs.nats.io). Knows: futures, subjects. Does not know: sockets.
"""

import asyncio
from collections import deque
from collections.abc import Collection, Generator
from typing import Any, Generic, TypeVar

from catenary.errors import BackendError, BackendRefused

Result = TypeVar("Result")

Flush = asyncio.Future[frozenset[str]]
"""Its result are the subjects on which the server refused messages. Not to be cancelled: it has several users."""


class Flushes:
    """The flush of this turn of the event loop, and those whose PONG has not come."""

    __slots__ = ("_loop", "_refused", "_sent", "_upcoming")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._upcoming: Flush | None = None
        self._sent: deque[Flush] = deque()
        self._refused: frozenset[str] = frozenset()

    @property
    def is_upcoming(self) -> bool:
        """Is a PING to be written at the end of this turn?"""
        return self._upcoming is not None

    @property
    def are_unanswered(self) -> bool:
        """Does a PING wait for its PONG?"""
        return bool(self._sent)

    def upcoming(self) -> Flush:
        """The flush at the end of this turn."""
        if self._upcoming is None:
            self._upcoming = self._loop.create_future()
        return self._upcoming

    def note_ping(self) -> None:
        """The PING of this turn was written."""
        if self._upcoming is not None:
            self._sent.append(self._upcoming)
            self._upcoming = None

    def note_refused(self, subject: str) -> None:
        """The server refused a message on a subject."""
        self._refused |= {subject}

    def note_pong(self) -> None:
        """The server has answered the first PING."""
        if self._sent:
            flush = self._sent.popleft()
            if not flush.done():
                flush.set_result(self._refused)
            self._refused = frozenset()

    def fail_all(self, error: BackendError) -> None:
        """The connection has ended."""
        self.note_ping()
        for flush in self._sent:
            if not flush.done():
                flush.set_exception(error)
                retrieve(flush)


class Shared(Generic[Result]):
    """Awaits a future with several users: cancelling the one that awaits does not cancel the future."""

    __slots__ = ("_future",)

    def __init__(self, future: "asyncio.Future[Result]") -> None:
        self._future = future
        future.add_done_callback(retrieve)

    def __await__(self) -> Generator[Any, None, Result]:
        return asyncio.shield(self._future).__await__()


class Published:
    """Awaits the flush after messages on ``subjects``. Raises :class:`BackendRefused` if one of them was refused."""

    __slots__ = ("_flush", "_subjects")

    def __init__(self, flush: Flush, subjects: Collection[str]) -> None:
        self._flush = flush
        self._subjects = subjects
        flush.add_done_callback(retrieve)

    def __await__(self) -> Generator[Any, None, None]:
        refused = yield from asyncio.shield(self._flush).__await__()
        if refused and not refused.isdisjoint(self._subjects):
            raise not_allowed(self._subjects)


def refusal(flush: Flush, subject: str) -> BackendError | None:
    """Why a message that was published before a finished flush did not arrive; None if it did."""
    error = flush.exception()
    if isinstance(error, BackendError):
        return error
    return not_allowed((subject,)) if subject in flush.result() else None


def retrieve(future: "asyncio.Future[Any]") -> None:
    """Marks the exception of a future as retrieved: asyncio would log one that nothing awaits."""
    if not future.cancelled():
        future.exception()


def not_allowed(subjects: Collection[str]) -> BackendRefused:
    """The error for subjects on which this user may not publish."""
    return BackendRefused(
        f"NATS: this user may not publish to {', '.join(subjects)[:200]} (permissions of the server)"
    )
