"""A read of a durable stream: what is stored, and in a live mode what follows, as one response or as an event stream.

The messages come from the history (``transports/durable_stream_pages.py``), page by page as the client reads them, and
then from the tail of the stream (``transports/stream_tails.py``), where the reader waits without a task or a timer of its own. The client is admitted
by the node as any other, unless ``skip_auth`` is set: then only the name of the stream is authorized.
Source: PROTOCOL.md of durable-streams/durable-streams, sections 5.5 to 5.8.
Knows: pages, tails, a transport. Does not know: how a request is read, what messages mean.
"""

import asyncio
import enum
from collections.abc import Awaitable, Callable, Iterator
from typing import Final

import msgspec

from catenary.edge.deadlines import Deadlines
from catenary.edge.refusals import Refusals, unavailable
from catenary.errors import BackendError, LostPosition, RequestRefused
from catenary.messages.commands import Checkpoint
from catenary.messages.reasons import Reason
from catenary.metrics.counters import Counters
from catenary.node.encoder import Encoders
from catenary.node.node import Node
from catenary.node.session import Session
from catenary.ports import Goodbye
from catenary.protocols import durable_streams
from catenary.protocols.durable_streams import Chunk, Content, Live
from catenary.protocols.silent import SILENT
from catenary.transports import durable_stream_responses as responses
from catenary.transports import http_responses
from catenary.transports.durable_stream_pages import Storage, StreamPages
from catenary.transports.durable_stream_requests import DurableStreamRequests, OpenedRead
from catenary.transports.durable_stream_responses import ResponseHead
from catenary.transports.event_stream_requests import refusal_of
from catenary.transports.http_responses import with_headers
from catenary.transports.next_request import NextRequest
from catenary.transports.stream_tails import Tail, Tails
from catenary.wire import http1
from catenary.wire.event_stream import (
    CHUNKED,
    UNTIL_CLOSED,
    EventFraming,
    plain_head,
)


class ReadServices(msgspec.Struct, frozen=True, eq=False, kw_only=True):
    """Shared by all reads of one server.

    ``skip_auth``: clients are not admitted by the node. ``polls`` and ``events`` are the deadlines of long polls and of
    event streams. ``clock`` returns seconds since 1970. ``high_water`` is the limit of the write buffer in bytes, ``close_timeout_s`` the time in which a client must read the
    end of its response.
    """

    node: Node
    encoders: Encoders
    storage: Storage
    tails: Tails
    requests: DurableStreamRequests
    counters: Counters
    refusals: Refusals
    polls: Deadlines
    events: Deadlines
    clock: Callable[[], float]
    skip_auth: bool
    high_water: int
    close_timeout_s: float


class _State(enum.Enum):
    OPENING = enum.auto()
    """The application decides about the client."""
    READING = enum.auto()
    """The history is read, or a page is being sent."""
    WAITING = enum.auto()
    """All messages were sent; the reader waits at the tail."""
    ENDED = enum.auto()
    """The response is complete."""


class StreamRead:
    """Satisfies :class:`catenary.edge.connection.Stage`, :class:`catenary.ports.Outbound`,
    :class:`catenary.ports.Waiting`, :class:`catenary.transports.durable_stream_pages.PageReader` and
    :class:`catenary.transports.stream_tails.Reader`."""

    __slots__ = (
        "_begun",
        "_close_timer",
        "_following",
        "_is_full",
        "_pages",
        "_request",
        "_seen_changes",
        "_services",
        "_session",
        "_state",
        "_tail",
        "_transport",
        "is_waiting",
        "position",
        "write",
    )

    is_client: Final = True

    def __init__(
        self,
        services: ReadServices,
        transport: asyncio.WriteTransport,
        request: OpenedRead,
        following: NextRequest,
    ) -> None:
        self._services = services
        self._following = following
        self._transport = transport
        self._request = request
        self._state = _State.OPENING
        self._session: Session | None = None
        self._tail: Tail | None = None
        query, is_head = request.query, request.is_head
        self._pages = StreamPages(
            services.storage, request.stream, self, is_head=is_head, is_now=query.is_now
        )
        # Whether the head of an event stream was sent
        self._begun = False
        # Whether the client has to read before the next page is sent
        self._is_full = False
        self._close_timer: asyncio.TimerHandle | None = None
        self._seen_changes = 0
        self.position = query.position
        self.is_waiting = False
        self.write: Callable[[bytes], None] = _discard

    # Stage

    def begin(self, rest: bytes) -> None:
        services, admitted = self._services, self._request.admitted
        services.counters.ds_requests_total += 1
        self._transport.set_write_buffer_limits(high=services.high_water)
        if services.skip_auth:
            services.counters.open_connections_num += 1
            self._start()
            return
        encoder = services.encoders.encoder(SILENT, CHUNKED.framing)
        self._session = services.node.admit(admitted.environment, encoder, self, admitted.traits)
        services.node.execute(self._session, Checkpoint(self._start))

    def receive(self, data: bytes) -> None:
        self._following.receive(data)

    def eof(self) -> bool:
        """The client has left."""
        return False

    def pause_writing(self) -> None:
        self._is_full = True
        if self._state is _State.WAITING:
            # Not closed here: the caller is in the middle of a delivery.
            asyncio.get_running_loop().call_soon(self._close_if_slow)

    def resume_writing(self) -> None:
        self._is_full = False
        if self._state is _State.READING and not self._pages.is_reading and self._begun:
            self._pages.read_page()

    def lost(self, exc: Exception | None) -> None:
        self._following.forget()
        self._leave()
        if self._close_timer is not None:
            self._close_timer.cancel()
        self._leave_node()

    def _leave_node(self) -> None:
        """The connection is lost, or serves the next request."""
        if self._services.skip_auth:
            self._services.counters.open_connections_num -= 1
        elif self._session is not None:
            self._services.node.leave(self._session)
        # Reference cycles: without this, only the garbage collector would free them.
        self._session = None
        del self._pages

    def shutdown(self) -> None:
        self._following.refuse()
        if self._state is _State.ENDED:
            self._transport.close()
        elif self._session is None:
            self._end_early(unavailable("the server is shutting down"))
        else:
            self._session.close(Reason.SERVER_RESTART)

    # Reading

    def _start(self) -> None:
        """The client may read."""
        if self._state is not _State.OPENING:
            return
        self._state = _State.READING
        services, live = self._services, self._request.query.live
        if live is Live.CATCH_UP or self._request.is_head:
            self._look()
            return
        # The tail is joined before the history is read, so that no message is missed in between.
        self._tail = services.tails.join(self._request.stream)
        when_live = self._tail.when_live()
        if when_live is None:
            self._look()
        else:
            self._pages.look_when(when_live, self._look)

    @property
    def content(self) -> Content:
        """The content of the stream's messages."""
        return self._pages.content

    def _look(self) -> None:
        if self._tail is not None:
            self._seen_changes = self._tail.changes
        self._pages.look()

    def found_end(self) -> None:
        self._finish(responses.of_head(self._pages.record, self.position), None)

    def found_chunk(self, chunk: Chunk) -> None:
        live = self._request.query.live
        if live is Live.SSE:
            self._send_events(chunk)
            if chunk.is_closed:
                self._end_in_order()
            elif chunk.is_up_to_date:
                self._wait()
            elif not self._is_full:
                asyncio.get_running_loop().call_soon(self._read_next)
        elif live is Live.LONG_POLL and not len(chunk):
            if chunk.is_closed:
                self._respond_empty()
            else:
                self._wait()
        else:
            self._respond(chunk)

    def _read_next(self) -> None:
        """Reads the next page in a turn of its own, unless the client has left or has to read first."""
        if self._state is _State.READING and not self._pages.is_reading and not self._is_full:
            self._pages.read_page()

    # Waiting

    def _wait(self) -> None:
        """All messages up to the position were sent."""
        tail, counters = self._tail, self._services.counters
        assert tail is not None, "joined by every live read"
        self._state = _State.WAITING
        if self._request.query.live is Live.LONG_POLL:
            self._services.polls.watch(self)
            counters.ds_poll_requests_total += 1
            counters.ds_poll_clients_num += 1
        if tail.changes == self._seen_changes:
            tail.wait(self)
        else:
            self.catch_up()

    def take(self, chunk: Chunk) -> None:
        if self._request.query.live is Live.SSE:
            self._send_events(chunk)
            if self._tail is not None and self._state is _State.WAITING:
                self._tail.wait(self)
        else:
            self._respond(chunk)

    def catch_up(self) -> None:
        if self._request.query.live is Live.LONG_POLL:
            self._stop_waiting()
        self._state = _State.READING
        self._look()

    def time_out(self) -> None:
        """The long poll, or the event stream, has lasted for its time."""
        self._end_in_order()

    def _stop_waiting(self) -> None:
        """A long poll does not wait any more."""
        self._services.polls.forget(self)
        self._services.counters.ds_poll_clients_num -= 1

    # Responses

    def _respond(self, chunk: Chunk) -> None:
        """The response of a catch-up read, or of a long poll that has messages."""
        head = responses.of_messages(self._request, self._pages.record, chunk, self._next_cursor())
        self._finish(head, None if head.status == 304 else chunk.body)

    def found_missing(self) -> None:
        if self._begun:
            self._end_in_order()
        else:
            self._refuse(RequestRefused(404, "expected a stream that exists"))

    def _respond_empty(self) -> None:
        """A long poll has no messages."""
        head = responses.of_no_messages(self._pages.record, self.position, self._next_cursor())
        self._finish(head, None)

    def _send_events(self, chunk: Chunk) -> None:
        counters, framing = self._services.counters, self._framing()
        self.position = chunk.end
        if self._begun:
            events = chunk.events(framing.framing.frame, self._cursor())
        else:
            self._begun = True
            counters.ds_sse_requests_total += 1
            counters.ds_sse_clients_num += 1
            self._services.events.watch(self)
            # Without a charset: clients of this protocol compare the whole value.
            headers = responses.of_events(self.content, self._request.headers)
            events = chunk.events(framing.framing.frame, self._next_cursor())
            events = plain_head(framing, headers.items()) + events
        counters.data_sent_total += len(events)
        counters.server_msg_total += len(chunk)
        self._transport.write(events)

    def _framing(self) -> EventFraming:
        return UNTIL_CLOSED if self._request.is_http_1_0 else CHUNKED

    def _cursor(self) -> str:
        """The cursor of events: the same for all readers, so that they share encoded events."""
        return durable_streams.cursor_at(self._services.clock())

    def _next_cursor(self) -> str:
        return responses.next_cursor(self._services.clock(), self._request.query.cursor)

    # The end

    def _finish(self, head: ResponseHead, body: bytes | None) -> None:
        """Sends a whole response, and gives the connection back or closes it."""
        length = () if body is None else (("Content-Length", str(len(body))),)
        close = () if self._following.is_expected() else (("Connection", "close"),)
        fields = (*head.headers, *self._request.headers, *length, *close)
        response = http_responses.response_head(head.status, fields) + (body or b"")
        self._services.counters.data_sent_total += len(response)
        self._transport.write(response)
        if self._following.await_soon(self._leave_node):
            self._leave()
        else:
            self._close()

    def _refuse(self, refused: RequestRefused, *, is_reported: bool = False) -> None:
        requester = None if is_reported else self._request.admitted.environment.requester
        self._services.refusals.note(refused, requester)
        refused = with_headers(refused, self._request.headers)
        self._transport.write(http1.refusal(refused, is_head=self._request.is_head))
        self._close()

    def failed(self, error: LostPosition | BackendError) -> None:
        """The client starts again, or tries later."""
        if self._begun:
            self._end_in_order()
        elif isinstance(error, LostPosition):
            self._refuse(RequestRefused(410, f"the offset is not kept any more: {error}"))
        else:
            self._refuse(unavailable("the history can't be read now"))

    def _end_in_order(self) -> None:
        """Ends the response without an error: a client that wants more sends another request."""
        if self._state is _State.ENDED:
            return
        if self._begun:
            if end := self._framing().end:
                self._transport.write(end)
            self._close()
        else:
            self._respond_empty()

    def _end_early(self, refused: RequestRefused) -> None:
        """The server ends the read: with the refusal if nothing was decided or read yet."""
        if self._state is _State.ENDED:
            return
        if self._begun or self._state is _State.WAITING:
            self._end_in_order()
        else:
            self._refuse(refused)

    def close(self, goodbye: Goodbye) -> None:
        if goodbye.reason is Reason.SERVER_RESTART or self._begun:
            self._end_early(refusal_of(goodbye))
        elif self._state is not _State.ENDED:
            self._refuse(refusal_of(goodbye), is_reported=True)

    def _close(self) -> None:
        self._following.forget()
        self._leave()
        self._transport.close()
        self._close_timer = asyncio.get_running_loop().call_later(
            self._services.close_timeout_s, self._transport.abort
        )

    def _leave(self) -> None:
        """Leaves the tail, and ends everything that waits for this reader."""
        state, self._state = self._state, _State.ENDED
        if state is _State.ENDED:
            return
        self._pages.stop()
        if self._begun:
            self._services.events.forget(self)
            self._services.counters.ds_sse_clients_num -= 1
        elif state is _State.WAITING:
            self._stop_waiting()
        if self._tail is not None:
            self._tail.stop_waiting(self)
            self._services.tails.leave(self._request.stream)
            self._tail = None

    # Slow clients

    def _close_if_slow(self) -> None:
        """Closes the connection, unless the data has been sent meanwhile."""
        if (
            self._state is _State.WAITING
            and self._transport.get_write_buffer_size() > self._services.high_water
        ):
            self._services.counters.disconnected_slow_clients_total += 1
            self._end_in_order()

    # Outbound: the node sends nothing to these clients

    def write_slices(self, slices: Iterator[bytes]) -> Awaitable[None] | None:
        """Does nothing: the session has no subscriptions."""

    def tolerate_slowness(self) -> None:
        """See :meth:`write_slices`."""

    @property
    def is_behind(self) -> bool:
        """See :meth:`write_slices`."""
        return False

    def pause_reading(self) -> None:
        """Does nothing: the request was read."""

    def resume_reading(self) -> None:
        """See :meth:`pause_reading`."""


def _discard(batch: bytes) -> None:
    """See ``write``: no message of the session is sent."""
