"""Which subscriptions have ended, where the end of their session may tell of that once more.

A client that leaves while it gives a subscription back has both told of it; the application must hear
of it once. Knows: subscriptions. Does not know: who tells.
"""

from collections import OrderedDict
from typing import Final

from catenary.channels.timers import Place

LIMIT: Final = 10_000
"""Subscriptions that are remembered; more have ended longer ago than a client takes to leave."""


class Endings:
    """The last subscriptions that have ended, with the moment (seconds of any clock)."""

    __slots__ = ("_moments",)

    def __init__(self) -> None:
        self._moments: OrderedDict[Place, float] = OrderedDict()

    def note(self, place: Place, moment_s: float) -> None:
        """A subscription ends."""
        self._moments[place] = moment_s
        if len(self._moments) > LIMIT:
            self._moments.popitem(last=False)

    def forget(self, place: Place) -> float | None:
        """It begins anew, or its session has ended, too; returns the moment where it was known."""
        return self._moments.pop(place, None)
