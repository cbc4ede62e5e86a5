"""How many calls may be under way at once.

An application has a fixed number of workers and refuses what exceeds it; calls wait here instead,
in the order in which they came, those of newcomers in a line of their own: however many come at
once, who is there already is not kept waiting by all of them. Source: docs/rpc.md, "Concurrency settings" (anycable/anycable).
Knows: slots and who waits. Does not know: what a call is.
"""

import asyncio
from collections import OrderedDict

from catenary.metrics.counters import Counters

_Line = OrderedDict[asyncio.Future[None], None]


class Barrier:
    """A semaphore with two lines, each first in, first out; it costs no task switch while a slot is
    free. Where both lines wait, they get their slots in turn.

    Moves ``rpc_pending_num``: the calls that wait. Belongs to one event loop.
    """

    __slots__ = (
        "_capacity",
        "_counters",
        "_free",
        "_idle",
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
        # Ordered, and yet a waiter in the middle is forgotten at once: thousands of clients may
        # leave while their calls wait. (A plain dict looks for its first key past all deleted ones.)
        self._waiting: _Line = OrderedDict()
        self._newcomers: _Line = OrderedDict()
        self._is_turn_of_newcomers = False
        self._idle = asyncio.Event()

    @property
    def busy(self) -> int:
        """Slots that are taken."""
        return self._capacity - self._free

    def take(self) -> bool:
        """Takes a slot if one is free: then nobody waits, because release() hands its slot on."""
        if not self._free:
            return False
        self._free -= 1
        return True

    async def acquire(self, *, is_newcomer: bool = False) -> None:
        """Takes a slot, waiting for one where it must; a cancelled waiter leaves its line."""
        if self.take():
            return
        slot = asyncio.get_running_loop().create_future()
        line = self._newcomers if is_newcomer else self._waiting
        line[slot] = None
        self._counters.rpc_pending_num += 1
        try:
            await slot
        except asyncio.CancelledError:
            if slot in line:
                del line[slot]
                self._counters.rpc_pending_num -= 1
            elif not slot.cancelled():
                # It was given the slot before it could learn that it is cancelled.
                self.release()
            raise

    def release(self) -> None:
        """Gives a slot back: to the one who has waited longest in the line whose turn it is."""
        while self._waiting or self._newcomers:
            slot, _ = self._next_line().popitem(last=False)
            self._counters.rpc_pending_num -= 1
            # A cancelled waiter stands here until its task runs again.
            if not slot.done():
                slot.set_result(None)
                return
        self._free += 1
        if self._free == self._capacity:
            self._idle.set()

    def _next_line(self) -> _Line:
        if not (self._waiting and self._newcomers):
            return self._waiting or self._newcomers
        self._is_turn_of_newcomers = not self._is_turn_of_newcomers
        return self._newcomers if self._is_turn_of_newcomers else self._waiting

    async def idle(self) -> None:
        """Returns once no slot is taken and nobody waits."""
        while self.busy:
            self._idle.clear()
            await self._idle.wait()
