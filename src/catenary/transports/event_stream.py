"""One event stream (server-sent events): one request, whose response carries the client's messages as events.

The response begins when the application has accepted the client and confirmed its subscriptions: until then, a refusal
is an HTTP status. Source: docs/sse.md (anycable/anycable); HTML Living Standard, section 9.2.
Knows: sessions, a transport. Does not know: how requests and responses are written, the meaning of messages.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from typing import Final, Protocol

import msgspec

from catenary.edge.refusals import Refusals, unavailable
from catenary.errors import RequestRefused
from catenary.messages.commands import Checkpoint, Command, Subscribe, Unsubscribe
from catenary.messages.names import Identifier
from catenary.messages.reasons import Reason
from catenary.metrics.counters import Counters
from catenary.node.encoder import Encoders
from catenary.node.node import Node
from catenary.node.session import Session
from catenary.node.turns import Turns
from catenary.ports import Goodbye
from catenary.protocols import event_stream
from catenary.transports.event_stream_requests import (
    AcceptedRequest,
    EventStreamRequests,
    refusal_of,
)
from catenary.transports.http_responses import Headers, with_headers
from catenary.transports.request_body import BodyReading, RequestBody
from catenary.transports.sliced_writer import SlicedWriter, UnsentLimits, hold_back, write_slices
from catenary.wire.event_stream import EventFraming
from catenary.wire.request_bodies import BodyReader

STEP_US: Final = 10
"""Cost of reading a line of a body, or of carrying out its command, in the budget of a turn."""


class StreamLimits(msgspec.Struct, frozen=True, kw_only=True):
    """Limits of one client: the high-water mark of the write buffer in bytes, and the time in which the client must read
    the end of the response."""

    high_water: int
    close_timeout_s: float


class StreamServices(msgspec.Struct, frozen=True, eq=False):
    """Shared by all event streams of one server."""

    node: Node
    encoders: Encoders
    requests: EventStreamRequests
    limits: StreamLimits
    counters: Counters
    refusals: Refusals
    turns: Turns
    bodies: BodyReading


class ResponseWriter(Protocol):
    """Begins the response to one request: one of the methods is called, once. ``framing`` is the framing of events."""

    framing: EventFraming

    def accept(self, headers: Headers, events: bytes) -> None:
        """Sends the head of an event stream, and its first events."""
        ...

    def refuse(self, refused: RequestRefused) -> None:
        """Sends a whole response; the caller closes the transport after it."""
        ...


class _Opening:
    """State of an event stream until its response begins. ``body`` is None unless it is being received by ``reader``.
    ``backlog`` has the messages written so far, ``waiting_bytes`` is their size."""

    __slots__ = ("accepted", "backlog", "body", "reader", "response", "waiting_bytes")

    def __init__(
        self, accepted: AcceptedRequest, response: ResponseWriter, reader: BodyReader
    ) -> None:
        self.accepted = accepted
        self.response = response
        self.body: RequestBody | None = None
        self.reader = reader
        self.backlog: list[bytes] = []
        self.waiting_bytes = 0


class EventStream:
    """Satisfies :class:`catenary.edge.connection.Stage` and :class:`catenary.ports.Outbound`.

    First it reads the body of the request, if there is one; then it collects the messages written until the session's
    subscriptions are confirmed; then it sends them and is open.
    """

    __slots__ = (
        "_close_timer",
        "_framing",
        "_may_be_slow",
        "_opening",
        "_services",
        "_session",
        "_transport",
        "write",
        "writer",
    )

    is_client: Final = True

    def __init__(
        self,
        services: StreamServices,
        transport: asyncio.WriteTransport,
        accepted: AcceptedRequest,
        response: ResponseWriter,
        reader: BodyReader,
    ) -> None:
        """``reader`` finds the end of the body, which may be empty; for one that can't, :meth:`end_body` is called."""
        self._services = services
        self._transport = transport
        self._framing = response.framing
        # None once the response has begun
        self._opening: _Opening | None = _Opening(accepted, response, reader)
        self._session: Session | None = None
        self.write: Callable[[bytes], None] = self._collect
        # While a large reply is sent in slices, and after the end
        self.writer: SlicedWriter | None = None
        self._may_be_slow = False
        self._close_timer: asyncio.TimerHandle | None = None

    # Stage

    def begin(self, rest: bytes) -> None:
        opening, services = self._opening, self._services
        assert opening is not None
        self._transport.set_write_buffer_limits(high=services.limits.high_water)
        commands = opening.accepted.commands
        if commands is not None:
            for _ in self._execute(opening, commands):
                pass
            return
        opening.body = RequestBody(
            services.bodies, opening.reader, self._receive_body, self._refuse
        )
        self.receive(rest)

    def receive(self, data: bytes) -> None:
        """Reads the body; what a client sends after it is ignored."""
        opening = self._opening
        if opening is not None and opening.body is not None:
            opening.body.receive(data)

    def end_body(self) -> None:
        """The body is complete."""
        opening = self._opening
        if opening is not None and opening.body is not None:
            opening.body.end()

    def _receive_body(self, body: bytes) -> None:
        opening = self._opening
        assert opening is not None
        opening.body = None
        self._services.turns.run(self._read_and_execute(opening, body))

    def _read_and_execute(self, opening: _Opening, body: bytes) -> Iterator[int]:
        """The steps of a POST request. All commands are parsed first: an invalid one refuses the request before any is
        carried out."""
        commands: list[Command] = []
        try:
            for command in event_stream.commands_of(body):
                if command is not None:
                    commands.append(command)
                yield STEP_US
                if self.write is _discard:
                    return
            self._services.requests.check_capacity()
        except RequestRefused as refused:
            self._refuse(refused)
            return
        yield from self._execute(opening, commands)

    def eof(self) -> bool:
        """The client has left."""
        return False

    def pause_writing(self) -> None:
        """The write buffer is full: the client is slow, unless a reply is being sent in slices or it may be slow."""
        if self.writer is not None:
            self.writer.pause()
        elif self._may_be_slow:
            if self.write is not _discard:
                hold_back(self, self._transport, self._services.turns, self._unsent_limits)
        else:
            # Not closed here: the caller may be in the middle of a delivery.
            asyncio.get_running_loop().call_soon(self._close_if_slow)

    def resume_writing(self) -> None:
        if self.writer is not None:
            self.writer.resume()

    def lost(self, exc: Exception | None) -> None:
        self.write = _discard
        self._forget_body()
        if self._close_timer is not None:
            self._close_timer.cancel()
        if self.writer is not None:
            self.writer.end()
            self.writer = None
        if self._opening is None:
            self._services.counters.sse_clients_num -= 1
        if self._session is not None:
            self._services.node.leave(self._session)
        # A reference cycle: without this, only the garbage collector would free both.
        self._session = self._opening = None

    def shutdown(self) -> None:
        if self._session is None:
            self._refuse(unavailable("the server is shutting down"))
        else:
            self._session.close(Reason.SERVER_RESTART)

    def _forget_body(self) -> None:
        if self._opening is not None and self._opening.body is not None:
            self._opening.body.close()
            self._opening.body = None

    # Opening

    def _execute(self, opening: _Opening, commands: Sequence[Command]) -> Iterator[int]:
        """Passes the client and its commands to the node, one command in each step."""
        services, admitted = self._services, opening.accepted.admitted
        encoder = services.encoders.encoder(opening.accepted.protocol, self._framing.framing)
        session = services.node.admit(admitted.environment, encoder, self, admitted.traits)
        self._session = session
        wanted: set[Identifier] = set()
        for command in commands:
            if self.write is _discard:
                return
            if type(command) is Subscribe:
                wanted.add(command.identifier)
            elif type(command) is Unsubscribe:
                wanted.discard(command.identifier)
            services.node.submit(session, command)
            yield STEP_US
        services.node.execute(session, Checkpoint(lambda: self._open_or_refuse(wanted)))

    def _collect(self, batch: bytes) -> None:
        """Collects messages until the response begins: some may arrive for one subscription while the application decides
        about another."""
        opening = self._opening
        assert opening is not None, "replaced when the response begins"
        opening.backlog.append(batch)
        opening.waiting_bytes += len(batch)
        if opening.waiting_bytes > self._services.limits.high_water:
            self._refuse(unavailable("too many messages before the subscriptions were confirmed"))

    def _open_or_refuse(self, wanted: AbstractSet[Identifier]) -> None:
        """Opens the stream if the application has confirmed all subscriptions, else responds with 401 (docs/sse.md)."""
        if self._opening is None or self.write is _discard or self._session is None:
            return
        if wanted <= self._session.subscriptions.keys():
            self._open(self._opening)
        else:
            refused = RequestRefused(401, "the subscription was rejected")
            self._refuse(refused, is_reported=True)

    def _open(self, opening: _Opening) -> None:
        self._opening = None
        self._services.counters.sse_clients_num += 1
        self.write = self._transport.write
        opening.response.accept(opening.accepted.cors, b"".join(opening.backlog))

    def _refuse(self, refused: RequestRefused, *, is_reported: bool = False) -> None:
        opening = self._opening
        if opening is None or self.write is _discard:
            return
        requester = None if is_reported else opening.accepted.admitted.environment.requester
        self._services.refusals.note(refused, requester)
        self._forget_body()
        self.write = _discard
        opening.backlog.clear()
        opening.response.refuse(with_headers(refused, opening.accepted.cors))
        self._transport.close()
        self._abort_later()

    # Large replies

    def write_slices(self, slices: Iterator[bytes]) -> Awaitable[None] | None:
        if self.write is _discard or self._transport.is_closing():
            return None
        if self._opening is not None:
            # A history or members are sent only for a confirmed subscription.
            self._open(self._opening)
        return write_slices(
            self, slices, self._transport, self._services.turns, self._unsent_limits
        )

    # The end

    def close(self, goodbye: Goodbye) -> None:
        if self.write is _discard:
            return
        if self._opening is not None:
            self._refuse(refusal_of(goodbye), is_reported=True)
            return
        if self._framing.end:
            self.write(self._framing.end)
        self.write = _discard
        if self.writer is None:
            self._transport.close()
        else:
            self.writer.at_end = self._transport.close
        self._abort_later()

    def _abort_later(self) -> None:
        """Aborts the connection if the client has not read the end in time."""
        if self._close_timer is None:
            self._close_timer = asyncio.get_running_loop().call_later(
                self._services.limits.close_timeout_s, self._transport.abort
            )

    # Slow clients

    def _close_if_slow(self) -> None:
        """The data may have been sent meanwhile."""
        if self._transport.get_write_buffer_size() > self._services.limits.high_water:
            self.close_as_slow()

    @property
    def _unsent_limits(self) -> UnsentLimits:
        return UnsentLimits(self._services.limits.high_water, self._may_be_slow)

    def tolerate_slowness(self) -> None:
        if self._may_be_slow:
            return
        self._may_be_slow = True
        if self.writer is not None:
            self.writer.tolerate_slowness(self._unsent_limits)
        elif not self._transport.is_closing():
            self._transport.set_write_buffer_limits(high=self._unsent_limits.buffer_bytes)

    @property
    def is_behind(self) -> bool:
        return self.writer is not None

    def close_as_slow(self) -> None:
        if self.write is not _discard and self._session is not None:
            self._services.counters.disconnected_slow_clients_total += 1
            self._session.close(Reason.SLOW_CLIENT)

    # Reading: a client sends nothing after its request

    def pause_reading(self) -> None:
        """Does nothing: all commands have been received."""

    def resume_reading(self) -> None:
        """See :meth:`pause_reading`."""


def _discard(batch: bytes) -> None:
    """Replaces ``write`` after the end of the response."""
