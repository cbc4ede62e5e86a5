"""Tells the application that sessions are over, no faster than it can bear.

A crowd that leaves at once becomes a paced queue of Disconnect calls.
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
"""Until a pacer that has failed is followed by another."""

QUEUE_LIMIT: Final = 100_000
"""Calls that wait: some 150 MB."""

LONGEST_PAUSE_S: Final = 2.0
"""Between two calls that find out whether the application is back."""

DRAINED_AT_ONCE: Final = 100
"""Calls under way at the end of the server, when no client needs the application any more."""


class Ended(msgspec.Struct, frozen=True):
    """A session that is over, as its application must hear of it."""

    environment: Environment
    subscriptions: tuple[Identifier, ...]


class _Outage:
    """The application is away; ``probes`` are the calls that were made to find out whether it still is."""

    __slots__ = ("probes",)

    def __init__(self) -> None:
        self.probes = 0


class Disconnector:
    """The queue of Disconnect calls.

    ``rate`` calls start in a second, and up to ``at_once`` are under way; while more than ``backlog``
    wait, they are not paced, so that the queue is worked off as fast as the application allows.

    While the application is away, calls stay in the queue, and one at a time finds out whether it is
    back. Each goes to the end of the queue then, so that one that never gets through does not
    stand before the others. The queue holds :data:`QUEUE_LIMIT`: beyond, the oldest is given up,
    counted and logged. Else nothing is given up before :meth:`drain`.
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
        # When the next call may start; kept from one pacer to the next, so that the rate holds.
        self._due = clock()
        self._outage: _Outage | None = None
        self._is_draining = False
        self._unreached = 0
        """Calls that were tried at the end of the server, and did not reach the application."""

    def enqueue(self, ended: Ended) -> None:
        """Takes a session that is over; its call is made in its turn."""
        self._append(ended)
        if len(self._waiting) == self._backlog + 1 and self._outage is None:
            _log.warning("More than %d Disconnect calls wait: pacing is off", self._backlog)

    def _append(self, ended: Ended) -> None:
        if len(self._waiting) >= QUEUE_LIMIT:
            self._give_up(self._waiting.popleft())
        self._waiting.append(ended)
        self._counters.disconnect_queue_size = len(self._waiting)
        self._maybe_start_pacer()

    def _start_pacer(self) -> None:
        self._pacer = asyncio.get_running_loop().create_task(self._pace())
        self._pacer.add_done_callback(self._paced)

    def _paced(self, pacer: "asyncio.Task[None]") -> None:
        """Another one goes on where something waits: calls that came at the last moment, or all of
        them, because the pacer has failed."""
        if self._pacer is not pacer:
            return
        self._pacer = None
        error = asyncio.CancelledError() if pacer.cancelled() else pacer.exception()
        if error is None:
            self._maybe_start_pacer()
            return
        _log.error("Starting Disconnect calls has failed, trying again", exc_info=error)
        # Not at once: a loop that is being closed cancels everything, and nothing may begin then.
        asyncio.get_running_loop().call_later(PAUSE_S, self._maybe_start_pacer)

    def _maybe_start_pacer(self) -> None:
        if self._waiting and self._pacer is None:
            self._start_pacer()

    def _give_up(self, ended: Ended) -> None:
        self._counters.abandoned_disconnects_total += 1
        if self._counters.abandoned_disconnects_total.bit_count() == 1:
            _log.error(
                "%d Disconnect calls were given up, because more than %d waited; the last: sid=%s",
                self._counters.abandoned_disconnects_total,
                QUEUE_LIMIT,
                ended.environment.sid,
            )

    async def _pace(self) -> None:
        """Starts the calls that wait, one after the other, and ends when none is left."""
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
        """Makes one call after a pause: is the application back?"""
        await asyncio.sleep(delay_s(outage.probes, LONGEST_PAUSE_S))
        outage.probes += 1
        if self._outage is outage and self._waiting:
            self._start(self._waiting.popleft())
            await asyncio.wait(self._calls, return_when=asyncio.FIRST_COMPLETED)

    def _start(self, ended: Ended) -> None:
        self._counters.disconnect_queue_size = len(self._waiting)
        call = asyncio.get_running_loop().create_task(self._tell(ended))
        self._calls.add(call)
        call.add_done_callback(self._calls.discard)

    async def _tell(self, ended: Ended) -> None:
        try:
            await self._application.disconnect(ended.environment, ended.subscriptions)
        except AppNotReached as error:
            self._put_back(ended, error)
            return
        except AppUnavailable as error:
            # It may have got the call, and must not get it twice.
            _limited.warning("sid=%s Disconnect call failed: %s", ended.environment.sid, error)
            return
        except AppError as error:
            _limited.warning("sid=%s Disconnect call failed: %s", ended.environment.sid, error)
        except Exception:  # noqa: BLE001
            _limited.exception("sid=%s Disconnect call failed unexpectedly", ended.environment.sid)
        if self._outage is not None:
            self._outage = None
            _log.warning("The application is back: %d Disconnect calls go on", len(self._waiting))

    def _put_back(self, ended: Ended, error: AppNotReached) -> None:
        if self._is_draining:
            self._unreached += 1
            return
        if self._outage is None:
            self._outage = _Outage()
            _log.warning("Disconnect calls wait for the application: %s", error)
        self._append(ended)

    async def drain(self, timeout_s: float) -> None:
        """Makes all calls that wait, unpaced.

        Gives up, counted and logged, what is left after the timeout, and at once what does not
        reach the application: it may be away for longer than this server.
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
            # Whoever leaves meanwhile has started a pacer already.
            if self._waiting and self._pacer is None:
                self._start_pacer()
            if self._pacer is not None:
                await asyncio.wait([self._pacer])
            if self._calls:
                await asyncio.wait(self._calls)
