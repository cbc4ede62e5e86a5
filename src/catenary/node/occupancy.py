"""Which streams have subscribers at any node of the cluster, and how many.

Each node is one member of a stream while it has subscribers there, however many they are, so a crowd on one stream costs one
entry. The presence of the engine says which node is the first and which the last, and removes a node that has died. A node
keeps its number of subscribers of each stream beside that, which follows within :data:`COUNT_INTERVAL_S`.
Knows: presence, the number of subscribers of this node. Does not know: clients, who is notified.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection, Iterator
from typing import Final, Protocol

from catenary.errors import BackendError, BackendRefused
from catenary.logs.rate_limited import RateLimitedLogger
from catenary.maybe_awaitable import settled
from catenary.messages.names import RESERVED, Sid, Stream
from catenary.messages.presence import PresenceChange
from catenary.messages.publications import Position
from catenary.node.background import BackgroundTasks
from catenary.node.turns import Turns
from catenary.ports import Interest, Presence
from catenary.silent_observer import SilentObserver
from catenary.supervision.backoff import Backoff
from catenary.supervision.service import Service, Supervisor

_log: Final = logging.getLogger("catenary.node")

_NODES: Final = Stream(f"{RESERVED}nodes")
_OCCUPIED: Final = f"{RESERVED}occupied:"
_COUNTED: Final = f"{RESERVED}counted:"

_ANY_NODE: Final = "node"
"""The member id that all nodes share: so the member joins with the first node, and leaves with the last one."""

COUNT_INTERVAL_S: Final = 1.0
"""How often the numbers of subscribers are compared with those that other nodes know."""

AT_ONCE: Final = 100
"""Streams that are reported to the engine at the same time."""


LISTED_AT_ONCE: Final = 1_000
"""Streams that are listed in one turn of the event loop: less than 1 ms."""


class OccupancyObserver(Protocol):
    """Is notified of streams that are occupied or vacated in the whole cluster: by one node for each change. Methods
    return at once and never raise."""

    def occupied(self, stream: Stream) -> None:
        """A stream has its first subscriber."""
        ...

    def vacated(self, stream: Stream) -> None:
        """A stream has lost its last subscriber."""
        ...

    def wants_count(self, stream: Stream) -> bool:
        """Whether :meth:`counted` is to be called for a stream, which costs a read of the engine."""
        ...

    def counted(self, stream: Stream, subscribers: int) -> None:
        """The number of subscribers at all nodes has changed. Changes within a second are reported together."""
        ...


class ObservedInterest:
    """Satisfies :class:`catenary.ports.Interest`: that of the engine, and notes the streams whose first subscriber at this
    node has come, or whose last one has left.

    ``covers`` says whether a stream is of interest.
    """

    __slots__ = ("_covers", "_interest", "changed", "has_changed", "listened")

    def __init__(self, interest: Interest, covers: Callable[[Stream], bool]) -> None:
        self._interest = interest
        self._covers = covers
        self.listened: set[Stream] = set()
        """Streams that have listeners: subscribers, or others that occupy nothing."""
        self.changed: dict[Stream, None] = {}
        """Streams that may have changed since they were last looked at, in order."""
        self.has_changed = asyncio.Event()

    def note(self, stream: Stream) -> None:
        """A stream may have changed."""
        self.changed[stream] = None
        self.has_changed.set()

    def take(self) -> list[Stream]:
        """Removes and returns the streams that have changed."""
        taken = list(self.changed)
        self.changed.clear()
        return taken

    def listen(self, stream: Stream) -> None:
        """A stream has its first listener."""
        self._interest.listen(stream)
        if self._covers(stream):
            self.listened.add(stream)
            self.note(stream)

    def unlisten(self, stream: Stream) -> None:
        """A stream has lost its last listener."""
        self._interest.unlisten(stream)
        if self._covers(stream):
            self.listened.discard(stream)
            self.note(stream)

    def when_live(self, streams: Collection[Stream]) -> Awaitable[None] | None:
        """None if all messages that are published from now on arrive here."""
        return self._interest.when_live(streams)

    def has_arrived(self, stream: Stream, position: Position) -> bool:
        """Whether all messages up to a position have arrived here."""
        return self._interest.has_arrived(stream, position)

    def call_when_arrived(
        self, stream: Stream, position: Position, call: Callable[[], None]
    ) -> None:
        """Calls ``call`` when all messages up to a position have arrived."""
        self._interest.call_when_arrived(stream, position, call)


class Occupancy(SilentObserver):
    """The occupied streams of the cluster. ``name`` is a session id for this node, another one at each start.

    While the engine is away, changes wait: there is at most one for each stream.
    """

    __slots__ = (
        "_background",
        "_backoff",
        "_counts",
        "_interest",
        "_is_closing",
        "_limited",
        "_name",
        "_observer",
        "_presence",
        "_recounted",
        "_refreshing",
        "_service",
        "_subscribers",
        "_turns",
        "_uncertain",
    )

    def __init__(
        self,
        presence: Presence,
        interest: ObservedInterest,
        observer: OccupancyObserver,
        *,
        subscribers: Callable[[Stream], int],
        turns: Turns,
        name: Sid,
        supervisor: Supervisor | None = None,
    ) -> None:
        """``subscribers`` returns the number of subscribers of a stream at this node."""
        self._presence = presence
        self._subscribers = subscribers
        self._turns = turns
        self._interest = interest
        self._observer = observer
        self._name = name
        # The numbers of subscribers of this node that the engine knows; -1 for a stream whose number it does not know
        self._counts: dict[Stream, int] = {}
        # Streams whose last report may have taken effect, although it failed
        self._uncertain: set[Stream] = set()
        # Streams whose number at all nodes has changed
        self._recounted: dict[Stream, None] = {}
        self._is_closing = False
        self._background = BackgroundTasks()
        self._backoff = Backoff()
        self._refreshing = Backoff()
        self._limited = RateLimitedLogger(_log)
        self._service = Service("occupancy of streams", self._run, supervisor)

    async def start(self) -> None:
        """Starts reporting changes to the engine."""
        self._service.start()
        self.refresh()

    async def close(self, timeout_s: float) -> None:
        """Reports the last changes. To be called when all clients have left."""
        self._is_closing = True
        self._interest.has_changed.set()
        await self._service.stop(timeout_s)
        try:
            async with asyncio.timeout(1):
                await settled(self._presence.leave(_NODES, self._name))
        except (BackendError, TimeoutError) as error:
            _log.info(
                "occupancy: this node could not be removed, the other nodes expire it soon: %s",
                error,
            )

    # Periodic calls

    def refresh(self) -> None:
        """Extends the time to live of this node's entries. To be called several times within it."""
        self._background.run(self.touch())

    async def touch(self) -> None:
        """Extends the time to live of this node's entries, and finds out whether others have removed them."""
        try:
            change = await settled(self._presence.join(_NODES, self._name, self._name, "null"))
            await settled(self._presence.touch((self._name,)))
        except BackendError as error:
            if self._refreshing.failed().is_logged:
                self._limited.info("occupancy could not be refreshed, will retry: %s", error)
            return
        self._refreshing.works()
        if change is not None:
            # Others had removed this node, because it was away for too long. The first time there is nothing to restore.
            self.restore()

    def restore(self) -> None:
        """The engine may have lost the streams of this node: reports them all again."""
        self._turns.run(self._note_all())

    def count(self) -> None:
        """Notes the streams whose number of subscribers has changed, some in each turn of the event loop."""
        self._turns.run(self._note_counts())

    def _note_all(self) -> Iterator[int]:
        for stream in tuple(self._counts):
            if stream in self._counts:
                self._counts[stream] = -1
                self._interest.note(stream)
            yield 1

    def _note_counts(self) -> Iterator[int]:
        subscribers = self._subscribers
        for stream in tuple(self._interest.listened):
            if self._counts.get(stream, 0) != subscribers(stream):
                self._interest.note(stream)
            yield 1

    # Changes

    async def _run(self) -> None:
        """Returns when the server shuts down and the engine knows everything."""
        interest = self._interest
        while True:
            if interest.changed or self._recounted:
                await self._report_some()
            elif self._is_closing:
                return
            else:
                interest.has_changed.clear()
                await interest.has_changed.wait()

    async def _report_some(self) -> None:
        failed, failure = await self._do(self._report, self._interest.take())
        self._uncertain.update(failed)
        for stream in failed:
            self._interest.note(stream)
        recounted, self._recounted = self._recounted, {}
        failed, later_failure = await self._do(self._recount, list(recounted))
        self._recounted |= dict.fromkeys(failed)
        failure = failure or later_failure
        if failure is None:
            self._backoff.works()
            return
        pause = self._backoff.failed()
        if pause.is_logged:
            _log.info("occupancy could not be reported, will retry: %s", failure)
        await asyncio.sleep(pause.seconds)

    async def _do(
        self, work: Callable[[Stream], Awaitable[None]], streams: list[Stream]
    ) -> tuple[list[Stream], BackendError | None]:
        """Calls ``work`` for :data:`AT_ONCE` streams at a time. Returns the streams for which the engine has failed and those
        that were not tried after a failure, and the last error."""
        failed: list[Stream] = []
        failure: BackendError | None = None
        for start in range(0, len(streams), AT_ONCE):
            if failure is not None:
                return failed + streams[start:], failure
            some = streams[start : start + AT_ONCE]
            results = await asyncio.gather(*map(work, some), return_exceptions=True)
            for stream, result in zip(some, results, strict=True):
                if isinstance(result, BackendRefused):
                    self._limited.warning(
                        "occupancy was refused", stream=stream, reason=str(result)
                    )
                elif isinstance(result, BackendError):
                    failure = result
                    failed.append(stream)
                elif result is not None:
                    raise result
        return failed, failure

    async def _report(self, stream: Stream) -> None:
        """Reports the present state of a stream to the engine."""
        presence, name = self._presence, self._name
        known = self._counts.get(stream)
        number = self._subscribers(stream)
        if number == known or (number == 0 and known is None):
            return
        occupied, counted = Stream(_OCCUPIED + stream), Stream(_COUNTED + stream)
        if number == 0:
            change = await settled(presence.leave(occupied, name))
            if change is not None or await self._is_news(stream, occupied, 0):
                self._observer.vacated(stream)
            self._note_count(await settled(presence.leave(counted, name)))
            del self._counts[stream]
        else:
            if known is None or known < 0:
                self._counts[stream] = -1
                change = await settled(presence.join(occupied, name, _ANY_NODE, "null"))
                if change is not None or await self._is_news(stream, counted, 0):
                    self._observer.occupied(stream)
            self._note_count(await settled(presence.join(counted, name, name, str(number))))
            self._counts[stream] = number
        self._uncertain.discard(stream)

    async def _is_news(self, stream: Stream, where: Stream, others: int) -> bool:
        """Whether a change that the engine does not report was made by an earlier attempt that seemed to fail: then the number
        of nodes on the stream is ``others``."""
        if stream not in self._uncertain:
            return False
        return len(await settled(self._presence.members(where))) == others

    async def _recount(self, stream: Stream) -> None:
        self._observer.counted(stream, await self.subscribers(stream))

    def _note_count(self, change: PresenceChange | None) -> None:
        if change is not None:
            self.presence_changed(change)

    def presence_changed(self, change: PresenceChange) -> None:
        """Notes a change that the presence has returned at this node: a node may have been removed, because it died."""
        if change.stream.startswith(_COUNTED):
            stream = Stream(change.stream.removeprefix(_COUNTED))
            if self._observer.wants_count(stream):
                self._recounted[stream] = None
                self._interest.has_changed.set()
        elif change.stream.startswith(_OCCUPIED) and change.kind == "leave":
            self._observer.vacated(Stream(change.stream.removeprefix(_OCCUPIED)))

    # Reads

    async def streams(self) -> set[Stream]:
        """The streams that have subscribers at any node. Raises :class:`BackendError`."""
        found: set[Stream] = set()
        for number, stream in enumerate(tuple(self._counts), 1):
            if self._subscribers(stream):
                found.add(stream)
            await _pause(number)
        for node in await settled(self._presence.members(_NODES)):
            if node.id == self._name:
                continue
            theirs = await settled(self._presence.streams(Sid(node.id)))
            for number, stream in enumerate(theirs, 1):
                if stream.startswith(_OCCUPIED):
                    found.add(Stream(stream.removeprefix(_OCCUPIED)))
                await _pause(number)
        return found

    async def subscribers(self, stream: Stream) -> int:
        """The number of subscribers at all nodes. Raises :class:`BackendError`."""
        members = await settled(self._presence.members(Stream(_COUNTED + stream)))
        others = sum(int(each.info) for each in members if each.id != self._name)
        return others + self._subscribers(stream)


async def _pause(number: int) -> None:
    """Gives a turn to the event loop after every :data:`LISTED_AT_ONCE` streams."""
    if number % LISTED_AT_ONCE == 0:
        await asyncio.sleep(0)
