"""How many calls may be under way at once.

An application has a fixed number of workers and refuses what exceeds it; calls wait here instead,
in the order in which they came, those of newcomers in a line of their own: however many come at
once, who is there already is not kept waiting by all of them. Source: docs/rpc.md, "Concurrency settings" (anycable/anycable).
Knows: slots and who waits. Does not know: what a call is.
"""

import asyncio
from collections import OrderedDict
from typing import Generic, Protocol, TypeVar

from catenary.metrics.counters import Counters


class Entrant(Protocol):
    """Who wants a slot."""

    def begin(self) -> None:
        """It has one, until it is released. Never raises."""
        ...


_E = TypeVar("_E", bound=Entrant)
_Line = OrderedDict[_E, None]


class Barrier(Generic[_E]):
    """A semaphore with two lines, each first in, first out. Where both wait, they get their slots in
    turn.

    Moves ``rpc_pending_num``: those who wait. Belongs to one event loop.
    """

    __slots__ = (
        "_capacity",
        "_counters",
        "_free",
        "_idle",
        "_is_handing_on",
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
        # Ordered, and yet one in the middle is forgotten at once: thousands of clients may leave
        # while their calls wait. (A plain dict looks for its first key past all deleted ones.)
        self._waiting: _Line[_E] = OrderedDict()
        self._newcomers: _Line[_E] = OrderedDict()
        self._is_turn_of_newcomers = False
        self._is_handing_on = False
        self._idle = asyncio.Event()

    @property
    def busy(self) -> int:
        """Slots that are taken."""
        return self._capacity - self._free

    def enter(self, entrant: _E, *, is_newcomer: bool = False) -> None:
        """Gives a slot to who comes, at once where one is free and nobody waits for it."""
        if self._free and not self._waiting and not self._newcomers:
            self._free -= 1
            entrant.begin()
            return
        line = self._newcomers if is_newcomer else self._waiting
        line[entrant] = None
        self._counters.rpc_pending_num += 1

    def leave(self, entrant: _E) -> None:
        """It waits no longer."""
        line = self._waiting if entrant in self._waiting else self._newcomers
        del line[entrant]
        self._counters.rpc_pending_num -= 1

    def release(self) -> None:
        """Gives a slot back: to the one who has waited longest in the line whose turn it is."""
        self._free += 1
        if not self._is_handing_on:
            self._hand_on()

    def _hand_on(self) -> None:
        line = self._waiting if not self._newcomers else self._next_line()
        if line and self._free:
            # Who begins may fail at once, and release its slot in here. The next one begins in
            # another turn of the loop then: thousands may wait for an application that is away.
            self._is_handing_on = True
            self._free -= 1
            entrant, _ = line.popitem(last=False)
            self._counters.rpc_pending_num -= 1
            try:
                entrant.begin()
            finally:
                self._end_handing_on()
        else:
            self._end_handing_on()

    def _end_handing_on(self) -> None:
        if self._is_handing_on and self._free and (self._waiting or self._newcomers):
            asyncio.get_running_loop().call_soon(self._hand_on)
            return
        self._is_handing_on = False
        if self._free == self._capacity:
            self._idle.set()

    def _next_line(self) -> _Line[_E]:
        if not self._waiting:
            return self._newcomers
        self._is_turn_of_newcomers = not self._is_turn_of_newcomers
        return self._newcomers if self._is_turn_of_newcomers else self._waiting

    async def idle(self) -> None:
        """Returns once no slot is taken and nobody waits."""
        while self.busy or self._waiting or self._newcomers:
            self._idle.clear()
            await self._idle.wait()
