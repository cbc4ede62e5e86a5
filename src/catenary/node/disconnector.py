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

from catenary.errors import AppError
from catenary.messages.environment import Environment
from catenary.messages.names import Identifier
from catenary.metrics.counters import Counters
from catenary.ports import Application

_log: Final = logging.getLogger("catenary.disconnector")

PAUSE_S: Final = 1.0
"""Until a pacer that has failed is followed by another."""


class Ended(msgspec.Struct, frozen=True):
    """A session that is over, as its application must hear of it."""

    environment: Environment
    subscriptions: tuple[Identifier, ...]


class Disconnector:
    """The queue of Disconnect calls.

    ``rate`` calls start in a second; while more than ``backlog`` wait, they are not paced, so that
    the queue is worked off as fast as the application's own limit of concurrent calls allows.
    Nothing is dropped before the end of :meth:`drain`.
    """

    __slots__ = (
        "_application",
        "_backlog",
        "_calls",
        "_clock",
        "_counters",
        "_due",
        "_interval_s",
        "_is_draining",
        "_pacer",
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
    ) -> None:
        self._application = application
        self._counters = counters
        self._interval_s = 1 / rate
        self._backlog = backlog
        self._clock = clock
        self._waiting: deque[Ended] = deque()
        self._calls: set[asyncio.Task[None]] = set()
        self._pacer: asyncio.Task[None] | None = None
        # When the next call may start; kept from one pacer to the next, so that the rate holds.
        self._due = clock()
        self._is_draining = False

    def enqueue(self, ended: Ended) -> None:
        """Takes a session that is over; its call is made in its turn."""
        self._waiting.append(ended)
        self._counters.disconnect_queue_size = len(self._waiting)
        if len(self._waiting) == self._backlog + 1:
            _log.warning("More than %d Disconnect calls wait: pacing is off", self._backlog)
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

    async def _pace(self) -> None:
        """Starts the calls that wait, one after the other, and ends when none is left."""
        while self._waiting:
            is_paced = not self._is_draining and len(self._waiting) <= self._backlog
            delay_s = self._due - self._clock()
            if is_paced and delay_s > 0:
                await asyncio.sleep(delay_s)
            elif len(self._calls) >= 100:
                # The application limits its own concurrency; more tasks would only wait there.
                await asyncio.wait(self._calls, return_when=asyncio.FIRST_COMPLETED)
            if not self._waiting:
                break
            self._start(self._waiting.popleft())
            self._due = max(self._due, self._clock() - self._interval_s) + self._interval_s

    def _start(self, ended: Ended) -> None:
        self._counters.disconnect_queue_size = len(self._waiting)
        call = asyncio.get_running_loop().create_task(self._tell(ended))
        self._calls.add(call)
        call.add_done_callback(self._calls.discard)

    async def _tell(self, ended: Ended) -> None:
        try:
            await self._application.disconnect(ended.environment, ended.subscriptions)
        except AppError as error:
            _log.warning("sid=%s Disconnect call failed: %s", ended.environment.sid, error)
        except Exception:  # noqa: BLE001
            _log.exception("sid=%s Disconnect call failed unexpectedly", ended.environment.sid)

    async def drain(self, timeout_s: float) -> None:
        """Makes all calls that wait, unpaced; gives up, counted and logged, after the timeout."""
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
