"""Identifiers that were disconnected remotely: their stored sessions can no longer be resumed.

A remote disconnect revokes its identifiers. Revocations are numbered in the order in which they took effect. A
stored session has the number of the newest revocation that its node knew when it wrote the session; it has ended
if its identifiers were revoked after that. No clocks are compared, so this is also right for a session that is
saved late, or by a node that missed the command.
Source: "Disconnect remote clients" of docs/rails/compatibility.md (anycable); the name is that of revoked tokens.
Knows: identifiers, numbers. Does not know: sessions, how commands travel.
"""

from collections import OrderedDict
from typing import Final

LIMIT: Final = 10_000
"""Identifiers that are remembered: 2 MB. Beyond that, the oldest are forgotten, and sessions older than a forgotten
revocation count as revoked."""

LATE_S: Final = 60
"""Revocations are remembered for so much longer than sessions: a node that receives the revocation late may touch
the session once more."""


class Revocations:
    """The revocations of the last ``ttl_s`` seconds, by identifiers. Times are in seconds of one monotonic clock."""

    __slots__ = ("_forgotten", "_limit", "_numbers", "_ttl_s", "newest")

    def __init__(self, ttl_s: float, *, limit: int = LIMIT) -> None:
        """``ttl_s`` is the TTL of sessions."""
        self._ttl_s = ttl_s + LATE_S
        self._limit = limit
        # Number and time of each, in the order in which they were added
        self._numbers: OrderedDict[str, tuple[int, float]] = OrderedDict()
        self._forgotten = 0
        self.newest = 0
        """The number of the newest revocation; 0 before the first."""

    def __len__(self) -> int:
        return len(self._numbers)

    def revoke(self, identifiers: str, now: float) -> None:
        """Adds a revocation and numbers it: for a node that shares no storage."""
        self.add(identifiers, self.newest + 1, now)

    def add(self, identifiers: str, number: int, now: float) -> bool:
        """Adds a revocation. Returns False if this one, or a later one of the same identifiers, is known already."""
        known = self._numbers.get(identifiers)
        if known is not None and known[0] >= number:
            return False
        self._numbers[identifiers] = (number, now)
        self._numbers.move_to_end(identifiers)
        self.newest = max(self.newest, number)
        self._forget(now)
        return True

    def is_revoked(self, identifiers: str, since: int) -> bool:
        """Whether these identifiers were revoked after the revocation with the number ``since``."""
        if since < self._forgotten:
            return True
        known = self._numbers.get(identifiers)
        return known is not None and known[0] > since

    def _forget(self, now: float) -> None:
        """Drops revocations that are older than every session, and the oldest ones beyond the limit."""
        while self._numbers:
            number, added_at = next(iter(self._numbers.values()))
            if now - added_at < self._ttl_s:
                if len(self._numbers) <= self._limit:
                    return
                self._forgotten = max(self._forgotten, number)
            self._numbers.popitem(last=False)
