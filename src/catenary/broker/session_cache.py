"""Snapshots of sessions that can be resumed, each for a TTL after it was last saved or touched.

Each is returned once: by :meth:`Snapshots.take` within its TTL, or by :meth:`Snapshots.expire` after that.
Source: docs/reliable_streams.md (anycable). With a TTL of 0 no snapshot can be taken.
Knows: sids and bytes. Does not know: what a snapshot contains.
"""

from collections import OrderedDict
from math import inf
from typing import Final

from catenary.messages.names import Sid

SNAPSHOT_BYTES: Final = 250
"""Memory of a snapshot beside its bytes: sid, deadline, entry of the dict; measured in CPython 3.11."""


class Snapshots:
    """Snapshots by sid, for ``ttl_s`` seconds. Times are in seconds of one monotonic clock."""

    __slots__ = ("_kept", "_ttl_s", "size_bytes")

    def __init__(self, ttl_s: float) -> None:
        self._ttl_s = ttl_s
        # In the order of deadlines, which is that of the last save or touch: all have the same TTL.
        self._kept: OrderedDict[Sid, tuple[float, bytes]] = OrderedDict()
        self.size_bytes = 0

    def __len__(self) -> int:
        return len(self._kept)

    def __contains__(self, sid: Sid) -> bool:
        return sid in self._kept

    def save(self, sid: Sid, snapshot: bytes, now: float) -> None:
        """Stores a snapshot, replacing the one of the same sid."""
        if sid in self._kept:
            self._drop(sid)
        self._kept[sid] = (now + self._ttl_s, snapshot)
        self.size_bytes += SNAPSHOT_BYTES + len(snapshot)

    def touch(self, sid: Sid, now: float) -> None:
        """Restarts the TTL of a snapshot. Does nothing if there is none, or its TTL has passed."""
        kept = self._kept.get(sid)
        if kept is not None and now < kept[0]:
            self._kept[sid] = (now + self._ttl_s, kept[1])
            self._kept.move_to_end(sid)

    def take(self, sid: Sid, now: float) -> bytes | None:
        """Removes a snapshot and returns it; None if there is none, or its TTL has passed."""
        kept = self._kept.get(sid)
        if kept is None or kept[0] <= now:
            return None
        return self._drop(sid)

    def expire(self, now: float, limit: float = inf) -> tuple[bytes, ...]:
        """Removes snapshots whose TTL has passed, at most ``limit``, and returns them."""
        expired: list[bytes] = []
        while self._kept and len(expired) < limit:
            sid, (deadline, _) = next(iter(self._kept.items()))
            if deadline > now:
                return tuple(expired)
            expired.append(self._drop(sid))
        if not self._kept:
            self._kept.clear()  # frees memory: a dict does not shrink by itself
        return tuple(expired)

    def clear(self) -> tuple[bytes, ...]:
        """Removes all snapshots and returns them."""
        return tuple(self._drop(sid) for sid in list(self._kept))

    def _drop(self, sid: Sid) -> bytes:
        _, snapshot = self._kept.pop(sid)
        self.size_bytes -= SNAPSHOT_BYTES + len(snapshot)
        return snapshot
