"""Snapshots of sessions that may be resumed, each until a time after it was last saved or touched.

Each leaves once: to somebody who takes it while its time runs, or with :meth:`Snapshots.expire`.
Knows: sids and bytes. Does not know: what a snapshot says.
Source: docs/reliable_streams.md (anycable). A time to live of 0 means that nothing can be taken.
"""

from collections import OrderedDict
from math import inf
from typing import Final

from catenary.messages.names import Sid

SNAPSHOT_BYTES: Final = 250
"""What a snapshot costs beside its bytes: sid, deadline, place; measured in CPython 3.11."""


class Snapshots:
    """Snapshots by sid, for ``ttl_s`` seconds. Moments are on one clock that never goes back."""

    __slots__ = ("_kept", "_ttl_s", "size_bytes")

    def __init__(self, ttl_s: float) -> None:
        self._ttl_s = ttl_s
        # By deadlines, which is the order in which they were last saved or touched: each lasts for
        # the same time from then on.
        self._kept: OrderedDict[Sid, tuple[float, bytes]] = OrderedDict()
        self.size_bytes = 0

    def __len__(self) -> int:
        return len(self._kept)

    def __contains__(self, sid: Sid) -> bool:
        return sid in self._kept

    def save(self, sid: Sid, snapshot: bytes, now: float) -> None:
        """Keeps a snapshot, in place of what was kept under this sid."""
        if sid in self._kept:
            self._drop(sid)
        self._kept[sid] = (now + self._ttl_s, snapshot)
        self.size_bytes += SNAPSHOT_BYTES + len(snapshot)

    def touch(self, sid: Sid, now: float) -> None:
        """Its time runs anew; nothing happens for one that is not there, or whose time is over."""
        kept = self._kept.get(sid)
        if kept is not None and now < kept[0]:
            self._kept[sid] = (now + self._ttl_s, kept[1])
            self._kept.move_to_end(sid)

    def take(self, sid: Sid, now: float) -> bytes | None:
        """Takes a snapshot out; None where there is none, or its time is over."""
        kept = self._kept.get(sid)
        if kept is None or kept[0] <= now:
            return None
        return self._drop(sid)

    def expire(self, now: float, limit: float = inf) -> tuple[bytes, ...]:
        """Takes out those whose time is over, so many at most."""
        expired: list[bytes] = []
        while self._kept and len(expired) < limit:
            sid, (deadline, _) = next(iter(self._kept.items()))
            if deadline > now:
                return tuple(expired)
            expired.append(self._drop(sid))
        if not self._kept:
            self._kept.clear()  # gives its memory back: a dict does not shrink by itself
        return tuple(expired)

    def clear(self) -> tuple[bytes, ...]:
        """Takes out all of them."""
        return tuple(self._drop(sid) for sid in list(self._kept))

    def _drop(self, sid: Sid) -> bytes:
        _, snapshot = self._kept.pop(sid)
        self.size_bytes -= SNAPSHOT_BYTES + len(snapshot)
        return snapshot
