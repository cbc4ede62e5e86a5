"""The deliveries of publications to audiences, in turns of the event loop.

A limited number of clients is served in each turn, so that a delivery never blocks the loop for long. Messages that are
published on the same stream meanwhile wait, in order, and are then sent in one write per client.
Knows: audiences, frames, turns. Does not know: which streams exist, publishers.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterator
from itertools import islice
from time import perf_counter
from typing import Final

from catenary.messages.names import Stream
from catenary.messages.publications import Publication
from catenary.metrics.counters import Counters
from catenary.node.audience import Audience
from catenary.node.observers import ObserverGroup
from catenary.node.session_table import SessionTable
from catenary.node.slow_consumers import SlowConsumers
from catenary.node.traced import begin_deliveries, end_deliveries
from catenary.node.turns import Turns
from catenary.ports import Outbound
from catenary.tracer import Tracer

WRITE_BYTES: Final = 8192
"""Bytes of a frame that cost as much as another client: fewer clients are served per turn if frames are large."""

WAITING_LIMIT: Final = 256
"""Publications that may wait for delivery; with more, publishers have to wait."""


class DeliveryQueue:
    """The audiences with waiting publications, in the order in which they are served.

    ``waiting_num`` is the number of publications that wait, at most :data:`WAITING_LIMIT` if publishers heed
    :meth:`caught_up`. ``when_empty`` is called with a stream whose last listener left during a delivery.
    """

    __slots__ = (
        "_counters",
        "_due",
        "_held_publishers",
        "_is_in_line",
        "_note_clients",
        "_note_seconds",
        "_observers",
        "_sessions",
        "_slow_consumers",
        "_tracer",
        "_turns",
        "_when_empty",
        "waiting_num",
    )

    def __init__(
        self,
        turns: Turns,
        sessions: SessionTable,
        slow_consumers: SlowConsumers,
        observers: ObserverGroup,
        counters: Counters,
        *,
        tracer: Tracer | None,
        when_empty: Callable[[Stream], None],
    ) -> None:
        self._turns = turns
        self._sessions = sessions
        self._slow_consumers = slow_consumers
        self._observers = observers
        self._counters = counters
        self._note_seconds = counters.delivery_seconds.observe
        self._note_clients = counters.delivery_clients.observe
        self._tracer = tracer
        self._when_empty = when_empty
        self.waiting_num = 0
        # Deliveries under way
        self._due: deque[tuple[Audience, Iterator[None]]] = deque()
        self._is_in_line = False
        self._held_publishers: list[asyncio.Future[None]] = []

    def add(self, audience: Audience, publication: Publication) -> None:
        """Delivers a publication to the groups of an audience, after those that wait. One that excludes a session is a batch
        of its own."""
        waiting = audience.waiting
        if (
            not waiting
            or publication.exclude_socket is not None
            or waiting[-1].exclude_socket is not None
        ):
            audience.arrivals.append(perf_counter())
        waiting.append(publication)
        self.waiting_num += 1
        if not audience.is_due:
            audience.is_due = True
            self._due.append((audience, self._slices(audience)))
            self._serve()

    def caught_up(self) -> Awaitable[None] | None:
        """For publishers: None while deliveries keep up; else to be awaited before the next publication."""
        if self.waiting_num < WAITING_LIMIT:
            return None
        self._counters.held_publishers_total += 1
        held = asyncio.get_running_loop().create_future()
        self._held_publishers.append(held)
        return held

    def _serve(self) -> None:
        """Delivers as much as this turn of the event loop has room for; the rest follows in later turns."""
        turns = self._turns
        try:
            while self._due and turns.room > 0:
                audience, slices = self._due[0]
                for _ in slices:
                    break
                else:
                    self._due.popleft()
                    audience.detach_pending(self._counters)
                    if audience.waiting:
                        # After the others: a busy stream must not delay quiet ones.
                        self._due.append((audience, self._slices(audience)))
                    else:
                        audience.is_due = False
                        audience.reattach_all()
                        if audience.size == 0:
                            # Not earlier: a listener that joined meanwhile had to receive messages in order.
                            self._when_empty(audience.stream)
        finally:
            # Even after an exception, the other audiences are served and held publishers are released.
            if self._due and not self._is_in_line:
                self._is_in_line = True
                turns.wait(self._serve_on)

    def _serve_on(self) -> None:
        """Continues in a later turn."""
        self._is_in_line = False
        try:
            self._serve()
        finally:
            self._release_publishers()

    def _release_publishers(self) -> None:
        """Lets held publishers continue if deliveries have caught up."""
        if self._held_publishers and self.waiting_num < WAITING_LIMIT:
            held, self._held_publishers = self._held_publishers, []
            for each in held:
                if not each.done():
                    each.set_result(None)

    def _slices(self, audience: Audience) -> Iterator[None]:
        """Delivers the waiting publications of an audience; yields when the turn has no more room."""
        turns = self._turns
        batch, arrived_at = _take(audience)
        excluded = self._excluded(batch[0])
        self.waiting_num -= len(batch)
        spans = None if self._tracer is None else begin_deliveries(self._tracer, batch)
        clients = 0
        for frame, row, listeners in audience.frames(batch):
            members = row
            if excluded is not None and excluded in row:
                members = [each for each in row if each is not excluded]
            if audience.rule is not None and members:
                members = self._slow_consumers.keeping_up(audience, listeners, members, batch)
            left = len(members)
            clients += left
            if self._observers.delivered is not None:
                self._observers.delivered(audience.stream, len(batch), left)
            self._counters.server_msg_total += left * len(batch)
            self._counters.data_sent_total += left * len(frame)
            turns.spend(len(batch))  # encoding a message takes about as long as a write
            rest = iter(members)
            cost = 1 + len(frame) // WRITE_BYTES
            while left > 0:
                if turns.room <= 0:
                    yield
                part = min(left, -(-turns.room // cost))
                # The methods are looked up together, and without a copy of the list: the objects of
                # different clients are far apart in memory, and each access is a cache miss.
                for write in [each.write for each in islice(rest, part)]:
                    write(frame)
                left -= part
                turns.spend(part * cost)
        if audience.rule is not None:
            audience.last = batch[-1].position or audience.last
        if len(batch) == 1:
            self._note_seconds(perf_counter() - arrived_at)
            self._note_clients(clients)
        else:
            counters = self._counters
            counters.delivery_seconds.observe_equal(perf_counter() - arrived_at, len(batch))
            counters.delivery_clients.observe_equal(clients, len(batch))
        if spans:
            end_deliveries(spans, clients)

    def _excluded(self, publication: Publication) -> Outbound | None:
        """The outbound of the session that a publication excludes, if it is one of this node."""
        if publication.exclude_socket is None:
            return None
        session = self._sessions.find(publication.exclude_socket)
        return None if session is None else session.outbound


def _take(audience: Audience) -> tuple[list[Publication], float]:
    """Takes the publications for one write: all that wait, up to one that excludes a session; and when the first of
    them arrived."""
    waiting = audience.waiting
    batch = [waiting.popleft()]
    if batch[0].exclude_socket is None:
        while waiting and waiting[0].exclude_socket is None:
            batch.append(waiting.popleft())
    return batch, audience.arrivals.pop(0)
