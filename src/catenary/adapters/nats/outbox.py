"""Publications on their way out over one connection: in order, and a limited number at a time.

JetStream stores what the history keeps, and republishes each message when it is stored; everything else goes straight
to the nodes. To keep the order of a stream, that waits until everything sent before it on the stream is stored; a
remote disconnect waits for everything. Where sessions are kept, JetStream stores it first, which gives it a number.
Large batches are prepared, and sent, in several turns of the event loop.
Knows: what waits, what is under way. Does not know: subscribers, reconnecting.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final

from catenary.adapters.nats.batches import (
    Batch,
    Item,
    Lane,
    QueueReads,
    is_large,
    message_id,
    payload_size,
    text_size,
)
from catenary.adapters.nats.connection import NatsConnection
from catenary.adapters.nats.flushes import Flush, Shared, refusal
from catenary.adapters.nats.jetstream import read_ack
from catenary.adapters.nats.payload import pack
from catenary.adapters.nats.pending_requests import NoResponders
from catenary.adapters.nats.store import Store
from catenary.adapters.nats.subjects import Subjects
from catenary.adapters.pacing import BUDGET_BYTES, ITEM_BYTES, paced
from catenary.adapters.packing import pack_command
from catenary.errors import BackendError, BackendRefused, TooLarge
from catenary.messages.names import Stream
from catenary.messages.publications import Publication, Publishable, QueueEntry, RemoteDisconnect
from catenary.metrics.counters import Counters

WINDOW: Final = 1_000
"""Publications under way. JetStream refuses more where 10,000 of all nodes wait for it."""

WINDOW_BYTES: Final = 16 * 1024 * 1024

WAITING_LIMIT: Final = 100_000
"""Publications that wait for the window; more are refused, and counted."""

WAITING_LIMIT_BYTES: Final = 64 * 1024 * 1024


class Outbox:
    """Sends over one connection. ``kept`` is the JetStream stream of the history, ``records`` that of sessions and
    remote disconnects; None where nothing is kept. ``suspect`` is called where no JetStream stream takes a message."""

    __slots__ = (
        "_connection",
        "_counters",
        "_epoch",
        "_flushed",
        "_is_due",
        "_lanes",
        "_line",
        "_line_bytes",
        "_line_num",
        "_loop",
        "_max_kept_bytes",
        "_passed",
        "_preparing",
        "_queue_reads",
        "_records",
        "_subjects",
        "_suspect",
        "_tasks",
        "_under_way",
        "_under_way_bytes",
    )

    def __init__(
        self,
        connection: NatsConnection,
        subjects: Subjects,
        counters: Counters,
        suspect: Callable[[], None],
        *,
        kept: Store | None,
        records: Store | None,
    ) -> None:
        self._connection = connection
        self._subjects = subjects
        self._counters = counters
        self._suspect = suspect
        self._records = records
        self._epoch = None if kept is None else kept.epoch
        self._max_kept_bytes = 0 if kept is None else kept.max_message_bytes
        self._loop = asyncio.get_running_loop()
        self._queue_reads = QueueReads()
        # Batches with publications that are not under way, and how many these are; large batches are prepared one
        # after the other
        self._line: deque[Batch] = deque()
        self._line_num = 0
        self._line_bytes = 0
        self._is_due = False
        self._preparing = asyncio.Lock()
        self._tasks: set[asyncio.Task[tuple[deque[Item], int]]] = set()
        # Under way
        self._lanes: dict[Stream | None, Lane] = {}
        self._under_way = 0
        self._under_way_bytes = 0
        # Sent straight to the nodes in this turn of the loop, with their subjects
        self._passed: list[tuple[Item, str]] = []
        self._flushed: Flush | None = None

    @property
    def waiting_num(self) -> int:
        """Number of publications that wait for the window, at most :data:`WAITING_LIMIT`."""
        return self._line_num

    def send(
        self, publications: tuple[Publishable, ...], entry: QueueEntry | None = None
    ) -> Awaitable[None]:
        """Sends publications after everything that was sent before; done when JetStream, or the server, has them.

        Sends none of them where one can't be sent, or where they exceed what may wait. Kept publications of a queue's
        ``entry`` carry its id: JetStream keeps them once. Raises :class:`BackendError` when awaited.
        """
        try:
            if is_large(publications):
                return self._send_large(publications, entry)
            payloads = [self._packed(each) for each in publications]
            if (
                self._under_way == 0
                and not self._line
                and not any(map(self._is_kept, publications))
            ):
                return self._send_at_once(publications, payloads)
            self._check_room(self._line_num, len(payloads), sum(map(len, payloads)))
        except BackendError as error:
            failed: asyncio.Future[None] = self._loop.create_future()
            failed.set_exception(error)
            return Shared(failed)
        batch = self._batch(len(publications), entry)
        batch.items = deque(
            self._item(batch, each, payload, entry, number)
            for number, (each, payload) in enumerate(zip(publications, payloads, strict=True))
        )
        if not self._line:
            while batch.items and self._has_room(batch.items[0]):
                self._begin(batch.items.popleft())
        if batch.items:
            self._line_up(batch, batch.items)
        return Shared(batch.done)

    async def settle(self) -> None:
        """Waits until everything that was sent has gone out. Raises :class:`BackendError` where the connection ends
        before that."""
        while self._under_way or self._line:
            if self._line:
                await asyncio.wait([self._line[-1].done])
            await self._connection.flushed()

    def _is_kept(self, publication: Publishable) -> bool:
        if not isinstance(publication, Publication):
            return self._records is not None
        return not publication.transient and self._epoch is not None

    def _packed(self, publication: Publishable) -> bytes:
        """The payload. Raises :class:`BackendError` where the server would not take it."""
        try:
            if isinstance(publication, Publication):
                payload = pack(publication)
            else:
                payload = pack_command(publication)
        except ValueError as error:
            raise BackendRefused(f"a publication can't be sent: {error}") from error
        self._connection.check(payload)
        if self._max_kept_bytes < len(payload) and self._is_kept(publication):
            raise TooLarge(
                f"expected at most {self._max_kept_bytes} bytes, got {len(payload)} "
                "(max_msg_size of the JetStream stream)"
            )
        return payload

    def _send_at_once(
        self, publications: tuple[Publishable, ...], payloads: list[bytes]
    ) -> Awaitable[None]:
        """Where nothing has to be waited for."""
        subjects = list(map(self._subject, publications))
        for subject, payload in zip(subjects, payloads, strict=True):
            self._connection.publish(subject, payload)
        return self._connection.published(subjects)

    def _subject(self, publication: Publishable) -> str:
        """The subject on which the nodes receive what is not kept."""
        if isinstance(publication, Publication):
            return self._subjects.passing(publication.stream)
        return self._subjects.commands

    # Large batches

    def _send_large(
        self, publications: tuple[Publishable, ...], entry: QueueEntry | None
    ) -> Awaitable[None]:
        """Takes a place in the line at once, and prepares the batch in several turns of the loop."""
        self._check_room(self._line_num, len(publications), 0)
        batch = self._batch(len(publications), entry)
        self._line.append(batch)
        self._line_num += len(publications)
        task = self._loop.create_task(self._prepare(batch, publications, entry))
        self._tasks.add(task)
        task.add_done_callback(partial(self._prepared, batch))
        return Shared(batch.done)

    async def _prepare(
        self, batch: Batch, publications: tuple[Publishable, ...], entry: QueueEntry | None
    ) -> "tuple[deque[Item], int]":
        """Returns the items, and the size of their payloads."""
        items: deque[Item] = deque()
        size = 0
        async with self._preparing:
            async for each in paced(publications, text_size):
                payload = self._packed(each)
                items.append(self._item(batch, each, payload, entry, len(items)))
                size += len(payload)
        return items, size

    def _prepared(self, batch: Batch, task: "asyncio.Task[tuple[deque[Item], int]]") -> None:
        self._tasks.discard(task)
        self._line_num -= batch.left
        try:
            items, size = task.result()
            self._check_room(self._line_num, batch.left, size)
        except asyncio.CancelledError:
            batch.fail(BackendError("NATS: publishing was cancelled"))
        except Exception as error:  # noqa: BLE001  (for the publisher; what waits after it is sent)
            batch.fail(error)
        else:
            batch.items = items
            self._line_num += batch.left
            self._line_bytes += size
        self._advance_line()

    # The line

    def _batch(self, size: int, entry: QueueEntry | None) -> Batch:
        return Batch(self._loop.create_future(), size, None if entry is None else self._queue_reads)

    def _item(
        self,
        batch: Batch,
        publication: Publishable,
        payload: bytes,
        entry: QueueEntry | None,
        number: int,
    ) -> Item:
        headers = b"" if entry is None else message_id(entry, number)
        return Item(batch, publication, payload, headers, is_kept=self._is_kept(publication))

    def _check_room(self, others: int, number: int, size: int) -> None:
        """Raises :class:`BackendError` where too much would wait. However large a batch is, it may wait alone."""
        if others and (
            others + number > WAITING_LIMIT or self._line_bytes + size > WAITING_LIMIT_BYTES
        ):
            self._counters.pubsub_refused_total += number
            raise BackendError("too many publications wait for JetStream")

    def _line_up(self, batch: Batch, items: "deque[Item]") -> None:
        self._line.append(batch)
        self._line_num += len(items)
        self._line_bytes += sum(map(payload_size, items))

    def _advance_line(self) -> None:
        """Begins to send what waits and has room in the window: a share of it in each turn of the loop."""
        budget = BUDGET_BYTES
        while (item := self._next()) is not None:
            self._begin(item)
            budget -= ITEM_BYTES + len(item.payload)
            if budget <= 0:
                self._advance_line_soon()
                return

    def _advance_line_soon(self) -> None:
        if self._line and not self._is_due:
            self._is_due = True
            self._loop.call_soon(self._advance_line_now)

    def _advance_line_now(self) -> None:
        self._is_due = False
        self._advance_line()

    def _next(self) -> Item | None:
        """Takes the first item from the line. None: there is none, it is being prepared, or has no room."""
        while self._line:
            items = self._line[0].items
            if items is None:
                return None
            if items:
                if not self._has_room(items[0]):
                    return None
                item = items.popleft()
                self._line_num -= 1
                self._line_bytes -= len(item.payload)
                if not items:
                    self._line.popleft()
                return item
            self._line.popleft()
        return None

    def _has_room(self, item: Item) -> bool:
        if item.stream is None:
            return self._under_way == 0
        return self._under_way < WINDOW and self._under_way_bytes < WINDOW_BYTES

    # Under way

    def _begin(self, item: Item) -> None:
        self._under_way += 1
        self._under_way_bytes += len(item.payload)
        lane = self._lanes.get(item.stream)
        if lane is None:
            lane = self._lanes[item.stream] = Lane()
        lane.waiting.append(item)
        self._advance(item.stream, lane)

    def _advance(self, stream: Stream | None, lane: Lane) -> None:
        """Sends what may go on a stream: what is kept at once, everything else once all before it is stored.

        What was read from a queue waits, too: where something is not stored, nothing after it may be.
        """
        while lane.waiting:
            item = lane.waiting[0]
            if lane.storing and (item.headers or not item.is_kept):
                return
            lane.waiting.popleft()
            reads = item.batch.queue_reads
            if reads is not None and reads.error is not None:
                self._finish(item, reads.error)
                continue
            try:
                if item.is_kept:
                    self._store(item, lane)
                else:
                    self._pass_on(item)
            except BackendError as error:
                self._finish(item, error)
        if not lane.storing and self._lanes.get(stream) is lane:
            del self._lanes[stream]

    def _store(self, item: Item, lane: Lane) -> None:
        if isinstance(item.publication, Publication):
            assert self._epoch is not None
            subject = self._subjects.to_keep(self._epoch, item.publication.stream)
        else:
            subject = self._subjects.revocation(item.publication.identifiers)
        stored = partial(self._stored, item, lane)
        self._connection.send_request(subject, item.payload, item.headers, stored)
        lane.storing += 1

    def _stored(
        self, item: Item, lane: Lane, headers: bytes, payload: bytes, error: BackendError | None
    ) -> None:
        sequence = 0
        if error is None:
            try:
                sequence = read_ack(payload).seq
            except BackendError as refused:
                error = refused
        elif isinstance(error, NoResponders):
            self._suspect()
        if not isinstance(item.publication, Publication):
            error = self._publish_command(item.publication, sequence) or error
        lane.storing -= 1
        self._finish(item, error)
        reads = item.batch.queue_reads
        if reads is not None and error is not None and not isinstance(error, BackendRefused):
            reads.error = error
            if self._queue_reads is reads:
                self._queue_reads = QueueReads()
        self._advance(item.stream, lane)
        self._advance_line_soon()

    def _publish_command(self, command: RemoteDisconnect, sequence: int) -> BackendError | None:
        """Sends a remote disconnect to all nodes; if it could not be stored, it ends the connected sessions at least."""
        number = 0
        if sequence and self._records is not None:
            number = self._records.first_number + sequence
        try:
            self._connection.publish(self._subjects.commands, pack_command(command, number))
        except BackendError as error:
            return error
        return None

    def _pass_on(self, item: Item) -> None:
        """Sends what is not kept to the nodes; it is done when the server has it."""
        subject = self._subject(item.publication)
        self._connection.publish(subject, item.payload)
        flushed = self._connection.flushing()
        if flushed is not self._flushed:
            self._flushed, self._passed = flushed, []
            flushed.add_done_callback(partial(self._received, self._passed))
        self._passed.append((item, subject))

    def _received(self, passed: list[tuple[Item, str]], flushed: Flush) -> None:
        """The server has received what was passed on in one turn, or the connection has ended."""
        for item, subject in passed:
            self._finish(item, refusal(flushed, subject))
        self._advance_line_soon()

    def _finish(self, item: Item, error: BackendError | None = None) -> None:
        self._under_way -= 1
        self._under_way_bytes -= len(item.payload)
        item.batch.finish_one(error)
