"""Snapshots of sessions that may be resumed, each until a time after it was last saved or touched.

Each leaves once: to somebody who takes it while its time runs, or with :meth:`Snapshots.expire`.
Knows: sids and bytes. Does not know: what a snapshot says.
Source: docs/reliable_streams.md (anycable). A time to live of 0 means that nothing can be taken.
"""

from typing import Final

from catenary.broker.timer_wheel import TimerWheel
from catenary.messages.names import Sid

SNAPSHOT_BYTES: Final = 300
"""What a snapshot costs beside its bytes: sid, deadline, places; measured in CPython 3.11."""


class _Kept:
    __slots__ = ("deadline", "snapshot")

    def __init__(self, snapshot: bytes, deadline: float) -> None:
        self.snapshot = snapshot
        self.deadline = deadline


class Snapshots:
    """Snapshots by sid, for ``ttl_s`` seconds."""

    __slots__ = ("_kept", "_ttl_s", "_wheel", "size_bytes")

    def __init__(self, ttl_s: float) -> None:
        self._ttl_s = ttl_s
        self._kept: dict[Sid, _Kept] = {}
        self._wheel = TimerWheel[Sid](ttl_s)
        self.size_bytes = 0

    def __len__(self) -> int:
        return len(self._kept)

    def __contains__(self, sid: Sid) -> bool:
        return sid in self._kept

    def save(self, sid: Sid, snapshot: bytes, now: float) -> None:
        """Keeps a snapshot, in place of what was kept under this sid."""
        if sid in self._kept:
            self._drop(sid)
        self._kept[sid] = _Kept(snapshot, now + self._ttl_s)
        self._wheel.schedule(sid, now + self._ttl_s)
        self.size_bytes += SNAPSHOT_BYTES + len(snapshot)

    def touch(self, sid: Sid, now: float) -> None:
        """Its time runs anew; nothing happens for one that is not there, or whose time is over."""
        kept = self._kept.get(sid)
        if kept is not None and now < kept.deadline:
            kept.deadline = now + self._ttl_s
            self._wheel.schedule(sid, kept.deadline)

    def take(self, sid: Sid, now: float) -> bytes | None:
        """Takes a snapshot out; None where there is none, or its time is over."""
        kept = self._kept.get(sid)
        if kept is None or kept.deadline <= now:
            return None
        self._wheel.cancel(sid)
        return self._drop(sid)

    def expire(self, now: float) -> tuple[bytes, ...]:
        """Takes out those whose time is over, at most 1/32 of it too late."""
        expired = []
        while (sid := self._wheel.pop_due(now)) is not None:
            expired.append(self._drop(sid))
        if not self._kept:
            self._kept.clear()  # gives its memory back: a dict does not shrink by itself
        return tuple(expired)

    def clear(self) -> tuple[bytes, ...]:
        """Takes out all of them."""
        for sid in self._kept:
            self._wheel.cancel(sid)
        return tuple(self._drop(sid) for sid in list(self._kept))

    def _drop(self, sid: Sid) -> bytes:
        snapshot = self._kept.pop(sid).snapshot
        self.size_bytes -= SNAPSHOT_BYTES + len(snapshot)
        return snapshot
