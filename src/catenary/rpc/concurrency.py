"""Limits how many calls are under way at once.

An application has a limited number of workers and refuses calls that exceed it, so calls wait here for a slot, first in,
first out. Calls of new clients wait in a line of their own: a burst of connections does not delay the commands of
connected clients. Source: docs/rpc.md, "Concurrency settings" (anycable/anycable).
Knows: slots, waiters. Does not know: what a call is.
"""

import asyncio
from collections import OrderedDict
from typing import Generic, Protocol, TypeVar

from catenary.metrics.counters import Counters


class Waiter(Protocol):
    """Something that waits for a slot."""

    def slot_granted(self) -> None:
        """The slot is its own until :meth:`ConcurrencyLimiter.release`. Never raises."""
        ...


_W = TypeVar("_W", bound=Waiter)
_Line = OrderedDict[_W, None]


class ConcurrencyLimiter(Generic[_W]):
    """A semaphore with two lines, each first in, first out. While both have waiters, slots go to them alternately.

    Counts its waiters in ``rpc_pending_num``. Belongs to one event loop.
    """

    __slots__ = (
        "_capacity",
        "_counters",
        "_free",
        "_idle",
        "_is_granting",
        "_is_turn_of_newcomers",
        "_newcomers",
        "_waiting",
    )

    def __init__(self, capacity: int, counters: Counters) -> None:
        if capacity < 1:
            raise ValueError(f"expected a capacity of 1 or more, got {capacity}")
        self._capacity = capacity
        self._counters = counters
        self._free = capacity
        """Negative while more calls are under way than a capacity that has shrunk."""
        # Ordered, with a removal in the middle at constant cost: thousands of clients may leave while their calls
        # wait. (A plain dict looks for its first key past all deleted ones.)
        self._waiting: _Line[_W] = OrderedDict()
        self._newcomers: _Line[_W] = OrderedDict()
        self._is_turn_of_newcomers = False
        self._is_granting = False
        self._idle = asyncio.Event()

    @property
    def capacity(self) -> int:
        """The number of slots."""
        return self._capacity

    @property
    def busy(self) -> int:
        """The number of slots in use."""
        return self._capacity - self._free

    @property
    def has_backlog(self) -> bool:
        """Whether something waits for a slot."""
        return bool(self._waiting or self._newcomers)

    def resize(self, capacity: int) -> None:
        """Changes the number of slots. Those in use stay in use until they are released."""
        self._free += capacity - self._capacity
        self._capacity = capacity
        if not self._is_granting:
            self._grant()

    def acquire(self, waiter: _W, *, is_newcomer: bool = False) -> None:
        """Grants a slot at once if one is free and nothing waits for it; otherwise the waiter is put in line."""
        if self._free > 0 and not self._waiting and not self._newcomers:
            self._free -= 1
            waiter.slot_granted()
            return
        line = self._newcomers if is_newcomer else self._waiting
        line[waiter] = None
        self._counters.rpc_pending_num += 1

    def withdraw(self, waiter: _W) -> None:
        """Removes a waiter from its line."""
        line = self._waiting if waiter in self._waiting else self._newcomers
        del line[waiter]
        self._counters.rpc_pending_num -= 1

    def release(self) -> None:
        """Gives a slot back, which goes to the first waiter of the line whose turn it is."""
        self._free += 1
        if not self._is_granting:
            self._grant()

    def _grant(self) -> None:
        line = self._waiting if not self._newcomers else self._next_line()
        if line and self._free > 0:
            # The waiter may fail at once, and release its slot in here. Then the next one gets it in another turn of the
            # loop: thousands may wait for an application that is away.
            self._is_granting = True
            self._free -= 1
            waiter, _ = line.popitem(last=False)
            self._counters.rpc_pending_num -= 1
            try:
                waiter.slot_granted()
            finally:
                self._end_grant()
        else:
            self._end_grant()

    def _end_grant(self) -> None:
        if self._is_granting and self._free > 0 and (self._waiting or self._newcomers):
            asyncio.get_running_loop().call_soon(self._grant)
            return
        self._is_granting = False
        if self._free == self._capacity:
            self._idle.set()

    def _next_line(self) -> _Line[_W]:
        if not self._waiting:
            return self._newcomers
        self._is_turn_of_newcomers = not self._is_turn_of_newcomers
        return self._newcomers if self._is_turn_of_newcomers else self._waiting

    async def idle(self) -> None:
        """Returns once no slot is in use and nothing waits."""
        while self.busy or self.has_backlog:
            self._idle.clear()
            await self._idle.wait()
