"""Sends the events of this node to readers at any node of the cluster.

A reader leases the events of each node: it renews the lease every few seconds, so that a node whose reader has died stops by
itself. While there is no lease, no observer is attached, and events cost nothing.
Knows: leases, observers, the cluster. Does not know: how readers get the events.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Final

import msgspec

from catenary.api.trace_events import Listens, TraceFilter, TraceObserver
from catenary.errors import BackendError
from catenary.metrics.counters import Counters
from catenary.node.cluster import Cluster
from catenary.node.observers import ObserverGroup

FOLLOW: Final = "events.follow"
"""The question with a :class:`Lease`."""

END: Final = "events.end"
"""The message that ends a lease: a :class:`Lease`, too."""

EVENTS: Final = "events"
"""The message with :class:`Events`."""

LEASE_S: Final = 10.0
LEASES: Final = 100
"""Leases of one node. Each takes time for every event."""

QUEUED_EVENTS: Final = 1_000
QUEUED_BYTES: Final = 1_048_576
_FLUSH_S: Final = 0.05
_BATCH_BYTES: Final = 262_144


class Lease(msgspec.Struct, frozen=True, array_like=True):
    """The ``reader`` of a ``node`` wants the events that meet the filter."""

    node: str
    reader: int
    wanted: TraceFilter = TraceFilter()


class Events(msgspec.Struct, frozen=True, array_like=True):
    """Events for a reader, and how many were dropped before them."""

    reader: int
    dropped: int
    events: list[bytes]


pack: Final = msgspec.msgpack.Encoder().encode
read_lease: Final = msgspec.msgpack.Decoder(Lease).decode
read_events: Final = msgspec.msgpack.Decoder(Events).decode


class EventQueue:
    """Events that wait for a reader: when there are too many, the oldest are dropped, and counted."""

    __slots__ = ("_counters", "_events", "_size", "dropped")

    def __init__(self, counters: Counters) -> None:
        self._counters = counters
        self._events: deque[bytes] = deque()
        self._size = 0
        self.dropped = 0
        """Events dropped since the last :meth:`take`, here or before."""

    def __len__(self) -> int:
        return len(self._events)

    def add(self, event: bytes) -> None:
        """Adds an event."""
        self._events.append(event)
        self._size += len(event)
        while len(self._events) > QUEUED_EVENTS or self._size > QUEUED_BYTES:
            self._size -= len(self._events.popleft())
            self.dropped += 1
            self._counters.live_events_dropped_total += 1

    def take(self, limit_bytes: int = QUEUED_BYTES) -> tuple[int, list[bytes]]:
        """Removes and returns events of about ``limit_bytes``, and the number of events that were dropped before them."""
        taken: list[bytes] = []
        while self._events and limit_bytes > 0:
            event = self._events.popleft()
            limit_bytes -= len(event)
            self._size -= len(event)
            taken.append(event)
        dropped, self.dropped = self.dropped, 0
        return dropped, taken


class TraceSources:
    """The leases of this node's events."""

    __slots__ = ("_cluster", "_counters", "_leased", "_listens", "_observers")

    def __init__(
        self, cluster: Cluster, observers: ObserverGroup, counters: Counters, listens: Listens
    ) -> None:
        self._cluster = cluster
        self._observers = observers
        self._counters = counters
        self._listens = listens
        self._leased: dict[tuple[str, int], _Leased] = {}
        cluster.answer(FOLLOW, self._follow)
        cluster.receive(END, self._end)

    @property
    def leases_num(self) -> int:
        """Number of leases, at most :data:`LEASES`."""
        return len(self._leased)

    def _follow(self, question: bytes) -> bytes:
        """Begins or renews a lease."""
        try:
            lease = read_lease(question)
        except msgspec.DecodeError as error:
            raise BackendError(f"the question was not understood: {error}") from error
        key = (lease.node, lease.reader)
        leased = self._leased.get(key)
        if leased is None:
            if len(self._leased) >= LEASES:
                raise BackendError(f"the node sends its events to {LEASES} readers already")
            leased = _Leased(lease, self._cluster, self._counters)
            leased.observer = TraceObserver(
                self._cluster.own.id,
                self._cluster.own.worker,
                lease.wanted,
                self._listens,
                leased.emit,
            )
            self._leased[key] = leased
            self._observers.attach(leased.observer)
        leased.renew(lambda: self._drop(key))
        return b""

    def _end(self, node: str, message: bytes) -> None:
        try:
            self._drop((node, read_lease(message).reader))
        except msgspec.DecodeError:
            return  # sent by a later version; the lease expires

    def _drop(self, key: tuple[str, int]) -> None:
        leased = self._leased.pop(key, None)
        if leased is not None:
            leased.end()
            if leased.observer is not None:
                self._observers.detach(leased.observer)


class _Leased:
    """One lease: collects events, and sends them in batches."""

    __slots__ = ("_cluster", "_expiry", "_flush", "_lease", "_loop", "_queue", "observer")

    def __init__(self, lease: Lease, cluster: Cluster, counters: Counters) -> None:
        self._lease = lease
        self._cluster = cluster
        self._queue = EventQueue(counters)
        self._loop = asyncio.get_running_loop()
        self._expiry: asyncio.TimerHandle | None = None
        self._flush: asyncio.TimerHandle | None = None
        self.observer: TraceObserver | None = None

    def renew(self, expired: Callable[[], None]) -> None:
        if self._expiry is not None:
            self._expiry.cancel()
        self._expiry = self._loop.call_later(LEASE_S, expired)

    def end(self) -> None:
        for timer in (self._expiry, self._flush):
            if timer is not None:
                timer.cancel()

    def emit(self, event: bytes) -> None:
        self._queue.add(event)
        if self._flush is None:
            self._flush = self._loop.call_later(_FLUSH_S, self._send)

    def _send(self) -> None:
        self._flush = None
        while self._queue:
            dropped, events = self._queue.take(_BATCH_BYTES)
            message = pack(Events(self._lease.reader, dropped, events))
            self._cluster.send(self._lease.node, EVENTS, message)
