"""Delivers the messages of other nodes in order and without gaps, even after a connection was lost.

Every message names its predecessor on its stream. If the predecessor was not delivered, or after an outage, the missing
messages are read from the history, and messages that arrive meanwhile are held until those are delivered.
Knows: positions, a history. Does not know: an engine, subscribers.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Generator, Iterator
from functools import partial
from itertools import islice
from operator import attrgetter
from typing import Final

from catenary.adapters.interest import Cursor, Held, StreamInterest
from catenary.adapters.pacing import paced
from catenary.errors import BackendError, LostPosition
from catenary.logs.rate_limited import RateLimitedLogger
from catenary.messages.names import Stream
from catenary.messages.publications import Position, Publication, Publishable, is_later
from catenary.metrics.counters import Counters
from catenary.ports import History

_log: Final = logging.getLogger("catenary.pubsub")
_limited: Final = RateLimitedLogger(_log)

HELD_LIMIT: Final = 1_000
"""Messages of one stream that are held while missing ones are read; further ones are read from the history."""

READERS: Final = 16
"""Streams that are read concurrently."""

PAUSE_S: Final = 0.5
"""Time before a history that is unavailable is read again."""


_epoch_of: Final = attrgetter("position.epoch")
"""The epoch of a message of a history: all of them have positions."""


class StreamRecovery:
    """The streams of one node. If nothing is stored, ``history`` is None: missing messages stay missing then.

    ``clock`` returns seconds since the epoch.
    """

    __slots__ = (
        "_alive_at",
        "_clock",
        "_closing",
        "_counters",
        "_deliver",
        "_history",
        "_interest",
        "_is_troubled",
        "_lost",
        "_readers",
        "_tasks",
    )

    def __init__(
        self,
        interest: StreamInterest,
        deliver: Callable[[Publishable], None],
        history: History | None,
        counters: Counters,
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._interest = interest
        self._deliver = deliver
        self._history = history
        self._counters = counters
        self._readers = asyncio.Semaphore(READERS)
        self._tasks: set[asyncio.Task[None]] = set()
        self._clock = clock
        self._alive_at = clock()
        self._is_troubled = False
        self._closing = False
        # Streams that are being read and whose history was lost
        self._lost = 0

    def receive(self, publication: Publishable, previous: int = 0) -> None:
        """A message has arrived; ``previous`` is the offset of its predecessor on the stream."""
        if not isinstance(publication, Publication):
            self._deliver(publication)
            return
        cursor = self._interest.cursors.get(publication.stream)
        if cursor is None:
            return  # the last subscriber has left
        if cursor.held is not None:
            self._hold(cursor, Held(publication, previous))
        elif cursor.position is None and not self._interest.is_live(publication.stream):
            # The subscription is not confirmed yet, so earlier messages were not promised.
            self._take(cursor, publication)
        elif cursor.former is not None and _is_stale(cursor, publication):
            self._take_stale(cursor, publication)
        elif _has_gap(cursor, publication, previous):
            self._catch_up(publication.stream, cursor, [Held(publication, previous)])
        else:
            self._maybe_take(cursor, publication)

    def begin_stream(self, stream: Stream, newest: Position | None) -> None:
        """The node is about to subscribe to a stream, whose newest position the engine has read."""
        cursor = self._interest.cursors.get(stream)
        if cursor is not None and cursor.position is None:
            cursor.advance(newest)

    def resume_stream(self, stream: Stream, newest: Position | None) -> None:
        """The connection is restored: reads what was published on a stream during the outage."""
        cursor = self._interest.cursors.get(stream)
        if cursor is None or newest is None:
            return
        if cursor.held is not None:
            # The reading under way may have been requested before the newest message was published.
            cursor.newest, cursor.is_short = newest, True
        elif cursor.position is None and newest.offset == 0:
            cursor.advance(newest)
        elif is_later(newest, cursor.position):
            cursor.newest = newest
            self._catch_up(stream, cursor, [])

    def note_alive(self) -> None:
        """The connection works at this moment."""
        self._alive_at = self._clock()

    async def close(self) -> None:
        """Stops reading."""
        self._closing = True
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    def _take(self, cursor: Cursor, publication: Publication) -> None:
        self._deliver(publication)
        if publication.position is not None:
            cursor.advance(publication.position)

    def _take_stale(self, cursor: Cursor, publication: Publication) -> None:
        """Delivers a message of the former epoch, unless that was delivered: a server that hung may send it after another
        one has replaced it. The messages of the present epoch follow each other as before."""
        former = cursor.former
        if is_later(publication.position, former):
            cursor.former = publication.position
            self._deliver(publication)

    def _hold(self, cursor: Cursor, held: Held) -> None:
        assert cursor.held is not None
        if len(cursor.held) < HELD_LIMIT:
            cursor.held.append(held)
        elif held.publication.position is None:
            self._counters.pubsub_gaps_total += 1
        else:
            cursor.is_short = True

    def _catch_up(self, stream: Stream, cursor: Cursor, held: list[Held]) -> None:
        if self._history is None:
            for each in held:
                self._take(cursor, each.publication)
            return
        cursor.held = held
        self._counters.pubsub_caught_up_total += 1
        since_s = max(int(self._alive_at), cursor.since_s)
        self._start_reading(self._history, stream, cursor, since_s)

    def _start_reading(
        self, history: History, stream: Stream, cursor: Cursor, since_s: int
    ) -> None:
        if self._closing:
            return
        task = asyncio.get_running_loop().create_task(
            self._read_missing(history, stream, cursor, since_s)
        )
        self._tasks.add(task)

        def done(task: "asyncio.Task[None]") -> None:
            self._tasks.discard(task)
            if task.cancelled() and cursor.held is not None:
                # Without another task, no message of this stream would be delivered again. Not at
                # once: a loop that is being closed cancels all tasks, and must not get new ones.
                again = partial(self._start_reading, history, stream, cursor, since_s)
                asyncio.get_running_loop().call_later(PAUSE_S, again)
            self._note_lost()

        task.add_done_callback(done)

    def _note_lost(self) -> None:
        """Logs one line for all streams whose history was lost, when the last one is read."""
        if self._lost and not self._tasks:
            _log.warning("Messages may be lost; streams whose history is gone: %d", self._lost)
            self._lost = 0

    async def _read_missing(
        self, history: History, stream: Stream, cursor: Cursor, since_s: int
    ) -> None:
        """Delivers what is missing, then what arrived meanwhile, until no gap is left."""
        while self._interest.cursors.get(stream) is cursor:
            try:
                async with self._readers:
                    await self._read_once(history, stream, cursor, since_s)
            except BackendError as error:
                self._note_trouble(error)
                await asyncio.sleep(PAUSE_S)
            if cursor.held is None:
                return

    async def _read_once(
        self, history: History, stream: Stream, cursor: Cursor, since_s: int
    ) -> None:
        """Reads the history once, and delivers over several turns of the event loop. Raises :class:`BackendError`."""
        assert cursor.held is not None
        known, cursor.is_short = len(cursor.held), False
        try:
            missing = await self._missing(history, stream, cursor, since_s)
        except BackendError:
            raise
        except Exception:  # noqa: BLE001
            # A bug must cost the missing messages, not all later ones.
            _limited.exception("Reading missing messages of %.100s failed", stream)
            self._counters.pubsub_gaps_total += 1
            missing = ()
        self._note_trouble(None)
        async for _ in paced(self._take_all(cursor, missing, known), _size):
            pass

    def _take_all(
        self, cursor: Cursor, missing: tuple[Publication, ...], known: int
    ) -> Iterator[Publication]:
        """Delivers the missing messages and the held ones, one in each step, up to a gap in those that arrived
        while the history was read. At the end ``cursor.held`` is None if no gap is left.

        The first ``known`` of the held ones arrived before the history was read: their predecessors were read, or are no
        longer stored. A message that arrives between two steps is held, too.
        """
        held = cursor.held
        assert held is not None
        before = _epoch(cursor.position)
        begun = yield from self._take_missing(cursor, missing, held, known)
        for number, each in enumerate(islice(held, begun, None), begun):
            if _is_stale(cursor, each.publication):
                self._take_stale(cursor, each.publication)
                yield each.publication
                continue
            if number >= known and _has_gap(cursor, each.publication, each.previous):
                cursor.held = held[number:]
                return
            yield self._maybe_take(cursor, each.publication)
        if cursor.is_short:
            cursor.held = []
            return
        epoch = _epoch(cursor.position)
        is_left = epoch not in {
            before,
            _epoch(cursor.newest),
        }  # a new epoch has begun meanwhile
        if cursor.newest is not None and is_later(cursor.newest, cursor.position) and not is_left:
            cursor.advance(cursor.newest)  # the others are no longer stored
        cursor.held = cursor.newest = None

    def _take_missing(
        self, cursor: Cursor, missing: tuple[Publication, ...], held: list[Held], known: int
    ) -> Generator[Publication, None, int]:
        """Delivers the missing messages. At the start of a new epoch, held messages of older epochs are delivered first.
        Returns how many held ones were.

        A held message that arrived before the history was read, and whose epoch is not in the history, is older than it.
        """
        epochs = set(map(_epoch_of, missing))
        older = _number_up_to(
            held[:known], {_epoch(each.publication.position) for each in held} - epochs
        )
        begun = 0
        for publication in missing:
            if _epoch(publication.position) != _epoch(cursor.position):
                old = max(older, _number_up_to(held, {_epoch(cursor.position)}))
                for each in held[begun:old]:
                    yield self._maybe_take(cursor, each.publication)
                begun = max(begun, old)
            yield self._maybe_take(cursor, publication)
        return begun

    def _maybe_take(self, cursor: Cursor, publication: Publication) -> Publication:
        is_wanted = self._interest.cursors.get(publication.stream) is cursor
        if is_wanted and is_later(publication.position, cursor.position):
            self._take(cursor, publication)
        return publication

    async def _missing(
        self, history: History, stream: Stream, cursor: Cursor, since_s: int
    ) -> tuple[Publication, ...]:
        if cursor.position is not None:
            try:
                found = history.after(stream, cursor.position)
                return found if isinstance(found, tuple) else await found
            except LostPosition as error:
                _limited.debug("Messages may be lost on %.100s: %s", stream, error)
        kept = history.since(stream, since_s)
        missing = kept if isinstance(kept, tuple) else await kept
        is_lost = cursor.position is not None
        self._counters.pubsub_gaps_total += is_lost
        self._lost += is_lost
        return _from(cursor.position, missing)

    def _note_trouble(self, error: BackendError | None) -> None:
        """Logs the first failure, for all streams."""
        if error is not None and not self._is_troubled:
            _log.warning("Missing messages can't be read, retrying: %s", error)
        self._is_troubled = error is not None


def _is_stale(cursor: Cursor, publication: Publication) -> bool:
    """Does a message belong to the epoch before the present one?"""
    former, position = cursor.former, publication.position
    return former is not None and position is not None and position.epoch == former.epoch


def _has_gap(cursor: Cursor, publication: Publication, previous: int) -> bool:
    """Are messages missing between the delivered ones and this one?"""
    position = publication.position
    if position is None:
        return False
    if cursor.position is None or position.epoch != cursor.position.epoch:
        return previous > 0
    return previous > cursor.position.offset


def _size(publication: Publication) -> int:
    return len(publication.data)


def _epoch(position: Position | None) -> str | None:
    return None if position is None else position.epoch


def _from(position: Position | None, kept: tuple[Publication, ...]) -> tuple[Publication, ...]:
    """The messages after a position that is among them. All messages before it were delivered, older epochs too."""
    delivered = [
        number for number, each in enumerate(kept, 1) if not is_later(each.position, position)
    ]
    return kept[delivered[-1] :] if delivered else kept


def _number_up_to(held: list[Held], epochs: set[str | None]) -> int:
    """The number of messages up to the last one of some epochs."""
    numbers = (
        number
        for number, each in enumerate(held, 1)
        if each.publication.position is not None and each.publication.position.epoch in epochs
    )
    return max(numbers, default=0)
