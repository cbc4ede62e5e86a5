"""Presence: the members of a stream on all nodes, each with one or more sessions.

Each session on a stream is a record of its node, with the member's id and info. The roster of a member lists the nodes
at which it has sessions (:mod:`catenary.adapters.nats.rosters`): it says which node announces a change. The record of
a session is written before its node is on the roster, and deleted after its node has left the roster: so whatever
remains of a node that dies in between has a record, by which another node finds it. While a node lives, it alone knows
when its sessions expire; those of a dead node are ended by another node.
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
from catenary.adapters.nats.rosters import Rosters, read_roster
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
    """A session of a member in JetStream. ``came`` is the sequence with which the member joined, 0 for that of this record: the
    roster has it, but for nodes without rosters."""

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
    """A session of this node on a stream. ``sequence`` is 0 until its record is written, ``generation`` until its node is on
    the roster. ``has_left`` is whether the member left with it, which is returned when its record is deleted."""

    __slots__ = (
        "generation",
        "has_left",
        "info",
        "is_here",
        "member_id",
        "put_at",
        "sequence",
    )

    def __init__(self, member_id: str, info: str) -> None:
        self.member_id = member_id
        self.info = info
        self.sequence = 0
        self.generation = 0
        self.put_at = 0.0
        self.is_here = True
        self.has_left = False


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
        "_rosters",
        "_sessions",
        "_subjects",
        "_ttl_s",
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
        self._rosters = Rosters(records, subjects, nodes)
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
        came: dict[str, int] = {}
        subjects, rosters = self._subjects, self._subjects.rosters
        found = await self._find(subjects.members_of(stream), subjects.rosters_of(stream))
        async for message in paced(found, lambda each: len(each.payload)):
            if message.subject.startswith(rosters):
                roster = read_roster(message)
                member = message.subject.rpartition(".")[2]
                came[member] = (
                    message.sequence if roster is None else roster.came or message.sequence
                )
                continue
            member = message.subject.rsplit(".", 2)[1]
            members.setdefault(member, []).extend(_seen([message]))
        present = [
            (came.get(member) or min(each.came for each in seen), _newest(seen).record)
            for member, seen in members.items()
            if seen
        ]
        present.sort(key=lambda each: each[0])
        return tuple(Member(record.member_id, record.info) for _, record in present)

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
        for node in self._nodes.to_end(self._ttl_s):
            left = await records.first(f"{self._subjects.members}{node}.>", ENDED_AT_ONCE)
            over = [each for each in left if self._nodes.is_over(each, node, self._ttl_s)]
            ends += [self._adopt(records, node, seen) for seen in _by_member(over)]
        ended = await asyncio.gather(*ends, return_exceptions=True)
        failed = [each for each in ended if isinstance(each, BaseException)]
        for each in failed:
            if not isinstance(each, BackendError):
                raise each
            _limited.info("presence leave failed, will retry: %s", each)
        if not failed:
            self._rosters.settled(self._own)
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
        is_there, known = self._is_there(own), own.info if own.sequence else None
        if is_there and known == info:
            return None
        await self._write(stream, sid, own, info)
        if not is_there:
            here = self._here(stream, own)
            if here is None:
                return await self._join_here(stream, own, known)
            known = here.info
            own.generation = self._nodes.generation
        for other in self._own[stream, own.member_id].values():
            other.info = info
        return None if known == info else _update_of(stream, own)

    async def _write(self, stream: Stream, sid: Sid, own: _Own, info: str) -> None:
        """Writes the record of a session with this info, instead of an earlier one of it."""
        before, own.info = own.info, info
        try:
            await self._put(stream, sid, own, instead_of=own.sequence or None)
        except Stale:
            # Another node has ended it, or it was lost with the JetStream stream.
            own.sequence = own.generation = 0
            await self._put(stream, sid, own)
        except BackendError:
            own.info = before
            raise

    async def _join_here(self, stream: Stream, own: _Own, known: str | None) -> Change:
        """Joins with the first session of a member at this node; other nodes may have sessions of it.

        ``known`` is the info that others know from an earlier record of this session.
        """
        generation = self._nodes.generation
        is_first = await self._rosters.add((stream, own.member_id))
        own.generation = generation
        if is_first:
            return PresenceChange(stream, "join", own.member_id, own.info)
        if known is None:
            ours = self._subjects.member(self._nodes.name, stream, own.member_id)
            every = await self._look(self._subjects.member(ANY, stream, own.member_id))
            others = [each for each in every if not each.subject.startswith(ours.rstrip(ANY))]
            known = _newest(others).record.info if others else own.info
        return None if known == own.info else _update_of(stream, own)

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
        record = _Record(stream, own.member_id, sid, own.info, 0)
        subject = self._subjects.member(self._nodes.name, stream, own.member_id, sid)
        own.sequence = await self._records().put(subject, _write(record), instead_of=instead_of)
        own.put_at = self._clock()

    def _renew(self, stream: Stream, sid: Sid, own: _Own) -> None:
        async def renew() -> Change:
            if own.is_here:
                await self._put(stream, sid, own, instead_of=own.sequence)
                await self._rosters.renew((stream, own.member_id))
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
            if await self._is_last_here(stream, own.member_id, subject):
                own.has_left |= await self._rosters.remove((stream, own.member_id))
            records = self._records()
            # Not by the known sequence, which may be of a JetStream stream that was lost.
            newest = await records.newest_certainly(subject)
            if newest.sequence:
                await records.delete(newest.sequence)
        except BackendRefused:
            raise
        except BackendError:
            self._put_back(stream, sid, own)
            raise
        return PresenceChange(stream, "leave", own.member_id) if own.has_left else None

    async def _is_last_here(self, stream: Stream, member_id: str, subject: str) -> bool:
        """Whether a member has no session at this node but the one with this subject."""
        others = self._own.get((stream, member_id), {}).values()
        if any(map(self._is_there, others)):
            return False
        if not any(each.sequence for each in others):
            return True
        # Others are from before NATS was away: they may be there still.
        ours = self._subjects.member(self._nodes.name, stream, member_id)
        return all(each.subject == subject for each in await self._look(ours))

    def _put_back(self, stream: Stream, sid: Sid, own: _Own) -> None:
        """Lets a session expire again in a moment, unless it has joined again since."""
        streams = self._sessions.setdefault(sid, {})
        if stream not in streams:
            own.is_here = True
            own.generation = 0
            streams[stream] = own
            self._own.setdefault((stream, own.member_id), {})[sid] = own
            self._wheel.schedule(sid, self._clock() + AGAIN_S)

    async def _adopt(self, records: Store, node: str, seen: list[_Seen]) -> Change:
        """Ends sessions of one member that a dead node has left. Returns the leave of the member, if they were the last."""
        stream, member_id = seen[0].record.stream, seen[0].record.member_id
        has_left, has_joined = await self._rosters.remove((stream, member_id), node), False
        try:
            for each in seen:
                await records.delete(each.sequence)
            subject = self._subjects.member(node, stream, member_id)
            if (await records.newest_certainly(subject)).sequence:
                # More sessions than one sweep ends, or the node has come back meanwhile.
                has_joined = await self._rosters.add((stream, member_id), node)
        except BackendError:
            if not has_left:
                raise
        if has_left == has_joined:
            return None
        if has_left:
            return PresenceChange(stream, "leave", member_id)
        return PresenceChange(stream, "join", member_id, seen[0].record.info)

    async def _look(self, subject: str) -> list[_Seen]:
        """Returns the sessions of a subject, which may have wildcards."""
        found = await self._find(subject)
        return [each async for each in paced(_seen(found), lambda each: len(each.record.info))]

    async def _find(self, *subjects: str) -> list[Stored]:
        records = self._records()
        try:
            return await records.newest(list(subjects))
        except TooMany:
            found: list[Stored] = []
            for each in subjects:
                found += await records.all_from(each, 1, SESSIONS_LIMIT)
            return found


async def _nothing() -> None:
    """The result of a call that changes nothing."""


def _by_member(found: list[Stored]) -> list[list[_Seen]]:
    members: dict[tuple[Stream, str], list[_Seen]] = {}
    for seen in _seen(found):
        members.setdefault((seen.record.stream, seen.record.member_id), []).append(seen)
    return list(members.values())


def _seen(found: Iterable[Stored]) -> Iterable[_Seen]:
    for each in found:
        try:
            yield _Seen(_read(each.payload), each.subject, each.sequence)
        except msgspec.DecodeError as error:
            _limited.warning("JetStream: %s is not a record: %s", each.subject, error)


def _newest(seen: list[_Seen]) -> _Seen:
    return max(seen, key=lambda each: each.sequence)


def _update_of(stream: Stream, own: _Own) -> PresenceChange:
    return PresenceChange(stream, "update", own.member_id, own.info)
