"""What is published, on its way out over one connection: in order, and never too much at once.

What is to be kept goes to JetStream, which publishes it when it is stored; the rest goes straight
to the nodes. So that the rest does not overtake, it waits for what was sent before it on its
stream; a remote command waits for everything. Where sessions are kept it is stored first, which numbers it.
Knows: what stands in line. Does not know: who listens, what happens while NATS is away.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final

from catenary.adapters.nats.connection import Connection, Shared
from catenary.adapters.nats.payload import pack
from catenary.adapters.nats.questions import Nobody
from catenary.adapters.nats.store import Store, read_ack
from catenary.adapters.nats.subjects import Subjects, token
from catenary.adapters.nats.wire import header
from catenary.adapters.packing import pack_command
from catenary.errors import BackendError, BackendRefused, TooLarge
from catenary.messages.names import Stream
from catenary.messages.publications import Publication, Publishable, QueueEntry, RemoteDisconnect
from catenary.metrics.counters import Counters

WINDOW: Final = 1_000
"""Publications that are being stored. JetStream refuses where 10,000 of all nodes wait for it."""

WINDOW_BYTES: Final = 16 * 1024 * 1024

WAITING_LIMIT: Final = 100_000
"""Publications that wait for the window; those beyond are refused, and counted."""

WAITING_LIMIT_BYTES: Final = 64 * 1024 * 1024


class _Batch:
    """What was sent with one call."""

    __slots__ = ("done", "left")

    def __init__(self, done: "asyncio.Future[None]", left: int) -> None:
        self.done = done
        self.left = left

    def one_less(self, error: BackendError | None = None) -> None:
        self.left -= 1
        if self.done.done():
            return
        if error is not None:
            self.done.set_exception(error)
        elif self.left == 0:
            self.done.set_result(None)


class _Item:
    """One of them; ``stream`` is None for a remote command. ``headers`` name the entry of a queue that
    it was read from, if it was."""

    __slots__ = ("batch", "headers", "is_kept", "payload", "publication", "stream")

    def __init__(
        self,
        batch: _Batch,
        publication: Publishable,
        payload: bytes,
        headers: bytes,
        *,
        is_kept: bool,
    ) -> None:
        self.batch = batch
        self.publication = publication
        self.stream = publication.stream if isinstance(publication, Publication) else None
        self.payload = payload
        self.headers = headers
        self.is_kept = is_kept


class _Lane:
    """A stream of which something is being stored, and what comes behind that."""

    __slots__ = ("storing", "waiting")

    def __init__(self) -> None:
        self.storing = 0
        self.waiting: deque[_Item] = deque()


class Outbox:
    """Over one connection. ``kept`` is the stream of the history, ``records`` that of sessions and remote
    disconnects, None where nothing is kept; ``suspect`` is called where nobody stores what is sent to it."""

    __slots__ = (
        "_connection",
        "_counters",
        "_epoch",
        "_lanes",
        "_loop",
        "_max_kept_bytes",
        "_records",
        "_subjects",
        "_suspect",
        "_under_way",
        "_under_way_bytes",
        "_waiting",
        "_waiting_bytes",
    )

    def __init__(
        self,
        connection: Connection,
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
        # In the window
        self._lanes: dict[Stream | None, _Lane] = {}
        self._under_way = 0
        self._under_way_bytes = 0
        # Before it
        self._waiting: deque[_Item] = deque()
        self._waiting_bytes = 0

    def send(
        self, publications: tuple[Publishable, ...], entry: QueueEntry | None = None
    ) -> Awaitable[None]:
        """Sends them behind all that was sent before; done when JetStream, or the server, has them.

        Sends none of them where one can't be sent, or not all find room to wait. What is kept of an
        ``entry`` of a queue carries its id: JetStream keeps it once. Raises :class:`BackendError`
        when awaited.
        """
        try:
            payloads = [self._packed(each) for each in publications]
            if self._under_way == 0 and not any(map(self._is_kept, publications)):
                return self._send_at_once(publications, payloads)
            self._check_room(payloads)
        except BackendError as error:
            failed: asyncio.Future[None] = self._loop.create_future()
            failed.set_exception(error)
            return Shared(failed)
        batch = _Batch(self._loop.create_future(), len(publications))
        for number, (each, payload) in enumerate(zip(publications, payloads, strict=True)):
            headers = b"" if entry is None else _message_id(entry, number)
            self._line_up(_Item(batch, each, payload, headers, is_kept=self._is_kept(each)))
        return Shared(batch.done)

    async def settle(self) -> None:
        """Waits until all that was sent has gone out."""
        while self._under_way or self._waiting:
            last = self._waiting[-1] if self._waiting else None
            done = self._connection.flushed() if last is None else Shared(last.batch.done)
            await done

    def _is_kept(self, publication: Publishable) -> bool:
        if not isinstance(publication, Publication):
            return self._records is not None
        return not publication.transient and self._epoch is not None

    def _packed(self, publication: Publishable) -> bytes:
        """What travels. Raises :class:`BackendError` where the server would not take it."""
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
        subjects = [
            self._subjects.passing(each.stream)
            if isinstance(each, Publication)
            else self._subjects.commands
            for each in publications
        ]
        for subject, payload in zip(subjects, payloads, strict=True):
            self._connection.publish(subject, payload)
        return self._connection.published(subjects)

    # In line

    def _check_room(self, payloads: list[bytes]) -> None:
        """Raises :class:`BackendError` where too much waits for JetStream already."""
        if self._waiting and (
            len(self._waiting) + len(payloads) > WAITING_LIMIT
            or self._waiting_bytes + sum(map(len, payloads)) > WAITING_LIMIT_BYTES
        ):
            self._counters.pubsub_refused_total += len(payloads)
            raise BackendError("too many publications wait for JetStream")

    def _line_up(self, item: _Item) -> None:
        if not self._waiting and self._has_room(item):
            self._begin(item)
        else:
            self._waiting.append(item)
            self._waiting_bytes += len(item.payload)

    def _has_room(self, item: _Item) -> bool:
        if item.stream is None:
            return self._under_way == 0
        return self._under_way < WINDOW and self._under_way_bytes < WINDOW_BYTES

    def _begin(self, item: _Item) -> None:
        self._under_way += 1
        self._under_way_bytes += len(item.payload)
        lane = self._lanes.get(item.stream)
        if lane is None:
            lane = self._lanes[item.stream] = _Lane()
        lane.waiting.append(item)
        self._advance(item.stream, lane)

    def _advance(self, stream: Stream | None, lane: _Lane) -> None:
        """Sends of a stream what may go: what is kept at once, others when all before is stored.

        So does what was read from a queue: where it is not stored, nothing behind it may be.
        """
        while lane.waiting:
            item = lane.waiting[0]
            if lane.storing and (item.headers or not item.is_kept):
                return
            lane.waiting.popleft()
            try:
                if item.is_kept:
                    lane.storing += 1
                    self._store(item, lane)
                else:
                    self._pass_on(item)
            except BackendError as error:
                lane.storing -= item.is_kept
                self._finish(item, error)
        if not lane.storing and self._lanes.get(stream) is lane:
            del self._lanes[stream]

    def _store(self, item: _Item, lane: _Lane) -> None:
        if isinstance(item.publication, Publication):
            assert self._epoch is not None
            subject = self._subjects.to_keep(self._epoch, item.publication.stream)
        else:
            subject = self._subjects.revocation(item.publication.identifiers)
        stored = partial(self._stored, item, lane)
        self._connection.question(subject, item.payload, item.headers, stored)

    def _pass_on(self, item: _Item) -> None:
        if item.stream is None:
            self._connection.publish(self._subjects.commands, item.payload)
        else:
            self._connection.publish(self._subjects.passing(item.stream), item.payload)
        self._finish(item)

    def _stored(
        self, item: _Item, lane: _Lane, headers: bytes, payload: bytes, error: BackendError | None
    ) -> None:
        sequence = 0
        if error is None:
            try:
                sequence = read_ack(payload).seq
            except BackendError as refused:
                error = refused
        elif isinstance(error, Nobody):
            self._suspect()
        if not isinstance(item.publication, Publication):
            error = self._publish_command(item.publication, sequence) or error
        lane.storing -= 1
        self._finish(item, error)
        if item.headers and error is not None and not isinstance(error, BackendRefused):
            self._fail_queued(error)
        self._advance(item.stream, lane)
        self._refill()

    def _fail_queued(self, error: BackendError) -> None:
        """What was read from a queue behind something that could not be stored fails with it: whoever
        reads the queue sends it all again, in order."""
        for lane in self._lanes.values():
            queued = [item for item in lane.waiting if item.headers]
            lane.waiting = deque(item for item in lane.waiting if not item.headers)
            for item in queued:
                self._finish(item, error)
        queued = [item for item in self._waiting if item.headers]
        self._waiting = deque(item for item in self._waiting if not item.headers)
        for item in queued:
            self._waiting_bytes -= len(item.payload)
            item.batch.one_less(error)

    def _publish_command(self, command: RemoteDisconnect, sequence: int) -> BackendError | None:
        """To all nodes; where it could not be stored, for those who are connected at least."""
        number = 0
        if sequence and self._records is not None:
            number = self._records.first_number + sequence
        try:
            self._connection.publish(self._subjects.commands, pack_command(command, number))
        except BackendError as error:
            return error
        return None

    def _finish(self, item: _Item, error: BackendError | None = None) -> None:
        self._under_way -= 1
        self._under_way_bytes -= len(item.payload)
        item.batch.one_less(error)

    def _refill(self) -> None:
        while self._waiting and self._has_room(self._waiting[0]):
            item = self._waiting.popleft()
            self._waiting_bytes -= len(item.payload)
            self._begin(item)


def _message_id(entry: QueueEntry, number: int) -> bytes:
    """By which JetStream knows a publication of an entry again ("Message Deduplication", docs.nats.io)."""
    return header("Nats-Msg-Id", f"{token(entry.queue)}:{entry.id}:{number}")
