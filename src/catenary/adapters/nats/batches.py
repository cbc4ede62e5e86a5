"""Publications on their way out: batches of calls, the items of each, and the lanes that keep their order.

Knows: publications, payloads, futures. Does not know: connections, when an item is sent.
"""

import asyncio
from collections import deque

from catenary.adapters.nats.subjects import token
from catenary.adapters.nats.wire import header
from catenary.adapters.pacing import BUDGET_BYTES, ITEM_BYTES
from catenary.errors import BackendError
from catenary.messages.publications import Publication, Publishable, QueueEntry


class QueueReads:
    """Entries of queues that were sent side by side. Once one has failed, ``error`` fails those after it: the reader
    of the queue sends all of them again, in order."""

    __slots__ = ("error",)

    def __init__(self) -> None:
        self.error: BackendError | None = None


class Batch:
    """The publications of one call. ``items`` are those that are not under way yet; None while they are prepared."""

    __slots__ = ("done", "items", "left", "queue_reads")

    def __init__(
        self, done: "asyncio.Future[None]", left: int, queue_reads: QueueReads | None
    ) -> None:
        self.done = done
        self.left = left
        self.queue_reads = queue_reads
        self.items: deque[Item] | None = None

    def fail(self, error: BaseException) -> None:
        """Nothing more of it is sent."""
        self.items = deque()
        if not self.done.done():
            self.done.set_exception(error)

    def finish_one(self, error: BackendError | None) -> None:
        """One of its publications was sent, or has failed."""
        self.left -= 1
        if self.done.done():
            return
        if error is not None:
            self.done.set_exception(error)
        elif self.left == 0:
            self.done.set_result(None)


class Item:
    """One publication; ``stream`` is None for a remote disconnect. ``headers`` carry the id of the queue entry that it
    was read from, if any."""

    __slots__ = ("batch", "headers", "is_kept", "payload", "publication", "stream")

    def __init__(
        self,
        batch: Batch,
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


class Lane:
    """A stream with publications that are being stored, and those that wait for that."""

    __slots__ = ("storing", "waiting")

    def __init__(self) -> None:
        self.storing = 0
        self.waiting: deque[Item] = deque()


def is_large(publications: tuple[Publishable, ...]) -> bool:
    """Is it more than one share of a turn of the event loop?"""
    number = len(publications)
    if number == 1:
        return False
    if number * ITEM_BYTES > BUDGET_BYTES:
        return True
    return sum(map(text_size, publications)) > BUDGET_BYTES


def text_size(publication: Publishable) -> int:
    """The size of the text, in characters."""
    return len(publication.data) if isinstance(publication, Publication) else 0


def payload_size(item: Item) -> int:
    """The size of the payload, in bytes."""
    return len(item.payload)


def message_id(entry: QueueEntry, number: int) -> bytes:
    """The id by which JetStream recognizes a publication of an entry ("Message Deduplication", docs.nats.io)."""
    return header("Nats-Msg-Id", f"{token(entry.queue)}:{entry.id}:{number}")
