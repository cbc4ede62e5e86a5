"""Sessions that may be resumed, on any node.

Each is a record of the node that has it, or that had it last. While that node lives, it alone knows when a session
expires, and ends it; sessions of a dead node are ended by another node. A node takes or ends a session by deleting its
record by sequence, which only one node can do.
The record is the first line of a snapshot. A large snapshot has more lines, each a record of its own; a line feed at the
end of the first says so. They are read before the first is deleted, and belong to the node that has deleted it.
A remote disconnect is a record, too, before it is published: its sequence is its number. A node that was away reads
those that it has missed, and takes no session before it has all of them.
Source: docs/reliable_streams.md (anycable).
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Collection, Coroutine, Mapping
from typing import Any, Final

from catenary.adapters.nats.jetstream import Stale
from catenary.adapters.nats.keyed_lock import KeyedLock
from catenary.adapters.nats.nodes import Nodes
from catenary.adapters.nats.store import Newest, Store, Stored
from catenary.adapters.nats.subjects import ANY, Subjects
from catenary.adapters.packing import NumberedCommand, unpack_command
from catenary.broker.revocations import LATE_S, Revocations
from catenary.broker.timer_wheel import TimerWheel
from catenary.errors import BackendError, BackendRefused, NotCaughtUp
from catenary.logs.rate_limited import RateLimitedLogger
from catenary.messages.names import Sid

_limited: Final = RateLimitedLogger(logging.getLogger("catenary.nats"))

ENDED_AT_ONCE: Final = 500
"""Sessions that one sweep ends, of this node and of each dead one."""

AGAIN_S: Final = 1.0
"""Until the end of a session is tried again after a failure."""

RENEWED_S: Final = 8 * 3600
"""The age at which the record of a living session is written again: well before JetStream drops it."""

RENEWED_AT_ONCE: Final = 200

MISSED_LIMIT: Final = 100_000
"""Remote disconnects that a node reads after it was away."""

RELAY_S: Final = 2.0
"""Within so many seconds nodes may relay the same remote disconnect."""

LINES_LIMIT: Final = 100_000
"""Lines of one session; a client has 1,000 subscriptions at most unless the options allow more."""

LINE_FEED: Final = b"\n"

ATTEMPTS: Final = 10
"""To take a session that another node saves at the same moment, or has just saved."""

REPLICA_PAUSE_S: Final = 0.01
LONGEST_PAUSE_S: Final = 0.5
"""Until a lagging replica is asked again: from the one to the other, twice as long each time."""


class _Own:
    """A session of this node. Moments are by the clock."""

    __slots__ = ("deadline", "lines", "put_at", "sequence")

    def __init__(self, sequence: int, now: float, ttl_s: float, lines: int) -> None:
        self.sequence = sequence
        self.lines = lines
        """The number of lines after the first."""
        self.put_at = now
        self.deadline = now + ttl_s


class NatsSessions:
    """Satisfies :class:`catenary.ports.SessionCache`. ``records`` raises :class:`BackendError`."""

    __slots__ = (
        "_clock",
        "_locks",
        "_nodes",
        "_own",
        "_records",
        "_subjects",
        "_ttl_s",
        "_wheel",
        "is_caught_up",
        "revocations",
    )

    is_shared = True

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
        self._own: dict[Sid, _Own] = {}
        self._wheel = TimerWheel[Sid](ttl_s)
        self._locks = KeyedLock[Sid]()
        self.revocations = Revocations(ttl_s)
        self.is_caught_up = False
        """Has this node received all remote disconnects? No session is taken before."""

    def save(self, sid: Sid, snapshot: bytes, *, is_new: bool = True) -> Awaitable[None]:
        """Saves a session, in place of an earlier snapshot; one that is not new only if there is an earlier one."""
        return self._turn(sid, lambda: self._save(sid, snapshot, is_new=is_new))

    def amend(self, sid: Sid, lines: Mapping[int, bytes]) -> Awaitable[None]:
        """Replaces or adds lines of a snapshot; does nothing if the session is no longer saved."""
        return self._turn(sid, lambda: self._amend(sid, lines))

    def touch(self, sids: Collection[Sid]) -> None:
        """Restarts the time to live of sessions of this node; ignores others.

        Nothing is sent: the sessions of a node live as long as the node does.
        """
        now = self._clock()
        old = []
        for sid in sids:
            own = self._own.get(sid)
            if own is not None and now < own.deadline:
                own.deadline = now + self._ttl_s
                self._wheel.schedule(sid, own.deadline)
                if now - own.put_at > RENEWED_S:
                    old.append(sid)
        for sid in old[:RENEWED_AT_ONCE]:
            self._turn(sid, lambda sid=sid: self._renew(sid))  # type: ignore[misc]

    def take(self, sid: Sid) -> Awaitable[bytes | None]:
        """Takes a session out, of whatever node. Returns None where there is none.

        Raises :class:`NotCaughtUp` while this node may have missed remote disconnects.
        """
        return self._turn(sid, lambda: self._take_to_resume(sid))

    def remove(self, sid: Sid) -> Awaitable[bytes | None]:
        """Takes a session out, to end it."""
        return self._turn(sid, lambda: self._take(sid))

    async def expire(self) -> tuple[bytes, ...]:
        """Takes out the expired sessions of this node and of dead ones."""
        records = self._records()
        if not self._nodes.is_settled(self._ttl_s):
            return ()
        now = self._clock()
        due: list[Sid] = []
        while len(due) < ENDED_AT_ONCE and (sid := self._wheel.pop_due(now)) is not None:
            due.append(sid)
        ends: list[Awaitable[bytes | None]] = [
            self._turn(sid, lambda sid=sid: self._end(sid))  # type: ignore[misc]
            for sid in due
        ]
        for node in self._nodes.to_end(self._ttl_s):
            left = await records.first(f"{self._subjects.sessions}{node}.>", ENDED_AT_ONCE)
            ends += [self._win(records, each) for each in left if self._is_over(each)]
        ended = await asyncio.gather(*ends, return_exceptions=True)
        for each in ended:
            if isinstance(each, BackendError):
                _limited.info("A session is ended later: %s", each)
            elif isinstance(each, BaseException):
                raise each
        return tuple(each for each in ended if isinstance(each, bytes))

    def give_up(self) -> tuple[bytes, ...]:
        """At the end of this node: nothing, because another node ends its sessions when they expire."""
        return ()

    # Remote disconnects

    async def missed(self, since: int, *, is_first: bool) -> list[NumberedCommand]:
        """The remote disconnects after a number, in order.

        The first time, those that are newer than any session. Raises :class:`BackendError`.
        """
        records = self._records()
        oldest_s = self._server_time_s() - self._ttl_s - LATE_S if is_first else 0.0
        sequence = max(since - records.first_number, 0) + 1
        found = await records.all_from(self._subjects.revocations + "*", sequence, MISSED_LIMIT)
        return [
            NumberedCommand(
                unpack_command(each.payload).command, records.first_number + each.sequence
            )
            for each in found
            if each.moment_s > oldest_s
        ]

    async def was_relayed(self, identifiers: str) -> bool:
        """Was a remote disconnect of these identifiers sent a moment ago? Raises :class:`BackendError`."""
        found = await self._records().newest([self._subjects.revocation(identifiers)])
        return any(self._server_time_s() - each.moment_s < RELAY_S for each in found)

    def received(self, command: NumberedCommand) -> bool:
        """Adds the revocation of a remote disconnect; False where it is known already."""
        return command.number == 0 or self.revocations.add(
            command.command.identifiers, command.number, self._clock()
        )

    def _server_time_s(self) -> float:
        return time.time() + self._records().clock_ahead_s

    async def settle(self) -> None:
        """Waits until all that was called for is done."""
        await self._locks.settle()

    def _turn(self, sid: Sid, work: Callable[[], Coroutine[Any, Any, Any]]) -> Awaitable[Any]:
        return self._locks.run(sid, work)

    async def _save(self, sid: Sid, snapshot: bytes, *, is_new: bool) -> None:
        own = self._own.get(sid)
        if not is_new and own is None:
            return
        first, *others = snapshot.split(LINE_FEED)
        expected = None if is_new or own is None else own.sequence
        had_lines = 0 if own is None else own.lines
        await self._put_lines(sid, dict(enumerate(others, 1)))
        await self._put_first(sid, first, expected, len(others))
        for number in range(len(others) + 1, had_lines + 1):
            await self._records().purge(f"{self._lines_of(sid)}{number}")

    async def _amend(self, sid: Sid, lines: Mapping[int, bytes]) -> None:
        own = self._own.get(sid)
        if own is None:
            return
        await self._put_lines(sid, {number: line for number, line in lines.items() if number})
        own.lines = max(own.lines, *lines)
        if 0 in lines:
            await self._put_first(sid, lines[0], own.sequence, own.lines)
        else:
            own.deadline = self._clock() + self._ttl_s
            self._wheel.schedule(sid, own.deadline)

    async def _put_first(self, sid: Sid, line: bytes, expected: int | None, lines: int) -> None:
        try:
            sequence = await self._put(sid, line + LINE_FEED if lines else line, expected)
        except Stale:
            # Another node has taken it, and has read the other lines.
            self._forget(sid)
            if lines:
                await self._records().purge(self._lines_of(sid) + ANY)
            return
        kept = self._own[sid] = _Own(sequence, self._clock(), self._ttl_s, lines)
        self._wheel.schedule(sid, kept.deadline)

    async def _put_lines(self, sid: Sid, lines: Mapping[int, bytes]) -> None:
        records, subject = self._records(), self._lines_of(sid)
        puts = [records.put(f"{subject}{number}", line) for number, line in lines.items()]
        # All of them, before the first error is raised: nothing of this save follows the next one.
        for each in await asyncio.gather(*puts, return_exceptions=True):
            if isinstance(each, BaseException):
                raise each

    def _lines_of(self, sid: Sid) -> str:
        return self._subjects.lines_of(self._nodes.name, sid)

    async def _put(self, sid: Sid, snapshot: bytes, expected: int | None) -> int:
        return await self._records().put(self._subject(sid), snapshot, instead_of=expected)

    def _subject(self, sid: Sid) -> str:
        return self._subjects.session(self._nodes.name, sid)

    async def _renew(self, sid: Sid) -> None:
        own = self._own.get(sid)
        found = None if own is None else await self._records().at(own.sequence)
        if own is not None and found is not None and found.subject == self._subject(sid):
            if own.lines:
                lines = await self._read_lines(self._records(), found)
                await self._put_lines(sid, dict(enumerate(lines, 1)))
            own.sequence = await self._put(sid, found.payload, own.sequence)
            own.put_at = self._clock()

    async def _take_to_resume(self, sid: Sid) -> bytes | None:
        if not self.is_caught_up:
            raise NotCaughtUp("this node has not received all remote disconnects yet")
        return await self._take(sid)

    async def _take(self, sid: Sid) -> bytes | None:
        own = self._own.get(sid)
        if own is not None and own.deadline <= self._clock():
            return None
        records = self._records()
        subject = self._subjects.session(ANY, sid)
        for attempt in range(ATTEMPTS):
            found = await records.newest([subject])
            if not found and records.may_lag and (await records.newest_of_leader(subject)).sequence:
                # Any replica may answer, and this one lags.
                await asyncio.sleep(min(REPLICA_PAUSE_S * 2**attempt, LONGEST_PAUSE_S))
                continue
            found = [each for each in found if not self._is_over(each)]
            if not found:
                return None
            newest = max(found, key=lambda each: each.sequence)
            others = [each for each in found if each is not newest]
            taken = await self._win(records, newest)
            if taken is not None:
                for each in others:
                    await self._win(records, each)
                self._forget(sid)
                return taken
        raise BackendError("JetStream: a session changes faster than it can be taken")

    def _is_over(self, record: Stored) -> bool:
        return self._nodes.is_over(record, self._subjects.node_of(record.subject), self._ttl_s)

    async def _end(self, sid: Sid) -> bytes | None:
        """Ends an expired session of this node."""
        own = self._own.get(sid)
        if own is None or own.deadline > self._clock():
            return None
        try:
            records = self._records()
            found = await records.at(own.sequence)
            # In a stream that was created again, the sequence may be of another session.
            is_ours = found is not None and found.subject == self._subject(sid)
            ended = await self._win(records, found) if found is not None and is_ours else None
        except BackendRefused:
            self._forget(sid)
            raise
        except BackendError:
            self._wheel.schedule(sid, self._clock() + AGAIN_S)
            raise
        self._forget(sid)
        return ended

    async def _win(self, records: Store, record: Stored) -> bytes | None:
        """Takes a session out by its record; None where another node was faster."""
        if not record.payload.endswith(LINE_FEED):
            return record.payload if await records.delete(record.sequence) else None
        lines = await self._read_lines(records, record)
        if not await records.delete(record.sequence):
            return None
        await records.purge(self._subjects.lines_beside(record.subject) + ANY)
        return record.payload + LINE_FEED.join(lines)

    async def _read_lines(self, records: Store, record: Stored) -> list[bytes]:
        """Returns the lines of a large session after the first, in order."""
        subject = self._subjects.lines_beside(record.subject)
        for attempt in range(ATTEMPTS):
            newest = await records.newest_of_leader(subject + ANY) if records.may_lag else Newest()
            found = await records.all_from(subject + ANY, 1, LINES_LIMIT)
            if newest.sequence <= max((each.sequence for each in found), default=0):
                numbered = {int(each.subject[len(subject) :]): each.payload for each in found}
                return [numbered[number] for number in sorted(numbered)]
            # Any replica may answer, and this one lags.
            await asyncio.sleep(min(REPLICA_PAUSE_S * 2**attempt, LONGEST_PAUSE_S))
        raise BackendError("JetStream: this replica lags")

    def _forget(self, sid: Sid) -> None:
        if self._own.pop(sid, None) is not None:
            self._wheel.cancel(sid)
        if not self._own:
            self._own.clear()  # frees its memory: a dict does not shrink by itself
