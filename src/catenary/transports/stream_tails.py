"""The ends of streams, where readers wait for the next messages: Durable Streams' long polls and event streams.

A tail follows one stream while it has readers. It remembers the last messages, and gives each waiting reader those after its
position: what readers at the same position receive is encoded once. A reader that needs older messages reads the
history. Readers cost neither a task nor a timer here, and messages of one turn of the event loop are given together.
Knows: the hub, positions. Does not know: how a reader responds.
"""

from collections import deque
from collections.abc import Awaitable, Iterator
from typing import Final, Protocol

from catenary.messages.names import RESERVED, Stream
from catenary.messages.publications import Position, Publication, is_later
from catenary.node.audience import json_of
from catenary.node.delivery_queue import WRITE_BYTES
from catenary.node.hub import Hub
from catenary.protocols.durable_streams import Chunk, Content

RECENT: Final = 100
"""Messages that a tail remembers: more published in one turn of the event loop are read from the history."""

RECENT_BYTES: Final = 262_144
"""Characters of the messages that a tail remembers, except for the last one."""


class Reader(Protocol):
    """A client that waits at the end of a stream. Its ``position`` is None if the stream had no messages; ``content`` is
    how it receives them."""

    position: Position | None
    is_waiting: bool

    @property
    def content(self) -> Content: ...

    def take(self, chunk: Chunk) -> None:
        """Messages have arrived. The reader does not wait any more; it may begin again. Never raises."""
        ...

    def catch_up(self) -> None:
        """The stream has changed, or messages have arrived that must be read from the history. The same holds as for
        :meth:`take`."""
        ...


_Group = tuple[Position | None, Content]


class Tail:
    """The end of one stream. ``readers`` counts those that have joined, ``changes`` how often the stream was closed or
    deleted meanwhile."""

    __slots__ = (
        "_evicted",
        "_groups",
        "_hub",
        "_is_changed",
        "_is_due",
        "_recent",
        "_recent_bytes",
        "_streams",
        "changes",
        "readers",
    )

    def __init__(self, hub: Hub, *streams: Stream) -> None:
        self._hub = hub
        self._streams = streams
        self._recent: deque[Publication] = deque()
        self._recent_bytes = 0
        # The newest message that is not remembered any more
        self._evicted: Position | None = None
        self._groups: dict[_Group, dict[Reader, None]] = {}
        self._is_due = False
        self._is_changed = False
        self.changes = 0
        self.readers = 0

    def when_live(self) -> Awaitable[None] | None:
        """None if every message that is published from now on arrives; else to be awaited before the history is read."""
        return self._hub.when_live(self._streams)

    def wait(self, reader: Reader) -> None:
        """The reader has all messages up to its position."""
        reader.is_waiting = True
        self._groups.setdefault((reader.position, reader.content), {})[reader] = None
        if self._recent and is_later(self._recent[-1].position, reader.position):
            self._serve_soon()

    def stop_waiting(self, reader: Reader) -> None:
        """Undoes :meth:`wait`."""
        reader.is_waiting = False
        key = reader.position, reader.content
        group = self._groups.get(key)
        if group is not None and reader in group:
            del group[reader]
            if not group:
                del self._groups[key]

    # Messages

    def receive(self, publication: Publication) -> None:
        """A message of the stream; one without a position is in no history, and not for readers."""
        if publication.position is None:
            return
        self._recent.append(publication)
        self._recent_bytes += len(publication.data)
        while len(self._recent) > RECENT or (
            self._recent_bytes > RECENT_BYTES and len(self._recent) > 1
        ):
            oldest = self._recent.popleft()
            self._recent_bytes -= len(oldest.data)
            self._evicted = oldest.position
        self._serve_soon()

    def change(self, publication: Publication) -> None:
        """The stream was closed or deleted: every reader looks at it again."""
        self.changes += 1
        self._is_changed = True
        self._serve_soon()

    def _serve_soon(self) -> None:
        if self._groups and not self._is_due:
            self._is_due = True
            self._hub.turns.wait(self._serve)

    def _serve(self) -> None:
        self._is_due = False
        groups, self._groups = self._groups, {}
        is_changed, self._is_changed = self._is_changed, False
        self._hub.turns.run(self._steps(groups, is_changed=is_changed))

    def _steps(
        self, groups: dict[_Group, dict[Reader, None]], *, is_changed: bool
    ) -> Iterator[int]:
        """Serves one reader in each step. Readers that leave meanwhile do not wait any more."""
        served = [
            (None if is_changed else self._after(key[0]), key, group)
            for key, group in groups.items()
        ]
        for found, key, group in served:
            if found is not None and not found:
                self._groups.setdefault(key, {}).update(group)
                continue
            chunk = None if found is None else _chunk(key[1], found)
            cost = 1 if chunk is None else 1 + len(chunk.body) // WRITE_BYTES
            for reader in group:
                if reader.is_waiting:
                    reader.is_waiting = False
                    if chunk is None:
                        reader.catch_up()
                    else:
                        reader.take(chunk)
                    yield cost

    def _after(self, position: Position | None) -> list[Publication] | None:
        """The messages after a position; None if some of them must be read from the history."""
        if position is None:
            return None if self._evicted is not None else list(self._recent)
        if any(each is not None and each.epoch != position.epoch for each in self._ends()):
            return None
        if self._evicted is not None and is_later(self._evicted, position):
            return None
        return [each for each in self._recent if is_later(each.position, position)]

    def _ends(self) -> tuple[Position | None, ...]:
        newest = self._recent[-1].position if self._recent else None
        return newest, self._evicted


class Tails:
    """The tails of one node, each while it has readers. ``may_change`` says that streams can be closed and deleted."""

    __slots__ = ("_hub", "_may_change", "_tails")

    def __init__(self, hub: Hub, *, may_change: bool = False) -> None:
        self._hub = hub
        self._may_change = may_change
        self._tails: dict[Stream, Tail] = {}

    def join(self, stream: Stream) -> Tail:
        """The tail of a stream, for one more reader."""
        tail = self._tails.get(stream)
        if tail is None:
            streams = (stream, changes_of(stream)) if self._may_change else (stream,)
            tail = self._tails[stream] = Tail(self._hub, *streams)
            self._hub.follow(stream, tail.receive)
            if self._may_change:
                self._hub.follow(changes_of(stream), tail.change)
        tail.readers += 1
        return tail

    def leave(self, stream: Stream) -> None:
        """Undoes :meth:`join`."""
        tail = self._tails[stream]
        tail.readers -= 1
        if tail.readers == 0:
            del self._tails[stream]
            self._hub.unfollow(stream)
            if self._may_change:
                self._hub.unfollow(changes_of(stream))


def changes_of(stream: Stream) -> Stream:
    """The internal stream on which nodes announce that a durable stream was closed or deleted: it has a history of its own,
    and no messages in it."""
    return Stream(f"{RESERVED}durable-streams/changes/{stream}")


def stored_json(publication: Publication) -> bytes:
    """The data of a message as JSON text: unchanged if it is JSON, also ``null``; anything else as a string."""
    return b"null" if publication.data.strip() == "null" else json_of(publication.data)


def _chunk(content: Content, found: list[Publication]) -> Chunk:
    messages = [stored_json(each) for each in found]
    return Chunk(content, messages, found[-1].position, is_up_to_date=True)
