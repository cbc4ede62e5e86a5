"""Reads what is stored of a durable stream for one client: the record of the stream, and its messages page by page.

Source: PROTOCOL.md of durable-streams/durable-streams, sections 5.5 and 5.6.
Knows: histories, records. Does not know: responses, a transport.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, Protocol, TypeVar

import msgspec

from catenary.errors import BackendError, LostPosition
from catenary.messages.names import Stream
from catenary.messages.publications import Position, Publication
from catenary.node.background import BackgroundTasks
from catenary.ports import History, StreamRecords
from catenary.protocols.durable_stream_writes import Record, record_of
from catenary.protocols.durable_streams import Chunk, Content
from catenary.transports.durable_stream_writes import end_of, ttl_of
from catenary.transports.stream_tails import stored_json

PAGE: Final = 1000
"""Limit of the messages of one response, or of one event."""

PAGE_BYTES: Final = 1_048_576
"""Limit of the messages of a page, in characters; the first message may exceed it."""

_T = TypeVar("_T")
_Messages = tuple[Publication, ...]


class Storage(msgspec.Struct, frozen=True, eq=False, kw_only=True):
    """Where streams are stored. ``records`` are those of streams that clients write, None if they can't; a stream without a
    TTL is forgotten ``kept_s`` after it was last read or written. ``clock`` returns seconds since 1970."""

    history: History
    records: StreamRecords | None
    kept_s: float
    clock: Callable[[], float]
    background: BackgroundTasks


class PageReader(Protocol):
    """Receives the result of each :meth:`StreamPages.look` or :meth:`StreamPages.read_page`: one method is called, at once or
    when a remote store has answered."""

    position: Position | None
    """That of the last message that was read."""

    def found_chunk(self, chunk: Chunk) -> None:
        """A page was read; it is empty if there is none."""
        ...

    def found_end(self) -> None:
        """The position is that of the last message: nothing else was requested."""
        ...

    def found_missing(self) -> None:
        """The stream was deleted, has expired, or never existed."""
        ...

    def failed(self, error: LostPosition | BackendError) -> None:
        """Messages are not kept any more, or the store is away."""
        ...


class StreamPages:
    """The stream as one client reads it. ``is_head``: only the position of its end is read."""

    __slots__ = (
        "_has_read",
        "_is_head",
        "_is_now",
        "_reader",
        "_storage",
        "_stream",
        "_task",
        "record",
    )

    def __init__(
        self, storage: Storage, stream: Stream, reader: PageReader, *, is_head: bool, is_now: bool
    ) -> None:
        """``is_now``: reading begins after the last message."""
        self._storage = storage
        self._stream = stream
        self._reader = reader
        self._is_head = is_head
        self._is_now = is_now
        self._task: asyncio.Task[None] | None = None
        # Whether the reader's position is that of the last message that was read
        self._has_read = False
        self.record: Record | None = None
        """None for a stream that nobody created."""

    @property
    def is_reading(self) -> bool:
        """Whether an answer of the store is awaited."""
        return self._task is not None

    @property
    def content(self) -> Content:
        """The content of the messages: JSON, unless the stream was created with another."""
        return Content.JSON if self.record is None else self.record.content

    def stop(self) -> None:
        """Ends reading; the reader is not called any more."""
        if self._task is not None:
            self._task.cancel()
            self._task = None

    def look_when(self, live: Awaitable[None], look: Callable[[], None]) -> None:
        """Calls ``look`` when the stream is live. :meth:`stop` ends waiting, too."""
        self._await(live, lambda _: look())

    def look(self) -> None:
        """Reads the record of the stream, if streams have one, and then its next messages."""
        records = self._storage.records
        if records is None:
            self._found_record(None)
        else:
            self._read(lambda: records.read(self._stream), self._found_record)

    def _found_record(self, stored: bytes | None) -> None:
        """A stream without a record exists if others publish to it; one that is gone does not."""
        try:
            self.record = record_of(stored)
        except BackendError as error:
            self._reader.failed(error)
            return
        if stored == b"":
            self._reader.found_missing()
            return
        if self.record is not None and not self._is_head:
            self._touch(self.record)
        if not self._has_read and (self._is_head or self._is_now):
            history = self._storage.history
            self._read(lambda: history.since(self._stream, 0, 1, newest=True), self._found_last)
        else:
            self.read_page()

    def _touch(self, record: Record) -> None:
        """Starts the TTL of the stream again."""
        storage = self._storage
        assert storage.records is not None, "the record is one of them"
        ttl_s = ttl_of(record, storage.clock(), storage.kept_s)
        touched = storage.records.touch(self._stream, ttl_s)
        if touched is not None:
            storage.background.run(_without_errors(touched))

    def _found_last(self, found: _Messages) -> None:
        start = None if self.record is None else self.record.start
        position = self._reader.position = end_of(found, start)
        if position is None and self._is_missing():
            self._reader.found_missing()
        elif self._is_head:
            self._reader.found_end()
        else:
            self._found_chunk((), position, is_up_to_date=True)

    def read_page(self) -> None:
        """Reads the messages after the reader's position."""
        stream, position, history = self._stream, self._reader.position, self._storage.history
        start = None if self.record is None else self.record.start

        # One more than a page, to learn whether there are more
        def read_all() -> None:
            self._read(lambda: history.since(stream, 0, PAGE + 1), self._found_page)

        if position is not None:
            self._read(lambda: history.after(stream, position, PAGE + 1), self._found_page)
        elif start is not None:
            # If messages after the start are lost, all messages that are left are after it.
            self._read(lambda: history.after(stream, start, PAGE + 1), self._found_page, read_all)
        else:
            read_all()

    def _found_page(self, found: _Messages) -> None:
        count = _page_length(found)
        page = found[:count]
        position = self._reader.position
        if not page and position is None and self._is_missing():
            self._reader.found_missing()
            return
        messages = [stored_json(each) for each in page]
        end = page[-1].position if page else position
        self._found_chunk(messages, end, is_up_to_date=count == len(found))

    def _found_chunk(
        self, messages: Sequence[bytes], end: Position | None, *, is_up_to_date: bool
    ) -> None:
        self._has_read = True
        is_closed = is_up_to_date and self.record is not None and self.record.is_closed
        self._reader.found_chunk(
            Chunk(self.content, messages, end, is_up_to_date=is_up_to_date, is_closed=is_closed)
        )

    def _is_missing(self) -> bool:
        """Whether a stream without messages does not exist, because nobody created it."""
        return self._storage.records is not None and self.record is None

    # Waiting for the store

    def _read(
        self,
        read: Callable[[], _T | Awaitable[_T]],
        found: Callable[[_T], None],
        lost: Callable[[], None] | None = None,
    ) -> None:
        """Calls ``found`` with what was read; ``lost`` if messages are not kept any more."""
        try:
            value = read()
        except (LostPosition, BackendError) as error:
            self._fail(error, lost)
            return
        if isinstance(value, Awaitable):
            self._await(value, found, lost)
        else:
            found(value)

    def _await(
        self,
        value: Awaitable[_T],
        found: Callable[[_T], None],
        lost: Callable[[], None] | None = None,
    ) -> None:
        self._task = asyncio.get_running_loop().create_task(self._awaited(value, found, lost))

    async def _awaited(
        self, value: Awaitable[_T], found: Callable[[_T], None], lost: Callable[[], None] | None
    ) -> None:
        try:
            read = await value
        except (LostPosition, BackendError) as error:
            self._task = None
            self._fail(error, lost)
            return
        self._task = None
        found(read)

    def _fail(self, error: LostPosition | BackendError, lost: Callable[[], None] | None) -> None:
        if lost is not None and isinstance(error, LostPosition):
            lost()
        else:
            self._reader.failed(error)


def _page_length(found: _Messages) -> int:
    """The number of messages that form the first page."""
    size = 0
    for count, each in enumerate(found[:PAGE]):
        size += len(each.data)
        if size > PAGE_BYTES and count:
            return count
    return min(len(found), PAGE)


async def _without_errors(work: Awaitable[None]) -> None:
    """Awaits work and ignores errors of the backend: a stream that is not touched only expires earlier."""
    with contextlib.suppress(BackendError):
        await work
