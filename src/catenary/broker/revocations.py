"""Identifiers that were disconnected remotely: sessions of them that were kept before are over.

A remote disconnect revokes its identifiers. Revocations are numbered in the order in which they took effect. A
session that is kept carries the number of the newest revocation that its node knew when it wrote the session; it
is over when its identifiers were revoked later than that. No clocks are compared, so the rule holds for a session
that a node saves late, or that a node saves which was away when the command was sent.
Source: "Disconnect remote clients" of docs/rails/compatibility.md (anycable); the name is that of revoked tokens.
Knows: identifiers, numbers. Does not know: sessions, how commands travel.
"""

from collections import OrderedDict
from typing import Final

LIMIT: Final = 10_000
"""Identifiers that are remembered: 2 MB. Beyond, sessions that are older than the forgotten are over, too."""

LATE_S: Final = 60
"""How much longer than sessions revocations are remembered: a session may be touched once more by a node that
hears of the revocation late."""


class Revocations:
    """The revocations of the last ``ttl_s`` seconds, by identifiers. Moments are on one clock that never goes back."""

    __slots__ = ("_forgotten", "_limit", "_numbers", "_ttl_s", "newest")

    def __init__(self, ttl_s: float, *, limit: int = LIMIT) -> None:
        """``ttl_s`` is how long a session is kept."""
        self._ttl_s = ttl_s + LATE_S
        self._limit = limit
        # Number and moment, in the order in which they were added
        self._numbers: OrderedDict[str, tuple[int, float]] = OrderedDict()
        self._forgotten = 0
        self.newest = 0
        """The number of the newest revocation; 0 before the first."""

    def __len__(self) -> int:
        return len(self._numbers)

    def revoke(self, identifiers: str, now: float) -> None:
        """Adds a revocation that nobody else numbers."""
        self.add(identifiers, self.newest + 1, now)

    def add(self, identifiers: str, number: int, now: float) -> bool:
        """Adds a revocation; False where this one, or a later one of the same identifiers, is known already."""
        known = self._numbers.get(identifiers)
        if known is not None and known[0] >= number:
            return False
        self._numbers[identifiers] = (number, now)
        self._numbers.move_to_end(identifiers)
        self.newest = max(self.newest, number)
        self._forget(now)
        return True

    def is_revoked(self, identifiers: str, since: int) -> bool:
        """Were these identifiers revoked after the revocation of number ``since``?"""
        if since < self._forgotten:
            return True
        known = self._numbers.get(identifiers)
        return known is not None and known[0] > since

    def _forget(self, now: float) -> None:
        """Drops revocations that no session can be older than; and the oldest where there are too many."""
        while self._numbers:
            number, added_at = next(iter(self._numbers.values()))
            if now - added_at < self._ttl_s:
                if len(self._numbers) <= self._limit:
                    return
                self._forgotten = max(self._forgotten, number)
            self._numbers.popitem(last=False)
