"""Whose time is over, without looking at everybody: keys stand in slots by their deadlines.

Setting, moving and cancelling a deadline each cost the same for any number of keys, and a sweep
costs as much as there is due. Knows: keys and deadlines. Does not know: what ends, clocks.
"""

from collections.abc import Hashable
from heapq import heappop, heappush
from math import floor
from typing import Final, Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)

TICKS: Final = 32
"""Ticks in the usual time to live: what ends is told at most 1/32 of that too late."""

SHORTEST_TICK_S: Final = 0.001
"""For times to live of nothing or next to it."""


class TimerWheel(Generic[Key]):
    """Deadlines of keys; ``ttl_s`` is how far ahead they usually are, and so how fine slots are.

    Deadlines further away cost a slot for each tick that is in use.
    """

    __slots__ = ("_order", "_places", "_slots", "tick_s")

    def __init__(self, ttl_s: float) -> None:
        self.tick_s = max(ttl_s / TICKS, SHORTEST_TICK_S)
        self._places: dict[Key, int] = {}
        self._slots: dict[int, dict[Key, None]] = {}
        self._order: list[int] = []  # the numbers of the slots, as a heap

    def __len__(self) -> int:
        return len(self._places)

    def schedule(self, key: Key, deadline: float) -> None:
        """Sets a key's deadline, in place of the one that it had."""
        place = floor(deadline / self.tick_s)
        old = self._places.get(key)
        if old == place:
            return
        if old is not None:
            self._take_out(key, old)
        self._places[key] = place
        slot = self._slots.get(place)
        if slot is None:
            slot = self._slots[place] = {}
            heappush(self._order, place)
        slot[key] = None

    def cancel(self, key: Key) -> None:
        """Forgets a key; nothing happens for one that is not there."""
        place = self._places.pop(key, None)
        if place is not None:
            self._take_out(key, place)

    def pop_due(self, now: float) -> Key | None:
        """Takes out one whose deadline is over: none too early, none more than a tick too late.

        None where there is no other. In the order of their ticks, and within one in any order.
        """
        # A slot that is not over may hold deadlines still to come: it waits for its end.
        current = floor(now / self.tick_s)
        while self._order and self._order[0] < current:
            slot = self._slots[self._order[0]]
            if slot:
                key, _ = slot.popitem()
                del self._places[key]
                return key
            del self._slots[heappop(self._order)]
        if not self._places:
            self._places.clear()  # gives its memory back: a dict does not shrink by itself
        return None

    def _take_out(self, key: Key, place: int) -> None:
        """An empty slot stays until its time comes, so that its number is in the heap once."""
        slot = self._slots[place]
        del slot[key]
        if not slot:
            slot.clear()  # gives its memory back
