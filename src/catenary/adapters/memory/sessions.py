"""Sessions that may be resumed, on a node that is alone."""

from collections.abc import Callable, Collection, Mapping
from typing import Final

from catenary.broker.revocations import Revocations
from catenary.broker.session_cache import Snapshots
from catenary.messages.names import Sid

EXPIRED_AT_ONCE: Final = 200
"""Sessions that end in one turn of the loop: 1 to 2 ms."""


class LocalSessions:
    """Satisfies :class:`catenary.ports.SessionCache`.

    Each may be taken for ``ttl_s`` after it was last saved or touched, and then is there for
    :meth:`expire` alone. ``clock`` counts seconds from any moment and is best monotonic.
    """

    __slots__ = ("_clock", "_snapshots", "revocations")

    is_shared = False

    def __init__(self, *, ttl_s: float, clock: Callable[[], float]) -> None:
        self._snapshots = Snapshots(ttl_s)
        self.revocations = Revocations(ttl_s)
        self._clock = clock

    @property
    def sessions(self) -> int:
        """How many are kept."""
        return len(self._snapshots)

    @property
    def size_bytes(self) -> int:
        """About the memory that they take."""
        return self._snapshots.size_bytes

    def save(self, sid: Sid, snapshot: bytes, *, is_new: bool = True) -> None:
        """Keeps a session, in place of what was kept of it; one that is not new only there."""
        if is_new or sid in self._snapshots:
            self._snapshots.save(sid, snapshot, self._clock())

    def amend(self, sid: Sid, lines: Mapping[int, bytes]) -> None:
        """Replaces or adds lines of a snapshot; nothing happens for one that is not there any more."""
        now = self._clock()
        kept = self._snapshots.take(sid, now)
        if kept is not None:
            numbered = {**dict(enumerate(kept.split(b"\n"))), **lines}
            self._snapshots.save(sid, b"\n".join(numbered[each] for each in sorted(numbered)), now)

    def touch(self, sids: Collection[Sid]) -> None:
        """Their time runs anew; nothing happens for one that is not kept."""
        now = self._clock()
        for sid in sids:
            self._snapshots.touch(sid, now)

    def take(self, sid: Sid) -> bytes | None:
        """Takes a session out; None where it is not there."""
        return self._snapshots.take(sid, self._clock())

    def remove(self, sid: Sid) -> bytes | None:
        """Takes a session out, to end it."""
        return self.take(sid)

    def revoke(self, identifiers: str) -> None:
        """Ends the sessions of these identifiers that are kept."""
        self.revocations.revoke(identifiers, self._clock())

    def expire(self) -> tuple[bytes, ...]:
        """Takes out sessions whose time is over, 200 at most; each is returned once."""
        return self._snapshots.expire(self._clock(), EXPIRED_AT_ONCE)

    def give_up(self) -> tuple[bytes, ...]:
        """At the end of this node: all of them, for they end with its memory."""
        return self._snapshots.clear()
