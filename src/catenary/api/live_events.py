"""``GET /events``: what happens to clients and publications on all nodes, as an event stream.

Each event is a message with a JSON object (:class:`catenary.api.trace_events.TraceEvent`), and these:

    following   how many ``nodes`` send their events; the first event
    unanswered  the ``node`` does not send its events, for this ``reason``
    dropped     ``total`` events were dropped, because the reader or the connection between nodes was too slow

Source: https://html.spec.whatwg.org/multipage/server-sent-events.html
Knows: readers, event streams. Does not know: what is an event.
"""

import asyncio
import contextlib
from typing import Annotated, Final

import msgspec
from msgspec import Meta
from starlette.types import ASGIApp, Receive, Scope, Send

from catenary.api.access import Access, ApiResponse, send_answer
from catenary.api.rest import QueryError, read_query
from catenary.api.trace_events import EVENTS as EVENT_NAMES
from catenary.api.trace_events import TraceEvent, TraceFilter, encode, now
from catenary.api.trace_sources import (
    END,
    EVENTS,
    FOLLOW,
    LEASE_S,
    EventQueue,
    Lease,
    pack,
    read_events,
)
from catenary.metrics.counters import Counters
from catenary.node.cluster import Cluster
from catenary.wire.http1 import header_text

READERS: Final = 20
"""Readers of one node; more get 503. Each makes every node of the cluster report its events."""

HEARTBEAT_S: Final = 10.0
"""After this time without an event, a comment is sent, so that proxies keep the connection."""

_RENEW_S: Final = LEASE_S / 3
_HEADERS: Final = (
    ("content-type", "text/event-stream"),
    ("cache-control", "no-store"),
    ("x-accel-buffering", "no"),
)


class EventsQuery(TraceFilter, frozen=True, forbid_unknown_fields=True):
    """The events that a reader wants."""

    node: Annotated[str, Meta(description="id or name of a node")] = ""


class LiveEvents:
    """The readers at this node."""

    __slots__ = ("_cluster", "_counters", "_number", "_readers")

    def __init__(self, cluster: Cluster, counters: Counters) -> None:
        self._cluster = cluster
        self._counters = counters
        self._number = 0
        self._readers: dict[int, _Reader] = {}
        cluster.receive(EVENTS, self._take)

    @property
    def readers_num(self) -> int:
        """Number of readers, at most :data:`READERS`."""
        return len(self._readers)

    def endpoint(self, access: Access) -> ASGIApp:
        """The ASGI application for one path, whose readers need this access."""

        async def serve(scope: Scope, receive: Receive, send: Send) -> None:
            headers = {name: header_text(value) for name, value in scope["headers"]}
            cors = access.cors(headers.get(b"origin", ""))
            answer = access.authorize(headers.get(b"authorization", ""))
            query = EventsQuery()
            if answer is None:
                try:
                    query = read_query(EventsQuery, scope["query_string"])
                    _check(query)
                except QueryError as error:
                    answer = ApiResponse(422, str(error))
            if answer is None and len(self._readers) >= READERS:
                self._counters.live_events_refused_total += 1
                answer = ApiResponse(503, f"{READERS} readers follow the events already: end one")
            if answer is not None:
                await send_answer(send, answer, cors)
                return
            await self._serve(query, receive, send, cors)

        return serve

    async def close(self, timeout_s: float) -> None:
        """Ends all readers: the server shuts down."""
        for reader in self._readers.values():
            reader.end()

    async def _serve(
        self,
        query: EventsQuery,
        receive: Receive,
        send: Send,
        cors: tuple[tuple[str, str], ...],
    ) -> None:
        self._number += 1
        reader = _Reader(EventQueue(self._counters))
        lease = Lease(
            self._cluster.own.id,
            self._number,
            TraceFilter(query.sid, query.stream, query.identifiers, query.address, query.event),
        )
        self._readers[lease.reader] = reader
        tasks = [
            asyncio.ensure_future(self._renew(lease, query.node, reader)),
            asyncio.ensure_future(_until_gone(receive, reader)),
        ]
        try:
            await _start(send, cors)
            await reader.write_to(send)
        except OSError:
            pass  # the reader has left
        finally:
            del self._readers[lease.reader]
            for task in tasks:
                task.cancel()
            for node in self._cluster.nodes():
                self._cluster.send(node.id, END, pack(lease))

    async def _renew(self, lease: Lease, node: str, reader: "_Reader") -> None:
        """Leases the events of each node, also of those that appear later, until it is cancelled."""
        silent: set[str] = set()
        following = 0
        while True:
            nodes = [each.id for each in self._cluster.nodes() if node in ("", each.id, each.name)]
            answers = await self._cluster.ask(FOLLOW, pack(lease), nodes)
            for each in answers:
                if each.error and each.node not in silent:
                    reader.add(
                        encode(TraceEvent(now(), each.node, "unanswered", reason=each.error))
                    )
            silent = {each.node for each in answers if each.error}
            if following != (following := len(answers) - len(silent)):
                own = self._cluster.own.id
                reader.add(encode(TraceEvent(now(), own, "following", total=following)))
            await asyncio.sleep(_RENEW_S)

    def _take(self, node: str, message: bytes) -> None:
        try:
            found = read_events(message)
        except msgspec.DecodeError:
            return  # of a later version
        reader = self._readers.get(found.reader)
        if reader is not None:
            reader.take(found.dropped, found.events)


class _Reader:
    """One reader: its queue, and what wakes it."""

    __slots__ = ("_has_ended", "_queue", "_woken")

    def __init__(self, queue: EventQueue) -> None:
        self._queue = queue
        self._woken = asyncio.Event()
        self._has_ended = False

    def add(self, event: bytes) -> None:
        self._queue.add(event)
        self._woken.set()

    def take(self, dropped: int, events: list[bytes]) -> None:
        self._queue.dropped += dropped
        for event in events:
            self._queue.add(event)
        self._woken.set()

    def end(self) -> None:
        self._has_ended = True
        self._woken.set()

    async def write_to(self, send: Send) -> None:
        """Sends events until the reader or the server ends. A slow reader makes ``send`` wait, and the queue drop."""
        while not self._has_ended:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(HEARTBEAT_S):
                    await self._woken.wait()
            self._woken.clear()
            dropped, events = self._queue.take()
            if dropped:
                events.insert(0, encode(TraceEvent(now(), "", "dropped", total=dropped)))
            body = b"".join(b"data: %b\n\n" % event for event in events) or b":\n\n"
            await send({"type": "http.response.body", "body": body, "more_body": True})
        await send({"type": "http.response.body", "body": b""})


async def _start(send: Send, cors: tuple[tuple[str, str], ...]) -> None:
    headers = [(name.encode(), value.encode()) for name, value in (*_HEADERS, *cors)]
    await send({"type": "http.response.start", "status": 200, "headers": headers})


async def _until_gone(receive: Receive, reader: _Reader) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    reader.end()


def _check(query: EventsQuery) -> None:
    """Raises QueryError for an event that does not exist: its reader would wait for ever."""
    for name in filter(None, query.event.split(",")):
        if name not in EVENT_NAMES:
            raise QueryError(
                f"event: unknown {name[:40]!r}, expected some of {', '.join(EVENT_NAMES)}"
            )
