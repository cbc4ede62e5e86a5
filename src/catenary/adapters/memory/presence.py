"""Who is on the streams of a node that is alone."""

from collections.abc import Callable, Collection
from typing import Final

from catenary.broker.presence_set import PresenceSet
from catenary.messages.names import Sid, Stream
from catenary.messages.presence import Member, PresenceChange

EXPIRED_AT_ONCE: Final = 200
"""Leaves that are told in one turn of the loop: 2 to 3 ms."""


class LocalPresence:
    """Satisfies :class:`catenary.ports.Presence`.

    A session that was not touched for ``ttl_s`` is gone at the next :meth:`expire`, which is the
    sweep, too. ``clock`` counts seconds from any moment and is best monotonic.
    """

    __slots__ = ("_clock", "_present")

    def __init__(self, *, ttl_s: float, clock: Callable[[], float]) -> None:
        self._present = PresenceSet(ttl_s)
        self._clock = clock

    @property
    def sessions(self) -> int:
        """How many sessions are on any stream."""
        return len(self._present)

    def join(self, stream: Stream, sid: Sid, member_id: str, info: str) -> PresenceChange | None:
        """Adds a session to a member; None where nothing changed for others.

        Nothing changes either for a session that is there under another id already.
        """
        return self._present.join(stream, sid, member_id, info, self._clock())

    def leave(self, stream: Stream, sid: Sid) -> PresenceChange | None:
        """Takes a session from its member, who leaves with the last one."""
        return self._present.leave(stream, sid)

    def touch(self, sids: Collection[Sid]) -> None:
        """These sessions are there: their time runs anew, on all their streams."""
        now = self._clock()
        for sid in sids:
            self._present.touch(sid, now)

    def members(self, stream: Stream) -> tuple[Member, ...]:
        """Who is there now, in the order in which they came."""
        return self._present.members(stream)

    def expire(self) -> tuple[PresenceChange, ...]:
        """Drops sessions whose time is over, and returns some 200 leaves at most; it tells nobody."""
        return self._present.expire(self._clock(), EXPIRED_AT_ONCE)
