"""Chooses the code worker for each call, and holds calls for which no worker is free.

A call goes to the worker with the fewest calls under way. When every worker has as many as it may
have, calls wait in the order of their arrival, for a limited time.
Knows: links to workers, calls, the loop's clock. Does not know: processes, generations of code.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Iterable
from typing import Final

from catenary.codeworkers.link import WorkerCall, WorkerLink
from catenary.errors import AppNotReached, AppUnavailable
from catenary.metrics.counters import Counters

CALLS_LIMIT: Final = 1_000
"""Calls under way in one worker: as many clients may wait for slow methods at once."""


class CallQueue:
    """The workers that take new calls, and the calls that wait for one. Belongs to the running loop.

    Moves ``app_workers_num``, ``rpc_pending_num``, ``rpc_timeout_total`` and ``rpc_error_total``.
    """

    def __init__(self, timeout_s: float, counters: Counters) -> None:
        """A call waits up to ``timeout_s`` for a worker; 0 is no limit."""
        self._timeout_s = timeout_s
        self._counters = counters
        self._loop = asyncio.get_running_loop()
        self._links: list[WorkerLink] = []
        self._waiting: OrderedDict[WorkerCall, float] = OrderedDict()
        """Deadlines. Insertion order is deadline order: every call has the same timeout."""
        self._timer: asyncio.TimerHandle | None = None

    def replace_links(self, links: Iterable[WorkerLink]) -> None:
        """From now on calls go to these workers, and to no other.

        A worker that has died since it was ready is left out.
        """
        self._links = [link for link in links if not link.gone.is_set()]
        self._counters.app_workers_num = len(self._links)
        self.send_waiting()

    def add_link(self, link: WorkerLink) -> None:
        """From now on calls go to this worker, too."""
        self.replace_links((*self._links, link))

    def remove_link(self, link: WorkerLink) -> None:
        """Sends no more calls to this worker, which may have been replaced before."""
        if link in self._links:
            self._links.remove(link)
            self._counters.app_workers_num = len(self._links)

    def submit(self, call: WorkerCall) -> None:
        """Sends a call to a worker, or lets it wait for one.

        A call that waited in vain fails with :class:`AppNotReached`.
        """
        link = None if self._waiting else self._least_busy()
        if link is not None:
            link.send(call)
            return
        self._waiting[call] = self._loop.time() + self._timeout_s
        self._counters.rpc_pending_num += 1
        if self._timer is None and self._timeout_s > 0:
            self._timer = self._loop.call_later(self._timeout_s, self._fail_expired)

    def send_waiting(self) -> None:
        """Sends waiting calls to workers that are free now, in order."""
        while self._waiting and (link := self._least_busy()) is not None:
            call = next(iter(self._waiting))
            self.withdraw(call)
            link.send(call)

    def withdraw(self, call: WorkerCall) -> None:
        """Removes a waiting call, which nothing else has happened to."""
        del self._waiting[call]
        self._counters.rpc_pending_num -= 1

    def fail_waiting(self, reason: str) -> None:
        """Fails every waiting call with :class:`AppUnavailable`."""
        for call in tuple(self._waiting):
            self._fail(call, AppUnavailable(reason))

    def _least_busy(self) -> WorkerLink | None:
        """None if every worker is at its limit."""
        best, fewest = None, CALLS_LIMIT
        for link in self._links:
            if len(link.calls) < fewest:
                best, fewest = link, len(link.calls)
        return best

    def _fail_expired(self) -> None:
        """One timer, for the earliest deadline, serves all calls."""
        self._timer = None
        while self._waiting:
            call, deadline = next(iter(self._waiting.items()))
            if deadline > self._loop.time():
                self._timer = self._loop.call_at(deadline, self._fail_expired)
                return
            self._counters.rpc_timeout_total += 1
            self._fail(call, AppNotReached("no code worker was free in time"))

    def _fail(self, call: WorkerCall, error: AppUnavailable) -> None:
        self.withdraw(call)
        self._counters.rpc_error_total += 1
        call.set_exception(error)
