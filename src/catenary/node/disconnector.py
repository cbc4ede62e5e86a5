"""Reports ended sessions to the application, at a limited rate.

When many clients leave at once, their Disconnect calls are queued and paced.
Source: ``disconnect_rate`` and ``disconnect_backlog_size`` of docs/configuration.md (anycable).
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from typing import Final

import msgspec

from catenary.errors import AppError, AppNotReached, AppUnavailable
from catenary.logs.rate_limited import RateLimitedLogger
from catenary.messages.environment import Environment
from catenary.messages.names import Identifier
from catenary.metrics.counters import Counters
from catenary.ports import Application
from catenary.supervision.backoff import delay_s

_log: Final = logging.getLogger("catenary.disconnector")
_limited: Final = RateLimitedLogger(_log)

PAUSE_S: Final = 1.0
"""Before a failed pacer is replaced."""

QUEUE_LIMIT: Final = 100_000
"""Calls in the queue: about 150 MB."""

LONGEST_PAUSE_S: Final = 2.0
"""Between two probes of an application that is away."""

DRAINED_AT_ONCE: Final = 100
"""Calls under way at shutdown, when no client needs the application."""


class Ended(msgspec.Struct, frozen=True):
    """An ended session, as it is reported to its application."""

    environment: Environment
    subscriptions: tuple[Identifier, ...]


class _Outage:
    """The application is away; ``probes`` is the number of calls made since, to find out whether it is back."""

    __slots__ = ("probes",)

    def __init__(self) -> None:
        self.probes = 0


class Disconnector:
    """The queue of Disconnect calls.

    ``rate`` calls start per second, and up to ``at_once`` are under way. While more than ``backlog`` wait, calls are
    not paced, so that the queue shrinks as fast as the application allows.

    While the application is away, calls stay in the queue, and one at a time is made as a probe. A call that fails goes
    to the end of the queue, so that one that never succeeds does not block the others. The queue holds
    :data:`QUEUE_LIMIT` calls: beyond, the oldest is abandoned, counted and logged. No other call is abandoned before
    :meth:`drain`.
    """

    __slots__ = (
        "_application",
        "_at_once",
        "_backlog",
        "_calls",
        "_clock",
        "_counters",
        "_due",
        "_interval_s",
        "_is_draining",
        "_outage",
        "_pacer",
        "_unreached",
        "_waiting",
    )

    def __init__(
        self,
        application: Application,
        counters: Counters,
        *,
        rate: int,
        backlog: int,
        clock: Callable[[], float],
        at_once: int = 100,
    ) -> None:
        self._application = application
        self._counters = counters
        self._interval_s = 1 / rate
        self._backlog = backlog
        self._at_once = at_once
        self._clock = clock
        self._waiting: deque[Ended] = deque()
        self._calls: set[asyncio.Task[None]] = set()
        self._pacer: asyncio.Task[None] | None = None
        # When the next call may start; kept from one pacer to the next, so that the rate is kept.
        self._due = clock()
        self._outage: _Outage | None = None
        self._is_draining = False
        self._unreached = 0
        """Calls at shutdown that did not reach the application."""

    def enqueue(self, ended: Ended) -> None:
        """Queues the call for an ended session."""
        self._append(ended)
        if len(self._waiting) == self._backlog + 1 and self._outage is None:
            _log.warning("More than %d Disconnect calls wait: pacing is off", self._backlog)

    def _append(self, ended: Ended) -> None:
        if len(self._waiting) >= QUEUE_LIMIT:
            self._abandon(self._waiting.popleft())
        self._waiting.append(ended)
        self._counters.disconnect_queue_size = len(self._waiting)
        self._maybe_start_pacer()

    def _start_pacer(self) -> None:
        self._pacer = asyncio.get_running_loop().create_task(self._pace())
        self._pacer.add_done_callback(self._paced)

    def _paced(self, pacer: "asyncio.Task[None]") -> None:
        """A pacer has ended: starts another if calls wait, because they were queued at the last moment, or
        the pacer has failed."""
        if self._pacer is not pacer:
            return
        self._pacer = None
        error = asyncio.CancelledError() if pacer.cancelled() else pacer.exception()
        if error is None:
            self._maybe_start_pacer()
            return
        _log.error("Starting Disconnect calls failed, will retry", exc_info=error)
        # Not at once: an event loop that is being closed cancels all tasks, and none may start then.
        asyncio.get_running_loop().call_later(PAUSE_S, self._maybe_start_pacer)

    def _maybe_start_pacer(self) -> None:
        if self._waiting and self._pacer is None:
            self._start_pacer()

    def _abandon(self, ended: Ended) -> None:
        self._counters.abandoned_disconnects_total += 1
        if self._counters.abandoned_disconnects_total.bit_count() == 1:
            _log.error(
                "%d Disconnect calls were abandoned, because more than %d waited; the last: sid=%s",
                self._counters.abandoned_disconnects_total,
                QUEUE_LIMIT,
                ended.environment.sid,
            )

    async def _pace(self) -> None:
        """Starts the waiting calls one by one; ends when none is left."""
        while self._waiting:
            if self._outage is not None and not self._is_draining:
                await self._probe(self._outage)
                continue
            is_paced = not self._is_draining and len(self._waiting) <= self._backlog
            wait_s = self._due - self._clock()
            if is_paced and wait_s > 0:
                await asyncio.sleep(wait_s)
            elif len(self._calls) >= (DRAINED_AT_ONCE if self._is_draining else self._at_once):
                # The application limits its own concurrency; more tasks would only wait there.
                await asyncio.wait(self._calls, return_when=asyncio.FIRST_COMPLETED)
            else:
                self._start(self._waiting.popleft())
                self._due = max(self._due, self._clock() - self._interval_s) + self._interval_s

    async def _probe(self, outage: "_Outage") -> None:
        """Makes one call after a pause, to find out whether the application is back."""
        await asyncio.sleep(delay_s(outage.probes, LONGEST_PAUSE_S))
        outage.probes += 1
        if self._outage is outage and self._waiting:
            self._start(self._waiting.popleft())
            await asyncio.wait(self._calls, return_when=asyncio.FIRST_COMPLETED)

    def _start(self, ended: Ended) -> None:
        self._counters.disconnect_queue_size = len(self._waiting)
        call = asyncio.get_running_loop().create_task(self._call(ended))
        self._calls.add(call)
        call.add_done_callback(self._calls.discard)

    async def _call(self, ended: Ended) -> None:
        try:
            await self._application.disconnect(ended.environment, ended.subscriptions)
        except AppNotReached as error:
            self._put_back(ended, error)
            return
        except AppUnavailable as error:
            # The application may have received the call, and must not receive it twice.
            _limited.warning("Disconnect call failed: %s", error, sid=ended.environment.sid)
            return
        except AppError as error:
            _limited.warning("Disconnect call failed: %s", error, sid=ended.environment.sid)
        except Exception:  # noqa: BLE001
            _limited.exception("Disconnect call failed unexpectedly", sid=ended.environment.sid)
        if self._outage is not None:
            self._outage = None
            _log.warning(
                "The application is back: %d Disconnect calls continue", len(self._waiting)
            )

    def _put_back(self, ended: Ended, error: AppNotReached) -> None:
        if self._is_draining:
            self._unreached += 1
            return
        if self._outage is None:
            self._outage = _Outage()
            _log.warning("Disconnect calls wait for the application: %s", error)
        self._append(ended)

    async def drain(self, timeout_s: float) -> None:
        """Makes all waiting calls without pacing.

        Abandons calls that are left after the timeout, and calls that do not reach the application, which may be away
        for longer than this server runs. Both are counted and logged.
        """
        self._is_draining = True
        try:
            async with asyncio.timeout(timeout_s):
                await self._finish()
        except TimeoutError:
            abandoned = len(self._waiting) + len(self._calls)
            self._counters.abandoned_disconnects_total += abandoned
            _log.error("No time was left for %d Disconnect calls", abandoned)
            pacer, self._pacer = self._pacer, None
            for task in (pacer, *self._calls):
                if task is not None:
                    task.cancel()
        if self._unreached:
            self._counters.abandoned_disconnects_total += self._unreached
            _log.error(
                "%d Disconnect calls were not made: the application is away", self._unreached
            )

    async def _finish(self) -> None:
        if self._pacer is not None:
            # The pacer may be asleep until the next call is due: a new one starts at once.
            pacer, self._pacer = self._pacer, None
            pacer.cancel()
        while self._waiting or self._calls:
            # A client that left meanwhile has started a pacer.
            if self._waiting and self._pacer is None:
                self._start_pacer()
            if self._pacer is not None:
                await asyncio.wait([self._pacer])
            if self._calls:
                await asyncio.wait(self._calls)
