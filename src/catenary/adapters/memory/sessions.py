"""Resumable sessions of a single node."""

from collections.abc import Callable, Collection, Mapping
from typing import Final

from catenary.broker.revocations import Revocations
from catenary.broker.session_cache import Snapshots
from catenary.messages.names import Sid

EXPIRED_AT_ONCE: Final = 200
"""Sessions that end in one turn of the event loop: 1 to 2 ms."""


class LocalSessions:
    """Satisfies :class:`catenary.ports.SessionCache`.

    A session can be taken for ``ttl_s`` seconds after it was last saved or touched; after that, only
    :meth:`expire` returns it. ``clock`` returns seconds and should be monotonic.
    """

    __slots__ = ("_clock", "_snapshots", "revocations")

    is_shared = False

    def __init__(self, *, ttl_s: float, clock: Callable[[], float]) -> None:
        self._snapshots = Snapshots(ttl_s)
        self.revocations = Revocations(ttl_s)
        self._clock = clock

    @property
    def sessions(self) -> int:
        """The number of stored sessions."""
        return len(self._snapshots)

    @property
    def size_bytes(self) -> int:
        """Their approximate memory in bytes."""
        return self._snapshots.size_bytes

    def save(self, sid: Sid, snapshot: bytes, *, is_new: bool = True) -> None:
        """Stores a session. If it is not new, it only replaces an earlier snapshot."""
        if is_new or sid in self._snapshots:
            self._snapshots.save(sid, snapshot, self._clock())

    def amend(self, sid: Sid, lines: Mapping[int, bytes]) -> None:
        """Replaces or adds lines of a snapshot; does nothing if it is not stored any more."""
        now = self._clock()
        kept = self._snapshots.take(sid, now)
        if kept is not None:
            numbered = {**dict(enumerate(kept.split(b"\n"))), **lines}
            self._snapshots.save(sid, b"\n".join(numbered[each] for each in sorted(numbered)), now)

    def touch(self, sids: Collection[Sid]) -> None:
        """Restarts the time to live of those that are stored."""
        now = self._clock()
        for sid in sids:
            self._snapshots.touch(sid, now)

    def take(self, sid: Sid) -> bytes | None:
        """Takes a session out; None if it is not stored."""
        return self._snapshots.take(sid, self._clock())

    def remove(self, sid: Sid) -> bytes | None:
        """Takes a session out, to end it."""
        return self.take(sid)

    def revoke(self, identifiers: str) -> None:
        """Ends the stored sessions of these identifiers."""
        self.revocations.revoke(identifiers, self._clock())

    def expire(self) -> tuple[bytes, ...]:
        """Takes out expired sessions, 200 at most; returns each once."""
        return self._snapshots.expire(self._clock(), EXPIRED_AT_ONCE)

    def give_up(self) -> tuple[bytes, ...]:
        """Takes out all sessions at the end of this node: they end with its memory."""
        return self._snapshots.clear()
