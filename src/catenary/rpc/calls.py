"""One call from its start to its end: a slot, attempts, back-off, counters.

gRPC and HTTP differ in what an attempt is; all else is here. Sources: docs/rpc.md and rpc/rpc.go
(anycable/anycable) for time limits, intervals and counters.
Knows: how attempts fail. Does not know: messages, connections.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Final, TypeVar

import msgspec

from catenary.errors import AppError, AppFailed, AppUnavailable
from catenary.messages.names import Sid
from catenary.metrics.counters import Counters
from catenary.rpc.concurrency import Barrier

log = logging.getLogger("catenary.rpc")

_T = TypeVar("_T")
Attempt = Callable[[float | None], Awaitable[_T]]
"""Sends a call once; takes the seconds that it may last, None for no limit."""

_AWAY_BACKOFF_S: Final = 0.1
_BUSY_BACKOFF_S: Final = 0.01
# The reference doubles without end. A cap keeps the last attempt near the end of the command's
# time: a server that comes back after two seconds is found.
_LONGEST_BACKOFF_S: Final = 0.5
_PATIENCE_S: Final = 3.0
"""How long attempts are repeated where no command timeout says it; that option's default."""


class AppAway(AppUnavailable):
    """Nobody answers at the application's address; another attempt may succeed."""


class AppBusy(AppUnavailable):
    """The application has no free worker; another attempt may succeed."""


class AppLate(AppUnavailable):
    """No answer within the time limit. Not repeated: the application may be at work on it."""


class CallLimits(msgspec.Struct, frozen=True):
    """``concurrency`` calls at once; seconds for one attempt and for all of a command, 0 for no limit."""

    concurrency: int = 28
    request_timeout_s: float = 0.0
    command_timeout_s: float = 3.0


class Outage:
    """Whether the application is away, and who may find out that it is back.

    While an outage is young, calls are repeated: an application that restarts is not noticed.
    An old one is probed by one call at a time and all others fail at once, so that the queue does
    not grow. Pure: takes ``now`` in seconds.
    """

    __slots__ = ("_patience_s", "_probed", "_since")

    def __init__(self, patience_s: float) -> None:
        self._patience_s = patience_s
        self._since: float | None = None
        self._probed = False

    @property
    def is_on(self) -> bool:
        """Was the last that is known that nobody answers?"""
        return self._since is not None

    def admits(self, now: float) -> bool:
        """May an attempt be made? What is admitted must be settled."""
        if not self.is_old(now):
            return True
        if self._probed:
            return False
        self._probed = True
        return True

    def is_old(self, now: float) -> bool:
        """Has it lasted so long that repeating is of no use?"""
        return self._since is not None and now - self._since >= self._patience_s

    def begin(self, now: float) -> bool:
        """Nobody answered. True where that is news."""
        self.settle()
        if self._since is not None:
            return False
        self._since = now
        return True

    def end(self) -> bool:
        """Somebody answered. True where that is news."""
        self.settle()
        was_away = self._since is not None
        self._since = None
        return was_away

    def settle(self) -> None:
        """A probe came to its end, whatever that was."""
        self._probed = False


class Caller:
    """Makes calls within the limits. Belongs to one event loop."""

    __slots__ = (
        "_barrier",
        "_closed",
        "_closing",
        "_counters",
        "_limits",
        "_outage",
        "_patience_s",
    )

    def __init__(self, limits: CallLimits, counters: Counters) -> None:
        self._limits = limits
        self._counters = counters
        self._barrier = Barrier(limits.concurrency, counters)
        self._patience_s = limits.command_timeout_s or _PATIENCE_S
        self._outage = Outage(self._patience_s)
        self._closing = False
        """New calls are refused."""
        self._closed = False
        """Those under way make no more attempts."""

    async def call(self, sid: Sid, attempt: Attempt[_T], *, see_through: bool = False) -> _T:
        """Waits for a slot, then makes attempts until one ends with an answer or the time is over.

        Raises :class:`AppUnavailable`, and what else the attempt raises. A call that is cancelled
        while it waits is never sent; one that is under way is broken off, unless it is to be seen
        through to its answer: that of a client that is not connected yet.
        """
        if self._closing:
            raise AppUnavailable("the server is shutting down")
        try:
            if not self._barrier.take():
                await self._barrier.acquire(is_newcomer=see_through)
            try:
                self._counters.rpc_call_total += 1
                if see_through:
                    return await _seen_through(self._repeat(sid, attempt))
                return await self._repeat(sid, attempt)
            finally:
                self._barrier.release()
        except AppError:
            self._counters.rpc_error_total += 1
            raise
        except asyncio.CancelledError:
            self._counters.rpc_canceled_total += 1
            raise

    async def close(self, timeout_s: float) -> int:
        """Takes no more calls and waits for those under way; returns how many are left."""
        self._closing = True
        try:
            async with asyncio.timeout(timeout_s):
                await self._barrier.idle()
        except TimeoutError:
            log.warning("closing with %d calls under way", self._barrier.busy)
        self._closed = True
        return self._barrier.busy

    async def _repeat(self, sid: Sid, attempt: Attempt[_T]) -> _T:
        clock = asyncio.get_running_loop().time
        outage = self._outage
        now = clock()
        give_up_at = now + self._patience_s
        last: type[AppUnavailable] | None = None
        tries = 0
        while True:
            if self._closed:
                raise AppUnavailable("the server is shutting down")
            if outage.is_on and not outage.admits(now):
                raise AppAway("the application is away")
            try:
                result = await attempt(self._time_left_s(give_up_at - now))
            except (AppAway, AppBusy) as failure:
                self._note_failure(failure, clock())
                tries = tries + 1 if type(failure) is last else 1
                last = type(failure)
                delay_s = _backoff_s(failure, tries)
                now = clock()
                if now + delay_s >= give_up_at or outage.is_old(now):
                    raise
                log.debug("trying again in %.2f s: sid=%s %s", delay_s, sid, failure)
            except AppError as failure:
                self._note_failure(failure, clock())
                raise
            except BaseException:
                outage.settle()
                raise
            else:
                if outage.is_on:
                    self._note_answer()
                return result
            self._counters.rpc_retries_total += 1
            await asyncio.sleep(delay_s)
            now = clock()

    def _note_failure(self, failure: AppError, now: float) -> None:
        """Learns from how an attempt ends whether the application is there."""
        match failure:
            case AppAway():
                if self._outage.begin(now):
                    log.warning("the application is away: %s", failure)
            case AppBusy() | AppFailed():
                self._note_answer()
            case AppLate():
                self._counters.rpc_timeout_total += 1
                self._outage.settle()
            case _:
                self._outage.settle()

    def _note_answer(self) -> None:
        if self._outage.end():
            log.info("the application is back")

    def _time_left_s(self, left_s: float) -> float | None:
        """How long an attempt may last: the shorter of the two limits that are set."""
        limits = self._limits
        request_s = limits.request_timeout_s
        if not limits.command_timeout_s:
            return request_s or None
        return min(request_s, left_s) if request_s else left_s


async def _seen_through(call: Coroutine[Any, Any, _T]) -> _T:
    """Awaits a call although the one who waits for it is cancelled once."""
    task = asyncio.ensure_future(call)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        waiting = asyncio.current_task()
        if task.done() or waiting is None:
            raise
        waiting.uncancel()
    try:
        return await task
    except asyncio.CancelledError:
        task.cancel()
        raise


def _backoff_s(failure: AppAway | AppBusy, tries: int) -> float:
    first_s = _BUSY_BACKOFF_S if isinstance(failure, AppBusy) else _AWAY_BACKOFF_S
    return min(first_s * 2.0 ** (tries - 1), _LONGEST_BACKOFF_S)
