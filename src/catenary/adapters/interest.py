"""Which streams the clients of this node listen to, and what the engine has not been told of yet.

Redis and NATS alike: the hub says what it wants, the adapter takes the changes in batches and says
when they are in force. Knows: names of streams, futures. Does not know: an engine.
"""

import asyncio
import time
from collections.abc import Awaitable, Collection

import msgspec

from catenary.messages.names import Stream
from catenary.messages.publications import Position, Publication, is_behind


class Held(msgspec.Struct, frozen=True):
    """A message that waits for what is missing; ``previous`` is the offset of the one before it."""

    publication: Publication
    previous: int


class Mark:
    """How far this node has heard of a stream.

    ``position`` is that of the last message that was delivered, or that was there already when the
    node began to listen; None until it is known. ``since_s`` is when somebody began to listen, in
    seconds since the epoch. While something is missing, ``held`` keeps what came behind it;
    ``is_short`` says that what is read then may not reach up to that, nor to ``newest``.
    ``waits`` are those who have read ahead: up to where.
    """

    __slots__ = ("held", "is_short", "newest", "position", "since_s", "waits")

    def __init__(self) -> None:
        self.position: Position | None = None
        self.since_s = int(time.time())
        self.held: list[Held] | None = None
        self.is_short = False
        self.newest: Position | None = None
        self.waits: dict[asyncio.Future[None], Position] | None = None

    def advance(self, position: Position | None) -> None:
        """Everything up to a position was heard."""
        before, self.position = self.position, position
        if not self.waits or position is None:
            return
        is_anew = before is not None and before.epoch != position.epoch
        for wait, wanted in self.waits.items():
            is_over = is_anew and wanted.epoch != position.epoch
            if (is_over or not is_behind(wanted, position)) and not wait.done():
                wait.set_result(None)

    def when_at(self, position: Position) -> "asyncio.Future[None]":
        """A wait until everything up to a position was heard."""
        waits = self.waits = {} if self.waits is None else self.waits
        wait: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        waits[wait] = position
        wait.add_done_callback(lambda done: waits.pop(done, None))
        return wait

    def forget(self) -> None:
        """Nobody listens any more, nor has to wait."""
        for wait in self.waits or ():
            if not wait.done():
                wait.set_result(None)


class Changes(msgspec.Struct, frozen=True):
    """What the engine has to be told. ``live`` is to be set when the added streams are in force."""

    removed: tuple[Stream, ...]
    added: tuple[Stream, ...]
    live: "asyncio.Future[None]"


class Interest:
    """Satisfies :class:`catenary.ports.Interest`; ``marks`` has an entry for each wanted stream."""

    __slots__ = ("_added", "_changed", "_is_up", "_live", "_removed", "_waits", "marks")

    def __init__(self) -> None:
        self.marks: dict[Stream, Mark] = {}
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
        self.marks[stream] = Mark()
        if not self._is_up:
            return
        if self._live is None:
            self._live = asyncio.get_running_loop().create_future()
        self._added[stream] = None
        self._waits[stream] = self._live
        self._changed.set()

    def unlisten(self, stream: Stream) -> None:
        """The last listener has gone."""
        self.marks.pop(stream).forget()
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

    def when_heard(self, stream: Stream, position: Position) -> Awaitable[None] | None:
        """None where everything up to a position was delivered here, else a wait for that."""
        mark = self.marks.get(stream)
        if mark is None or not is_behind(position, mark.position):
            return None
        return mark.when_at(position)

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
        return tuple(self.marks)

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
