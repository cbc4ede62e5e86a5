"""Which subscriptions have ended, where the end of their session may tell of that once more.

A client that leaves while it gives a subscription back has both told of it; the application must hear
of it once. Knows: subscriptions. Does not know: who tells.
"""

from typing import Final

from catenary.channels.timers import Place

LIMIT: Final = 5_000
"""Subscriptions that are remembered at least, and twice as many at most: others have ended longer ago
than a client takes to leave."""


class Endings:
    """The last subscriptions that have ended, with the moment (seconds of any clock).

    Most are never told of again, so that they stay until they are too many: of each there is its hash
    alone, because clients say how long an identifier is.
    """

    __slots__ = ("_earlier", "_latest")

    def __init__(self) -> None:
        self._earlier: dict[int, float] = {}
        self._latest: dict[int, float] = {}

    def note(self, place: Place, moment_s: float) -> None:
        """A subscription ends."""
        if len(self._latest) >= LIMIT:
            self._earlier, self._latest = self._latest, {}
        self._latest[hash(place)] = moment_s

    def forget(self, place: Place) -> float | None:
        """It begins anew, or its session has ended, too; returns the moment where it was known."""
        key = hash(place)
        earlier = self._earlier.pop(key, None)
        return self._latest.pop(key, earlier)
