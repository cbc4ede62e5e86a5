"""How many calls may be under way at once.

An application has a fixed number of workers and refuses what exceeds it; calls wait here instead,
in the order in which they came. Source: docs/rpc.md, "Concurrency settings" (anycable/anycable).
Knows: slots and who waits. Does not know: what a call is.
"""

import asyncio
from collections import OrderedDict

from catenary.metrics.counters import Counters


class Barrier:
    """A first-in-first-out semaphore that costs no task switch while a slot is free.

    Moves ``rpc_pending_num``: the calls that wait. Belongs to one event loop.
    """

    __slots__ = ("_capacity", "_counters", "_free", "_idle", "_waiting")

    def __init__(self, capacity: int, counters: Counters) -> None:
        if capacity < 1:
            raise ValueError(f"expected a capacity of 1 or more, got {capacity}")
        self._capacity = capacity
        self._counters = counters
        self._free = capacity
        # Ordered, and yet a waiter in the middle is forgotten at once: thousands of clients may
        # leave while their calls wait. (A plain dict looks for its first key past all deleted ones.)
        self._waiting: OrderedDict[asyncio.Future[None], None] = OrderedDict()
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

    async def acquire(self) -> None:
        """Takes a slot, waiting for one where it must; a cancelled waiter leaves the queue."""
        if self.take():
            return
        slot = asyncio.get_running_loop().create_future()
        self._waiting[slot] = None
        self._counters.rpc_pending_num += 1
        try:
            await slot
        except asyncio.CancelledError:
            if slot in self._waiting:
                del self._waiting[slot]
                self._counters.rpc_pending_num -= 1
            elif not slot.cancelled():
                # It was given the slot before it could learn that it is cancelled.
                self.release()
            raise

    def release(self) -> None:
        """Gives a slot back: to the one who has waited longest, if anybody has."""
        while self._waiting:
            slot, _ = self._waiting.popitem(last=False)
            self._counters.rpc_pending_num -= 1
            # A cancelled waiter stands here until its task runs again.
            if not slot.done():
                slot.set_result(None)
                return
        self._free += 1
        if self._free == self._capacity:
            self._idle.set()

    async def idle(self) -> None:
        """Returns once no slot is taken and nobody waits."""
        while self.busy:
            self._idle.clear()
            await self._idle.wait()
