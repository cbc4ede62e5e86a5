"""A timer wheel: finds expired keys without looking at all of them.

Keys are in slots by their deadlines. Setting, moving and cancelling a deadline take constant time, and a sweep takes time
in proportion to the expired keys. Knows: keys and deadlines. Does not know: what expires, clocks.
"""

from collections.abc import Hashable
from heapq import heappop, heappush
from math import floor
from typing import Final, Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)

TICKS: Final = 32
"""Ticks in the usual TTL: keys expire at most 1/32 of it late."""

SHORTEST_TICK_S: Final = 0.001
"""For TTLs of 0 or close to it."""

_SPARE_NUMBERS: Final = 2 * TICKS
"""Numbers of slots that are gone, which the heap may have in any case."""


class TimerWheel(Generic[Key]):
    """Deadlines of keys. ``ttl_s`` is how far ahead they usually are, and sets the length of a tick.

    Memory is one slot for each tick that has a deadline, however far ahead: a day of clients whose tokens are valid for a year
    leaves nothing when they have left.
    """

    __slots__ = ("_order", "_slot_numbers", "_slots", "tick_s")

    def __init__(self, ttl_s: float) -> None:
        self.tick_s = max(ttl_s / TICKS, SHORTEST_TICK_S)
        self._slot_numbers: dict[Key, int] = {}
        self._slots: dict[int, dict[Key, None]] = {}
        # The numbers of the slots, as a heap; some of slots that are gone, and some twice
        self._order: list[int] = []

    def __len__(self) -> int:
        return len(self._slot_numbers)

    def schedule(self, key: Key, deadline: float) -> None:
        """Sets the deadline of a key, replacing its former one."""
        number = floor(deadline / self.tick_s)
        old = self._slot_numbers.get(key)
        if old == number:
            return
        if old is not None:
            self._remove(key, old)
        self._slot_numbers[key] = number
        slot = self._slots.get(number)
        if slot is None:
            slot = self._slots[number] = {}
            heappush(self._order, number)
        slot[key] = None

    def cancel(self, key: Key) -> None:
        """Removes a key, if it is there."""
        number = self._slot_numbers.pop(key, None)
        if number is not None:
            self._remove(key, number)

    def pop_due(self, now: float) -> Key | None:
        """Removes a key whose deadline has passed and returns it; None if there is no other.

        Never early, at most a tick late. Keys are returned in the order of their ticks; within a tick, in any order.
        """
        # The current slot may contain deadlines in the future: it is due at its end.
        current = floor(now / self.tick_s)
        while self._order and self._order[0] < current:
            slot = self._slots.get(self._order[0])
            if slot:
                key, _ = slot.popitem()
                del self._slot_numbers[key]
                return key
            self._slots.pop(heappop(self._order), None)
        if not self._slot_numbers:
            self._slot_numbers.clear()  # frees memory: a dict does not shrink by itself
        return None

    def _remove(self, key: Key, number: int) -> None:
        """Removes a key from its slot, and the slot if it is empty. Its number stays in the heap until it is due, or until most
        numbers there are of slots that are gone."""
        slot = self._slots[number]
        del slot[key]
        if slot:
            return
        del self._slots[number]
        if len(self._order) > 2 * len(self._slots) + _SPARE_NUMBERS:
            self._order = sorted(self._slots)
