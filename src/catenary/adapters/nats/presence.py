"""Presence: the members of a stream on all nodes, each with one or more sessions.

Each session on a stream is a record of its node, with the member's id and info. A join writes its record first, and then
reads which others exist; a leave deletes its record first, and then reads which are left. So if several sessions of a
member come or go at the same moment, at least one of them finds that it is the first or the last; two may. While a node
lives, it alone knows when its sessions expire; those of a dead node are ended by another node.
Source: docs/presence.md (anycable).
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection, Coroutine, Iterable
from typing import Any, Final

import msgspec

from catenary.adapters.nats.jetstream import Stale
from catenary.adapters.nats.keyed_lock import KeyedLock
from catenary.adapters.nats.nodes import Nodes
from catenary.adapters.nats.store import Store, Stored, TooMany
from catenary.adapters.nats.subjects import ANY, Subjects
from catenary.adapters.pacing import paced
from catenary.broker.timer_wheel import TimerWheel
from catenary.errors import BackendError, BackendRefused
from catenary.logs.rate_limited import RateLimitedLogger
from catenary.messages.names import Sid, Stream
from catenary.messages.presence import Member, PresenceChange

_limited: Final = RateLimitedLogger(logging.getLogger("catenary.nats"))

ENDED_AT_ONCE: Final = 500
"""Sessions that one sweep ends, of this node and of each dead one."""

AGAIN_S: Final = 1.0
"""Until the end of a session is tried again after a failure."""

RENEWED_S: Final = 8 * 3600
"""The age at which the record of a present session is written again: well before JetStream drops it."""

RENEWED_AT_ONCE: Final = 200

SESSIONS_LIMIT: Final = 1_000_000
"""Sessions of one stream, if they are more than JetStream returns at once."""


class _Record(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """A session of a member in JetStream; ``came`` is the sequence with which the member joined, 0 for that of this record."""

    stream: Stream
    member_id: str
    sid: Sid
    info: str
    came: int


class _Seen(msgspec.Struct, frozen=True, gc=False):
    """A record with its subject and sequence."""

    record: _Record
    subject: str
    sequence: int

    @property
    def came(self) -> int:
        return self.record.came or self.sequence


class _Own:
    """A session of this node on a stream. ``sequence`` is 0 until its record is written."""

    __slots__ = (
        "came",
        "generation",
        "info",
        "is_again",
        "is_here",
        "member_id",
        "put_at",
        "sequence",
    )

    def __init__(self, member_id: str, info: str) -> None:
        self.member_id = member_id
        self.info = info
        self.sequence = 0
        self.came = 0
        self.generation = 0
        self.put_at = 0.0
        self.is_here = True
        self.is_again = False


_write: Final = msgspec.msgpack.Encoder().encode
_read: Final = msgspec.msgpack.Decoder(_Record).decode

Change = PresenceChange | None


class NatsPresence:
    """Satisfies :class:`catenary.ports.Presence`. ``records`` raises :class:`BackendError`."""

    __slots__ = (
        "_clock",
        "_locks",
        "_nodes",
        "_own",
        "_records",
        "_sessions",
        "_subjects",
        "_ttl_s",
        "_uncertain",
        "_wheel",
    )

    def __init__(
        self,
        records: Callable[[], Store],
        subjects: Subjects,
        nodes: Nodes,
        ttl_s: float,
        clock: Callable[[], float],
    ) -> None:
        self._records = records
        self._subjects = subjects
        self._nodes = nodes
        self._ttl_s = ttl_s
        self._clock = clock
        # Of this node: the sessions of each member, and the streams of each session
        self._own: dict[tuple[Stream, str], dict[Sid, _Own]] = {}
        self._sessions: dict[Sid, dict[Stream, _Own]] = {}
        self._wheel = TimerWheel[Sid](ttl_s)
        # Members that have lost a session, and may have left: NATS failed before that was known
        self._uncertain: dict[tuple[Stream, str], None] = {}
        self._locks = KeyedLock[tuple[Stream, str]]()

    def join(self, stream: Stream, sid: Sid, member_id: str, info: str) -> Awaitable[Change]:
        """Adds a session to a member. Returns what changed for others: a join, an update, or None."""
        streams = self._sessions.setdefault(sid, {})
        own = streams.get(stream)
        if own is not None and own.member_id != member_id:
            return _nothing()
        self._wheel.schedule(sid, self._clock() + self._ttl_s)
        if own is None:
            own = streams[stream] = _Own(member_id, info)
            self._own.setdefault((stream, member_id), {})[sid] = own
        return self._turn(stream, member_id, lambda: self._join(stream, sid, own, info))

    def leave(self, stream: Stream, sid: Sid) -> Awaitable[Change]:
        """Removes a session from its member, which leaves with its last session."""
        own = self._take_out(stream, sid)
        if own is None:
            return _nothing()
        return self._turn(stream, own.member_id, lambda: self._leave(stream, sid, own))

    def touch(self, sids: Collection[Sid]) -> None:
        """Restarts the time to live of sessions, on all their streams.

        Nothing is sent: the sessions of a node live as long as the node does.
        """
        now = self._clock()
        budget = RENEWED_AT_ONCE
        for sid in sids:
            streams = self._sessions.get(sid)
            if streams is None:
                continue
            self._wheel.schedule(sid, now + self._ttl_s)
            for stream, own in streams.items():
                if budget > 0 and own.sequence and now - own.put_at > RENEWED_S:
                    budget -= 1
                    self._renew(stream, sid, own)

    async def members(self, stream: Stream) -> tuple[Member, ...]:
        """Returns the members of a stream, in the order in which they joined."""
        members: dict[str, list[_Seen]] = {}
        for seen in await self._look(self._subjects.members_of(stream)):
            if seen.record.stream == stream:
                members.setdefault(seen.record.member_id, []).append(seen)
        ordered = sorted(members.values(), key=lambda each: min(seen.came for seen in each))
        return tuple(
            Member(each[0].record.member_id, _newest(each).record.info) for each in ordered
        )

    async def streams(self, sid: Sid) -> tuple[Stream, ...]:
        """Returns the streams on which a session is present."""
        found = await self._look(self._subjects.session_on_all(sid))
        return tuple({each.record.stream: None for each in found if each.record.sid == sid})

    async def expire(self) -> tuple[PresenceChange, ...]:
        """Removes expired sessions of this node and of dead ones, and returns the members that have left by that."""
        records = self._records()
        if not self._nodes.is_settled(self._ttl_s):
            return ()
        now = self._clock()
        ends: list[Awaitable[Change]] = []
        while len(ends) < ENDED_AT_ONCE and (sid := self._wheel.pop_due(now)) is not None:
            ends += [self.leave(stream, sid) for stream in tuple(self._sessions.get(sid, ()))]
        unsaid, self._uncertain = self._uncertain, {}
        ends += [self._last(stream, member_id) for stream, member_id in unsaid]
        for node in self._nodes.to_end(self._ttl_s):
            left = await records.first(f"{self._subjects.members}{node}.>", ENDED_AT_ONCE)
            over = [each for each in left if self._nodes.is_over(each, node, self._ttl_s)]
            ends += [self._adopt(records, seen) for seen in _seen(over)]
        ended = await asyncio.gather(*ends, return_exceptions=True)
        for each in ended:
            if isinstance(each, BackendError):
                _limited.info("presence leave failed, will retry: %s", each)
            elif isinstance(each, BaseException):
                raise each
        return tuple({each: None for each in ended if isinstance(each, PresenceChange)})

    async def settle(self) -> None:
        """Waits until all work is done."""
        await self._locks.settle()

    def _turn(
        self, stream: Stream, member_id: str, work: Callable[[], Coroutine[Any, Any, Change]]
    ) -> Awaitable[Change]:
        return self._locks.run((stream, member_id), work)

    # Joins

    async def _join(self, stream: Stream, sid: Sid, own: _Own, info: str) -> Change:
        if not own.is_here:
            return None  # it left or expired before its turn
        is_known = own.sequence > 0 and own.generation == self._nodes.generation
        if is_known and own.info == info:
            return None
        if own.sequence > 0:
            try:
                return await self._update(stream, sid, own, info)
            except Stale:
                # Another node has ended it, or it was lost with the JetStream stream.
                own.came = own.sequence = 0
        own.info = info
        here = self._here(stream, own)
        if here is not None:
            before = here.info
            own.came = here.came
            await self._put(stream, sid, own)
            for other in self._own[stream, own.member_id].values():
                other.info = info
            return None if before == info else _update_of(stream, own)
        return await self._join_first(stream, sid, own)

    async def _join_first(self, stream: Stream, sid: Sid, own: _Own) -> Change:
        """Joins with the first session of a member on this node; other nodes may have sessions of it."""
        await self._put(stream, sid, own)
        subject = self._subjects.member(ANY, stream, own.member_id)
        ours = self._subjects.member(self._nodes.name, stream, own.member_id, sid)
        others = [each for each in await self._look(subject) if each.subject != ours]
        before = [each for each in others if each.came < own.sequence]
        if not before:
            return PresenceChange(stream, "join", own.member_id, own.info)
        own.came = min(each.came for each in before)
        await self._put(stream, sid, own)
        return None if _newest(before).record.info == own.info else _update_of(stream, own)

    async def _update(self, stream: Stream, sid: Sid, own: _Own, info: str) -> Change:
        """Joins again with a session that is present. Raises :class:`Stale` where it no longer is."""
        before, own.info = own.info, info
        try:
            await self._put(stream, sid, own, instead_of=own.sequence)
        except BackendError:
            own.info = before
            raise
        for other in self._own[stream, own.member_id].values():
            other.info = info
        return None if before == info else _update_of(stream, own)

    def _here(self, stream: Stream, own: _Own) -> _Own | None:
        """Returns another session of the member on this node whose record exists."""
        for other in self._own.get((stream, own.member_id), {}).values():
            if other is not own and self._is_there(other):
                return other
        return None

    def _is_there(self, own: _Own) -> bool:
        return own.sequence > 0 and own.generation == self._nodes.generation

    async def _put(
        self, stream: Stream, sid: Sid, own: _Own, *, instead_of: int | None = None
    ) -> None:
        record = _Record(stream, own.member_id, sid, own.info, own.came)
        subject = self._subjects.member(self._nodes.name, stream, own.member_id, sid)
        generation = self._nodes.generation
        own.sequence = await self._records().put(subject, _write(record), instead_of=instead_of)
        own.came = own.came or own.sequence
        own.generation = generation
        own.put_at = self._clock()

    def _renew(self, stream: Stream, sid: Sid, own: _Own) -> None:
        async def renew() -> Change:
            if own.is_here:
                await self._put(stream, sid, own, instead_of=own.sequence)
            return None

        self._turn(stream, own.member_id, renew)

    # Leaves

    def _take_out(self, stream: Stream, sid: Sid) -> _Own | None:
        streams = self._sessions.get(sid, {})
        own = streams.pop(stream, None)
        if own is None:
            return None
        own.is_here = False
        if not streams:
            del self._sessions[sid]
            self._wheel.cancel(sid)
        sessions = self._own[stream, own.member_id]
        del sessions[sid]
        if not sessions:
            del self._own[stream, own.member_id]
        if not self._own:
            self._own.clear()  # frees their memory: dicts do not shrink by themselves
            self._sessions.clear()
        return own

    async def _leave(self, stream: Stream, sid: Sid, own: _Own) -> Change:
        subject = self._subjects.member(self._nodes.name, stream, own.member_id, sid)
        try:
            records = self._records()
            # Not by the known sequence, which may be of a JetStream stream that was lost.
            newest = await records.newest_certainly(subject)
            was_there = newest.sequence > 0 and await records.delete(newest.sequence)
        except BackendRefused:
            raise
        except BackendError:
            self._put_back(stream, sid, own)
            raise
        # An earlier attempt may have deleted it, although its reply was lost.
        return await self._last(stream, own.member_id) if was_there or own.is_again else None

    def _put_back(self, stream: Stream, sid: Sid, own: _Own) -> None:
        """Lets a session expire again in a moment, unless it has joined again since."""
        streams = self._sessions.setdefault(sid, {})
        if stream not in streams:
            own.is_here = own.is_again = True
            streams[stream] = own
            self._own.setdefault((stream, own.member_id), {})[sid] = own
            self._wheel.schedule(sid, self._clock() + AGAIN_S)

    async def _adopt(self, records: Store, seen: _Seen) -> Change:
        if not await records.delete(seen.sequence):
            return None
        return await self._last(seen.record.stream, seen.record.member_id)

    async def _last(self, stream: Stream, member_id: str) -> Change:
        """Returns a leave if the member has no sessions left. To be called after a record was deleted."""
        if any(map(self._is_there, self._own.get((stream, member_id), {}).values())):
            return None
        try:
            records = self._records()
            # A replica that lags would still show the deleted record, and nobody would look again.
            other = await records.newest_certainly(self._subjects.member(ANY, stream, member_id))
        except BackendRefused:
            raise
        except BackendError:
            self._uncertain[stream, member_id] = None
            raise
        return None if other.sequence else PresenceChange(stream, "leave", member_id)

    async def _look(self, subject: str) -> list[_Seen]:
        records = self._records()
        try:
            found = await records.newest([subject])
        except TooMany:
            found = await records.all_from(subject, 1, SESSIONS_LIMIT)
        return [each async for each in paced(_seen(found), lambda each: len(each.record.info))]


async def _nothing() -> None:
    """The result of a call that changes nothing."""


def _seen(found: list[Stored]) -> Iterable[_Seen]:
    for each in found:
        try:
            yield _Seen(_read(each.payload), each.subject, each.sequence)
        except msgspec.DecodeError as error:
            _limited.warning("JetStream: %s is not a record: %s", each.subject, error)


def _newest(seen: list[_Seen]) -> _Seen:
    return max(seen, key=lambda each: each.sequence)


def _update_of(stream: Stream, own: _Own) -> PresenceChange:
    return PresenceChange(stream, "update", own.member_id, own.info)
