"""The streams that the clients of this node are subscribed to, and the changes that the engine does not know yet.

The hub reports the first and the last subscriber of each stream. The adapter of Redis or NATS takes the changes in
batches, and reports when they are in force.
Knows: names of streams, futures. Does not know: an engine.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection
from functools import partial
from heapq import heappop, heappush

import msgspec

from catenary.messages.names import Stream
from catenary.messages.publications import Position, Publication, is_later


class Held(msgspec.Struct, frozen=True):
    """A message that waits for missing ones; ``previous`` is the offset of its predecessor."""

    publication: Publication
    previous: int


Wait = asyncio.Future[None]


class PositionWaits:
    """Waits for offsets of one epoch. A delivery ends the waits up to its offset, and looks at no others."""

    __slots__ = ("_offsets", "_order")

    def __init__(self) -> None:
        self._offsets: dict[int, set[Wait]] = {}
        self._order: list[
            int
        ] = []  # a heap of these offsets, and of some that have no waits any more

    def __bool__(self) -> bool:
        return bool(self._offsets)

    def add(self, offset: int, wait: Wait) -> None:
        """Adds a wait."""
        waits = self._offsets.get(offset)
        if waits is None:
            waits = self._offsets[offset] = set()
            heappush(self._order, offset)
        waits.add(wait)

    def discard(self, offset: int, wait: Wait) -> None:
        """Removes a wait; does nothing if it has ended."""
        waits = self._offsets.get(offset)
        if waits is None:
            return
        waits.discard(wait)
        if not waits:
            del self._offsets[offset]
            while self._order and self._order[0] not in self._offsets:
                heappop(self._order)

    def end(self, up_to: float = float("inf")) -> None:
        """Ends the waits for offsets up to one."""
        while self._order and self._order[0] <= up_to:
            for wait in self._offsets.pop(heappop(self._order), ()):
                if not wait.done():
                    wait.set_result(None)


class Cursor:
    """Up to where a stream was delivered on this node.

    ``position`` belongs to the last message that was delivered, or to the newest one when the node
    subscribed; None until it is known. ``since_s`` is the time of the first subscription, in
    seconds since the epoch. While messages are missing, ``held`` has the later ones;
    ``is_short`` says that the reading under way may end before those, or before ``newest``.
    ``waits`` belong to clients that have read the history beyond ``position``, by epoch. ``former`` is the last position of
    the epoch before.
    """

    __slots__ = ("former", "held", "is_short", "newest", "position", "since_s", "waits")

    def __init__(self, since_s: int) -> None:
        self.position: Position | None = None
        self.since_s = since_s
        self.held: list[Held] | None = None
        self.is_short = False
        self.newest: Position | None = None
        self.waits: dict[str, PositionWaits] | None = None
        self.former: Position | None = None

    def advance(self, position: Position | None) -> None:
        """Everything up to a position was delivered."""
        before, self.position = self.position, position
        has_left = before is not None and position is not None and before.epoch != position.epoch
        if has_left:
            self.former = before
        if not self.waits or position is None:
            return
        if has_left:
            for epoch, waits in self.waits.items():
                if epoch != position.epoch:
                    waits.end()
        waits_here = self.waits.get(position.epoch)
        if waits_here is not None:
            waits_here.end(position.offset)

    def when_at(self, position: Position) -> Wait:
        """A wait until everything up to a position was delivered."""
        if self.waits is None:
            self.waits = {}
        wait: Wait = asyncio.get_running_loop().create_future()
        self.waits.setdefault(position.epoch, PositionWaits()).add(position.offset, wait)
        wait.add_done_callback(partial(self._wait_ended, position))
        return wait

    def _wait_ended(self, position: Position, wait: Wait) -> None:
        waits = None if self.waits is None else self.waits.get(position.epoch)
        if self.waits is not None and waits is not None:
            waits.discard(position.offset, wait)
            if not waits:
                del self.waits[position.epoch]

    def forget(self) -> None:
        """The last subscriber has left: ends all waits."""
        for waits in (self.waits or {}).values():
            waits.end()


class Changes(msgspec.Struct, frozen=True):
    """Changes of subscriptions for the engine. ``live`` is done when the added ones are in force."""

    removed: tuple[Stream, ...]
    added: tuple[Stream, ...]
    live: "asyncio.Future[None]"


class StreamInterest:
    """Satisfies :class:`catenary.ports.StreamInterest`; ``cursors`` has an entry for each stream with a subscriber.

    ``clock`` returns seconds since the epoch.
    """

    __slots__ = ("_added", "_changed", "_clock", "_is_up", "_live", "_removed", "_waits", "cursors")

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self.cursors: dict[Stream, Cursor] = {}
        self._is_up = False
        self._changed = asyncio.Event()
        # Changes that the engine has not received
        self._added: dict[Stream, None] = {}
        self._removed: dict[Stream, None] = {}
        self._live: asyncio.Future[None] | None = None
        # Streams that are not in force yet
        self._waits: dict[Stream, asyncio.Future[None]] = {}

    # For the hub

    def listen(self, stream: Stream) -> None:
        """The first subscriber has come."""
        self.cursors[stream] = Cursor(int(self._clock()))
        if not self._is_up:
            return
        if self._live is None:
            self._live = asyncio.get_running_loop().create_future()
        self._added[stream] = None
        self._waits[stream] = self._live
        self._changed.set()

    def unlisten(self, stream: Stream) -> None:
        """The last subscriber has left."""
        self.cursors.pop(stream).forget()
        if not self._is_up:
            return
        self._waits.pop(stream, None)
        # Also if the engine never received that it was added: it may have it from an earlier time.
        self._added.pop(stream, None)
        self._removed[stream] = None
        self._changed.set()

    def when_live(self, streams: Collection[Stream]) -> Awaitable[None] | None:
        """Returns when all of these are in force; None if they are, or if the engine is unavailable."""
        waits = {self._waits[stream] for stream in streams if stream in self._waits}
        if not waits:
            return None
        return _all_done(waits)

    def has_arrived(self, stream: Stream, position: Position) -> bool:
        """Was everything up to a position delivered on this node?"""
        cursor = self.cursors.get(stream)
        return cursor is None or not is_later(position, cursor.position)

    def call_when_arrived(
        self, stream: Stream, position: Position, call: Callable[[], None]
    ) -> None:
        """Calls ``call`` when everything up to a position was delivered, or the last subscriber has left."""
        self.cursors[stream].when_at(position).add_done_callback(lambda _: call())

    # For the adapter

    def is_live(self, stream: Stream) -> bool:
        """Is the subscription of a stream in force?"""
        return stream not in self._waits

    async def changes(self) -> Changes:
        """Waits for changes, and returns all since the last call."""
        await self._changed.wait()
        self._changed.clear()
        live, self._live = self._live, None
        changes = Changes(
            tuple(self._removed),
            tuple(self._added),
            live or asyncio.get_running_loop().create_future(),
        )
        self._removed.clear()
        self._added.clear()
        return changes

    def in_force(self, changes: Changes) -> None:
        """The engine delivers the added streams from now on."""
        for stream in changes.added:
            if self._waits.get(stream) is changes.live:
                del self._waits[stream]
        if not changes.live.done():
            changes.live.set_result(None)

    def up(self) -> tuple[Stream, ...]:
        """The engine is available: returns all streams that it needs; later ones are :meth:`changes`."""
        self._is_up = True
        return tuple(self.cursors)

    def down(self) -> None:
        """The engine is unavailable: ends all waits. It gets all streams again from :meth:`up`."""
        self._is_up = False
        self._changed.clear()
        self._added.clear()
        self._removed.clear()
        self._live = None
        waits, self._waits = set(self._waits.values()), {}
        for wait in waits:
            if not wait.done():
                wait.set_result(None)


async def _all_done(waits: "set[asyncio.Future[None]]") -> None:
    """Waits for all; cancelling it cancels none of them."""
    await asyncio.wait(waits)
