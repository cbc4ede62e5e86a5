"""Which streams the clients of this node listen to, and what the engine has not been told of yet.

Redis and NATS alike: the hub says what it wants, the adapter takes the changes in batches and says
when they are in force. Knows: names of streams, futures. Does not know: an engine.
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
    """A message that waits for what is missing; ``previous`` is the offset of the one before it."""

    publication: Publication
    previous: int


Wait = asyncio.Future[None]


class ReadAhead:
    """Waits for offsets of one epoch: a message ends the waits up to its offset, and looks at no other."""

    __slots__ = ("_offsets", "_order")

    def __init__(self) -> None:
        self._offsets: dict[int, set[Wait]] = {}
        self._order: list[int] = []  # a heap of these offsets, and of some that nobody waits for

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
        """Removes a wait; nothing happens for one that has been ended."""
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
    """How far this node has heard of a stream.

    ``position`` is that of the last message that was delivered, or that was there already when the
    node began to listen; None until it is known. ``since_s`` is when somebody began to listen, in
    seconds since the epoch. While something is missing, ``held`` keeps what came behind it;
    ``is_short`` says that what is read then may not reach up to that, nor to ``newest``.
    ``waits`` are those who have read ahead, by the epoch of what they have read.
    """

    __slots__ = ("held", "is_short", "newest", "position", "since_s", "waits")

    def __init__(self) -> None:
        self.position: Position | None = None
        self.since_s = int(time.time())
        self.held: list[Held] | None = None
        self.is_short = False
        self.newest: Position | None = None
        self.waits: dict[str, ReadAhead] | None = None

    def advance(self, position: Position | None) -> None:
        """Everything up to a position was heard."""
        before, self.position = self.position, position
        if not self.waits or position is None:
            return
        if before is not None and before.epoch != position.epoch:
            for epoch, waits in self.waits.items():
                if epoch != position.epoch:
                    waits.end()
        waits_here = self.waits.get(position.epoch)
        if waits_here is not None:
            waits_here.end(position.offset)

    def when_at(self, position: Position) -> Wait:
        """A wait until everything up to a position was heard."""
        if self.waits is None:
            self.waits = {}
        wait: Wait = asyncio.get_running_loop().create_future()
        self.waits.setdefault(position.epoch, ReadAhead()).add(position.offset, wait)
        wait.add_done_callback(partial(self._over, position))
        return wait

    def _over(self, position: Position, wait: Wait) -> None:
        waits = None if self.waits is None else self.waits.get(position.epoch)
        if self.waits is not None and waits is not None:
            waits.discard(position.offset, wait)
            if not waits:
                del self.waits[position.epoch]

    def forget(self) -> None:
        """Nobody listens any more, nor has to wait."""
        for waits in (self.waits or {}).values():
            waits.end()


class Changes(msgspec.Struct, frozen=True):
    """What the engine has to be told. ``live`` is to be set when the added streams are in force."""

    removed: tuple[Stream, ...]
    added: tuple[Stream, ...]
    live: "asyncio.Future[None]"


class Interest:
    """Satisfies :class:`catenary.ports.Interest`; ``cursors`` has an entry for each wanted stream."""

    __slots__ = ("_added", "_changed", "_is_up", "_live", "_removed", "_waits", "cursors")

    def __init__(self) -> None:
        self.cursors: dict[Stream, Cursor] = {}
        self._is_up = False
        self._changed = asyncio.Event()
        # Not told yet
        self._added: dict[Stream, None] = {}
        self._removed: dict[Stream, None] = {}
        self._live: asyncio.Future[None] | None = None
        # Not in force yet, told or not
        self._waits: dict[Stream, asyncio.Future[None]] = {}

    # For the hub

    def listen(self, stream: Stream) -> None:
        """The first listener came."""
        self.cursors[stream] = Cursor()
        if not self._is_up:
            return
        if self._live is None:
            self._live = asyncio.get_running_loop().create_future()
        self._added[stream] = None
        self._waits[stream] = self._live
        self._changed.set()

    def unlisten(self, stream: Stream) -> None:
        """The last listener has gone."""
        self.cursors.pop(stream).forget()
        if not self._is_up:
            return
        self._waits.pop(stream, None)
        # What the engine was never told to add is removed from it all the same: it may be there from
        # before, and has forgotten it otherwise.
        self._added.pop(stream, None)
        self._removed[stream] = None
        self._changed.set()

    def when_live(self, streams: Collection[Stream]) -> Awaitable[None] | None:
        """None where all of these are in force, or the engine is away."""
        waits = {self._waits[stream] for stream in streams if stream in self._waits}
        if not waits:
            return None
        return _all_done(waits)

    def has_arrived(self, stream: Stream, position: Position) -> bool:
        """Was everything up to a position delivered here?"""
        cursor = self.cursors.get(stream)
        return cursor is None or not is_later(position, cursor.position)

    def call_when_arrived(
        self, stream: Stream, position: Position, call: Callable[[], None]
    ) -> None:
        """Calls when everything up to a position was delivered here, or nobody listens any more."""
        self.cursors[stream].when_at(position).add_done_callback(lambda _: call())

    # For the adapter

    def is_live(self, stream: Stream) -> bool:
        """Is a wanted stream in force, as far as anything is?"""
        return stream not in self._waits

    async def changes(self) -> Changes:
        """What has changed since the last time, when something has."""
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
        """The engine sends from now on what is published on the added streams."""
        for stream in changes.added:
            if self._waits.get(stream) is changes.live:
                del self._waits[stream]
        if not changes.live.done():
            changes.live.set_result(None)

    def up(self) -> tuple[Stream, ...]:
        """The engine is there, and must be told of all these streams; of changes from now on."""
        self._is_up = True
        return tuple(self.cursors)

    def down(self) -> None:
        """The engine is away: nobody waits for it, and it will be told of everything anew."""
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
    """Whoever waits may be cancelled, and the others wait on."""
    await asyncio.wait(waits)
