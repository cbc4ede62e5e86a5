"""The presence of a single node."""

from collections.abc import Callable, Collection
from typing import Final

from catenary.broker.presence_set import PresenceSet
from catenary.messages.names import Sid, Stream
from catenary.messages.presence import Member, PresenceChange

EXPIRED_AT_ONCE: Final = 200
"""Members that expire in one turn of the event loop: 2 to 3 ms."""


class LocalPresence:
    """Satisfies :class:`catenary.ports.Presence`.

    A session that was not touched for ``ttl_s`` seconds leaves at the next :meth:`expire`. ``clock`` returns seconds and
    should be monotonic.
    """

    __slots__ = ("_clock", "_present")

    def __init__(self, *, ttl_s: float, clock: Callable[[], float]) -> None:
        self._present = PresenceSet(ttl_s)
        self._clock = clock

    @property
    def sessions(self) -> int:
        """The number of sessions that are present on a stream."""
        return len(self._present)

    def join(self, stream: Stream, sid: Sid, member_id: str, info: str) -> PresenceChange | None:
        """Adds a session to a member; returns None if nothing changed for others.

        Nothing changes if the session is present under another id.
        """
        return self._present.join(stream, sid, member_id, info, self._clock())

    def leave(self, stream: Stream, sid: Sid) -> PresenceChange | None:
        """Removes a session from its member, which leaves with its last session."""
        return self._present.leave(stream, sid)

    def touch(self, sids: Collection[Sid]) -> None:
        """Restarts the time to live of sessions, on all their streams."""
        now = self._clock()
        for sid in sids:
            self._present.touch(sid, now)

    def members(self, stream: Stream) -> tuple[Member, ...]:
        """The members, in the order in which they joined."""
        return self._present.members(stream)

    def streams(self, sid: Sid) -> tuple[Stream, ...]:
        """The streams on which a session is present."""
        return self._present.streams(sid)

    def expire(self) -> tuple[PresenceChange, ...]:
        """Removes expired sessions, and returns the leaves, about 200 at most, without notifying subscribers."""
        return self._present.expire(self._clock(), EXPIRED_AT_ONCE)
