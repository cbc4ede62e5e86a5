"""The members of streams: each has an id and one or more sessions.

Source: docs/presence.md (anycable). A session keeps the id with which it joined a stream until it leaves: joining
with another id changes nothing, as in anycable-go ("presence ID mismatch"), and its client is not notified. Unlike
there, a new ``info`` of a present member is a change.
Knows: sessions and when each was last touched. Does not know: who is notified of changes.
"""

from math import inf
from operator import attrgetter
from typing import Final

from catenary.broker.timer_wheel import TimerWheel
from catenary.messages.names import Sid, Stream
from catenary.messages.presence import Member, PresenceChange

_member_of: Final = attrgetter("member")  # 25 ns for each of a hundred thousand


class _Present:
    """A member of one stream, and its number of sessions."""

    __slots__ = ("member", "sessions")

    def __init__(self, member: Member) -> None:
        self.member = member
        self.sessions = 0


class PresenceSet:
    """The members of all streams.

    A session that was not touched for ``ttl_s`` seconds is removed by the next :meth:`expire`, not earlier: a client
    that only follows changes knows the same members as one that reads them. With a TTL of 0 it is removed by the next
    call after it joined.
    """

    __slots__ = ("_sessions", "_streams", "_ttl_s", "_wheel")

    def __init__(self, ttl_s: float) -> None:
        self._ttl_s = ttl_s
        self._streams: dict[
            Stream, dict[str, _Present]
        ] = {}  # members in the order in which they joined
        self._sessions: dict[Sid, dict[Stream, str]] = {}  # and the ids of their members
        self._wheel = TimerWheel[Sid](ttl_s)

    def __len__(self) -> int:
        """The number of sessions that are present on any stream."""
        return len(self._sessions)

    def join(
        self, stream: Stream, sid: Sid, member_id: str, info: str, now: float
    ) -> PresenceChange | None:
        """Adds a session to a member, and touches it. Returns the change: a join, an update, or None.

        The member has the ``info`` that was passed last, by any of its sessions.
        """
        streams = self._sessions.get(sid)
        if streams is None:
            streams = self._sessions[sid] = {}
        if streams.get(stream, member_id) != member_id:
            return None
        self._wheel.schedule(sid, now + self._ttl_s)
        members = self._streams.setdefault(stream, {})
        present = members.get(member_id)
        is_new = present is None
        if present is None:
            present = members[member_id] = _Present(Member(member_id, info))
        if stream not in streams:
            streams[stream] = member_id
            present.sessions += 1
        if is_new:
            return PresenceChange(stream, "join", member_id, info)
        if present.member.info == info:
            return None
        present.member = Member(member_id, info)
        return PresenceChange(stream, "update", member_id, info)

    def leave(self, stream: Stream, sid: Sid) -> PresenceChange | None:
        """Removes a session from its member, which leaves with its last session."""
        streams = self._sessions.get(sid)
        if streams is None or stream not in streams:
            return None
        member_id = streams.pop(stream)
        if not streams:
            del self._sessions[sid]
            self._wheel.cancel(sid)
        return self._remove_session(stream, member_id)

    def touch(self, sid: Sid, now: float) -> None:
        """Restarts the TTL of a session on all its streams."""
        if sid in self._sessions:
            self._wheel.schedule(sid, now + self._ttl_s)

    def members(self, stream: Stream) -> tuple[Member, ...]:
        """The members of a stream, in the order in which they joined."""
        return tuple(map(_member_of, self._streams.get(stream, {}).values()))

    def streams(self, sid: Sid) -> tuple[Stream, ...]:
        """The streams on which a session is present."""
        return tuple(self._sessions.get(sid, ()))

    def expire(self, now: float, limit: float = inf) -> tuple[PresenceChange, ...]:
        """Removes sessions whose TTL has passed, at most 1/32 of it late, and returns the members that left: about
        ``limit`` of them, the others in the next calls."""
        leaves: list[PresenceChange] = []
        while len(leaves) < limit and (sid := self._wheel.pop_due(now)) is not None:
            for stream, member_id in self._sessions.pop(sid).items():
                change = self._remove_session(stream, member_id)
                if change is not None:
                    leaves.append(change)
        if not self._sessions:
            self._sessions.clear()  # frees memory: dicts do not shrink by themselves
            self._streams.clear()
        return tuple(leaves)

    def _remove_session(self, stream: Stream, member_id: str) -> PresenceChange | None:
        members = self._streams[stream]
        member = members[member_id]
        member.sessions -= 1
        if member.sessions > 0:
            return None
        del members[member_id]
        if not members:
            del self._streams[stream]
        return PresenceChange(stream, "leave", member_id)
