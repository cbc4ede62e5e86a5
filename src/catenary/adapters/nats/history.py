"""Histories: all in one stream of JetStream, each under a subject of its own.

Offsets are JetStream's sequences: within one history they grow, but not by one. JetStream keeps one message more than
the limit, and keeps messages for longer than the time to live. So while the message at a position exists, no message
after it is missing, and a client that has received the last message of an idle stream can still resume.
Source: docs/reliable_streams.md (anycable); ADR-31 of the NATS architecture.
"""

import asyncio
import logging
import math
import time
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Collection
from datetime import UTC, datetime
from functools import partial
from typing import Any, Final

import msgspec

from catenary.adapters.nats.payload import unpack
from catenary.adapters.nats.store import DUPLICATES_S, S, Start, Store, Stored
from catenary.adapters.nats.subjects import Subjects
from catenary.adapters.pacing import paced
from catenary.broker.history_limits import HistoryLimit, HistoryLimits
from catenary.errors import BackendError, LostPosition
from catenary.logs.rate_limited import RateLimitedLogger
from catenary.messages.names import Stream
from catenary.messages.publications import Position, Publication

_limited: Final = RateLimitedLogger(logging.getLogger("catenary.nats"))

KEPT_SILENT: Final = 10
"""Times to live for which the last message of an idle stream is kept, so that its position is known."""

SHORTEST_AGE_S: Final = 10
"""For shorter times to live; JetStream takes 0 as no limit."""

LARGEST_OFFSET: Final = 2**63
LATEST_S: Final = 2**37
"""The latest start of a read; ``datetime`` can't hold much later moments."""

REPLICA_ATTEMPTS: Final = 8
REPLICA_PAUSE_S: Final = 0.01
"""Until a lagging replica is asked again, twice as long each time: 2.5 s in all."""

READS: Final = 64
"""Histories that are read at the same time."""


def stream_limits(largest: HistoryLimit) -> dict[str, Any]:
    """Returns the limits of the JetStream stream, which are those of the largest history: it has one for all subjects."""
    age_s = int(max(largest.ttl_s * KEPT_SILENT, SHORTEST_AGE_S))
    return {
        "max_msgs_per_subject": largest.messages + 1,
        "max_age": age_s * S,
        "duplicate_window": min(DUPLICATES_S, age_s) * S,
    }


def stream_subjects(subjects: Subjects, epoch: str) -> dict[str, Any]:
    """Returns the subjects of the JetStream stream, and those on which it republishes each stored message, in order."""
    taken = f"{subjects.kept}{epoch}.*"
    given = f"{subjects.published}{epoch}.{{{{wildcard(1)}}}}"
    return {"subjects": [taken], "republish": {"src": taken, "dest": given}}


class _Kept(msgspec.Struct, frozen=True):
    """Messages of one stream from an offset on, without a gap, and the time at which each was stored.

    ``has_lost``: JetStream dropped others before them while they were read.
    """

    publications: tuple[Publication, ...]
    offsets: list[int]
    moments_s: list[float]
    has_lost: bool


class _Reading:
    """A read that has not begun: further callers may join it."""

    __slots__ = ("first", "task")

    task: "asyncio.Task[_Kept]"

    def __init__(self, first: int) -> None:
        self.first = first


class NatsHistory:
    """Satisfies :class:`catenary.ports.History`. ``store`` is the stream, or raises
    :class:`BackendError`. ``limits`` are those of each history: a smaller one than the largest is applied when it is read."""

    __slots__ = ("_begun", "_limits", "_places", "_store", "_subjects", "_waiting")

    is_immediate = False

    def __init__(
        self, store: Callable[[], Store], subjects: Subjects, limits: HistoryLimits
    ) -> None:
        self._store = store
        self._subjects = subjects
        self._limits = limits
        self._places = asyncio.Semaphore(READS)
        self._begun: dict[Stream, asyncio.Task[_Kept]] = {}
        self._waiting: dict[Stream, _Reading] = {}

    async def since(
        self, stream: Stream, moment_s: int, limit: int | None = None, *, newest: bool = False
    ) -> tuple[Publication, ...]:
        """Returns the messages of a stream from a moment on (seconds since the epoch), oldest first.

        The newest ``limit`` are read with all others: JetStream reads forward only.
        """
        store = self._store()
        start_s = max(moment_s, self._oldest_s(store, stream))
        if limit is not None and not newest:
            some = await self._first_since(store, stream, start_s, limit)
            if some is not None:
                return some
        kept = await self._read(stream, 1)
        first = bisect_left(kept.moments_s, start_s)
        found = kept.publications[
            max(first, len(kept.offsets) - self._limits.of(stream).messages) :
        ]
        if limit is None:
            return found
        return found[-limit:] if newest else found[:limit]

    async def _first_since(
        self, store: Store, stream: Stream, start_s: float, limit: int
    ) -> tuple[Publication, ...] | None:
        """Reads the first ``limit`` messages from a time on. None if JetStream dropped some of them meanwhile, or keeps
        more than the limit of this history."""
        if start_s > LATEST_S:
            return ()
        start = datetime.fromtimestamp(start_s, UTC)
        subject = self._subjects.to_keep(store.epoch, stream)
        async with self._places:
            # One more: the oldest message of a full history does not count.
            messages = await self._read_all(store, subject, start, limit + 1)
            oldest, total = await store.oldest(subject)
        if not messages:
            return ()
        if oldest is None or messages[0].sequence < oldest.sequence:
            return None
        excess = total - self._limits.of(stream).messages
        if excess > 1:
            return None
        is_full = excess > 0
        counted = [each for each in messages if not is_full or each.sequence > oldest.sequence]
        return (await _kept(store.epoch, counted[:limit], has_lost=False)).publications

    async def after(
        self, stream: Stream, position: Position, limit: int | None = None
    ) -> tuple[Publication, ...]:
        """Returns the messages after a position, oldest first.

        Raises :class:`LostPosition` if one of them may be missing.
        """
        store = self._store()
        if position.epoch != store.epoch:
            raise LostPosition(f"expected the epoch {store.epoch!r}, got {position.epoch!r}")
        if not 0 <= position.offset < LARGEST_OFFSET:
            raise LostPosition(f"the offset {position.offset} was never handed out")
        limits = self._limits.of(stream)
        is_small = limits.messages < self._limits.largest.messages
        if limit is None or position.offset == 0 or is_small:
            kept = await self._read(stream, position.offset)
        else:
            async with self._places:
                kept = await self._fetch(stream, position.offset, limit + 1)
        index = bisect_right(kept.offsets, position.offset)
        is_known = index > 0 and kept.offsets[index - 1] == position.offset
        # Offset 0 precedes the first message: every message is still kept, unless there were too many.
        is_beginning = (
            position.offset == 0 and not kept.has_lost and len(kept.offsets) <= limits.messages
        )
        is_excess = is_small and len(kept.offsets) - index > limits.messages
        if (not is_known and not is_beginning) or is_excess:
            raise LostPosition(f"the offset {position.offset} is not kept (any more)")
        if index < len(kept.offsets) and kept.moments_s[index] < self._oldest_s(store, stream):
            raise LostPosition(f"what follows the offset {position.offset} is too old")
        return kept.publications[index : None if limit is None else index + limit]

    async def newest(self, streams: Collection[Stream]) -> dict[Stream, Position]:
        """Returns the position of the last message of each stream; 0 where none is kept."""
        store = self._store()
        subjects = {self._subjects.to_keep(store.epoch, each): each for each in streams}
        found = await store.newest(list(subjects))
        newest = {stream: Position(store.epoch, 0) for stream in streams}
        async for message in paced(found):
            newest[subjects[message.subject]] = Position(store.epoch, message.sequence)
        return newest

    def _oldest_s(self, store: Store, stream: Stream) -> float:
        """The time from which on messages count, by the server's clock. With a time to live of 0 none does."""
        ttl_s = self._limits.of(stream).ttl_s
        if ttl_s == 0:
            return math.inf
        return time.time() + store.clock_ahead_s - ttl_s

    # Reads, shared by callers that ask at the same time

    async def _read(self, stream: Stream, first: int) -> _Kept:
        """Returns at least what is kept from an offset on, now or later."""
        reading = self._waiting.get(stream)
        if reading is None:
            reading = self._waiting[stream] = _Reading(first)
            reading.task = asyncio.get_running_loop().create_task(self._carry_out(stream))
            reading.task.add_done_callback(partial(self._ended, stream, reading))
        reading.first = min(reading.first, first)
        return await asyncio.shield(reading.task)

    def _ended(self, stream: Stream, reading: "_Reading", task: "asyncio.Task[_Kept]") -> None:
        """A read that was cancelled before it began must not be joined."""
        if self._waiting.get(stream) is reading:
            del self._waiting[stream]
        if not task.cancelled():
            task.exception()

    async def _carry_out(self, stream: Stream) -> _Kept:
        """Reads one after the other for each stream: callers that come during a read join the next one."""
        before = self._begun.get(stream)
        if before is not None:
            await asyncio.wait([before])
        async with self._places:
            reading = self._waiting.pop(stream)
            self._begun[stream] = reading.task
            try:
                return await self._fetch(stream, reading.first, self._limits.largest.messages + 1)
            finally:
                if self._begun[stream] is reading.task:
                    del self._begun[stream]

    async def _fetch(self, stream: Stream, first: int, limit: int) -> _Kept:
        store = self._store()
        subject = self._subjects.to_keep(store.epoch, stream)
        messages = await self._read_all(store, subject, first, limit)
        if not messages:
            return await _kept(store.epoch, [], has_lost=False)
        # While it is read, messages are published, and JetStream drops the oldest ones, even in the middle of what was
        # read. But after one that still exists, none is missing.
        oldest = await store.first(subject, 1)
        there = [each for each in messages if oldest and each.sequence >= oldest[0].sequence]
        return await _kept(store.epoch, there, has_lost=len(there) < len(messages))

    async def _read_all(self, store: Store, subject: str, start: Start, limit: int) -> list[Stored]:
        """Reads the first ``limit`` messages from an offset or a time on, up to the one that was the newest when this
        was called.

        Any replica may answer, and it may lag. Raises :class:`BackendError` if it still lags after several attempts.
        """
        if not store.may_lag:
            return await store.all_from(subject, start, limit)
        newest = await store.newest_of_leader(subject)
        is_before = (
            newest.sequence <= start
            if isinstance(start, int)
            else newest.moment_s < start.timestamp()
        )
        for attempt in range(REPLICA_ATTEMPTS):
            messages = await store.all_from(subject, start, limit)
            reached = messages[-1].sequence if messages else 0
            if is_before or len(messages) >= limit or newest.sequence <= reached:
                return messages
            await asyncio.sleep(REPLICA_PAUSE_S * 2**attempt)
        raise BackendError("JetStream: this replica lags")


async def _kept(epoch: str, messages: list[Stored], *, has_lost: bool) -> _Kept:
    publications, offsets, moments_s = [], [], []
    async for message in paced(messages, lambda each: len(each.payload)):
        try:
            publication = unpack(message.payload, Position(epoch, message.sequence))
        except ValueError as error:
            _limited.warning("JetStream: %s is not a publication: %s", message.subject, error)
            continue
        publications.append(publication)
        offsets.append(message.sequence)
        moments_s.append(message.moment_s)
    return _Kept(tuple(publications), offsets, moments_s, has_lost)
