"""Server-sent events: one request, whose response is the client's messages as they come.

The response begins when the application has let the client in and confirmed its subscriptions: until then a refusal is
a status. Source: docs/sse.md (anycable/anycable); HTML Living Standard, section 9.2.
Knows: HTTP requests, sockets. Does not know: what a message means, who else is there.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Final

import msgspec

from catenary.auth.origins import Origins
from catenary.edge.admission import Admission, Admitted
from catenary.edge.connection import ClientConnection
from catenary.edge.deadlines import Deadlines
from catenary.edge.refusals import Refusals
from catenary.edge.request import Peer
from catenary.errors import RequestRefused
from catenary.messages.commands import Checkpoint, Command, Subscribe
from catenary.messages.reasons import Reason
from catenary.metrics.counters import Counters
from catenary.node.encoder import Encoders
from catenary.node.node import Node
from catenary.node.session import Session
from catenary.node.turns import Turns
from catenary.ports import SLICE_BYTES, Goodbye
from catenary.protocols import event_stream
from catenary.protocols.table import ClientProtocol
from catenary.transports.sliced_writer import SlicedWriter
from catenary.wire.event_stream import CHUNKED, UNTIL_CLOSED, EventFraming, response_head
from catenary.wire.http1 import Request, refusal
from catenary.wire.request_memory import RequestMemory, too_many

METHODS: Final = "GET, HEAD, POST, OPTIONS"

_ALLOWED_HEADERS: Final = "Origin, X-Requested-With, X-Request-ID, Content-Type, Accept, X-CSRF-Token, Authorization, Last-Event-ID"

_STATUSES: Final = {
    Reason.AUTH_FAILED: 401,
    Reason.UNAUTHORIZED: 401,
    Reason.TOKEN_EXPIRED: 401,
    Reason.AUTH_ERROR: 503,
    Reason.SERVER_RESTART: 503,
    Reason.REMOTE: 403,
}
"""How a session that ends before its response begins is answered; 400 for any other reason."""


class StreamLimits(msgspec.Struct, frozen=True, kw_only=True):
    """What one client may cost: ``max_body_bytes`` of a request, ``high_water`` of bytes that wait to be
    sent, and how long an ended response may take to be read."""

    max_body_bytes: int
    high_water: int
    close_timeout_s: float


class StreamServices(msgspec.Struct, frozen=True, eq=False):
    """What all event streams of one server share. ``deadlines`` and ``memory`` are for bodies of requests."""

    node: Node
    encoders: Encoders
    limits: StreamLimits
    counters: Counters
    refusals: Refusals
    turns: Turns
    deadlines: Deadlines
    memory: RequestMemory


class EventStreamEndpoint:
    """Satisfies :class:`catenary.edge.routes.Endpoint`. ``pages`` are those that may read what they get (CORS)."""

    __slots__ = ("_admission", "_pages", "_services")

    def __init__(self, services: StreamServices, admission: Admission, pages: Origins) -> None:
        self._services = services
        self._admission = admission
        self._pages = pages

    def open(
        self, request: Request, peer: Peer, connection: ClientConnection
    ) -> "EventStream | BriefAnswer":
        cors = self.cors(request.headers.get("origin", ""))
        framing = UNTIL_CLOSED if request.is_http_1_0 else CHUNKED
        transport = connection.transport
        if request.method == "OPTIONS":
            return BriefAnswer(transport, _empty("204 No Content", (("Allow", METHODS), *cors)))
        if request.method == "HEAD":
            # RFC 9110, section 9.3.2: no content, whatever the status.
            is_asking = event_stream.asks_for_a_subscription(request.query)
            head = response_head(framing, cors) if is_asking else _empty("400 Bad Request", cors)
            return BriefAnswer(transport, head)
        try:
            plan = self.plan(request, peer)
        except RequestRefused as refused:
            raise with_headers(refused, cors) from refused
        return EventStream(self._services, transport, plan, framing, cors)

    def plan(self, request: Request, peer: Peer) -> "Plan":
        """Checks a request by GET or POST. Raises :class:`RequestRefused`."""
        commands: Sequence[Command] | None
        if request.method == "GET":
            last_event_id = request.headers.get("last-event-id", "")
            protocol, subscribe = event_stream.subscription_asked(request.query, last_event_id)
            commands, body_bytes = (subscribe,), 0
        elif request.method == "POST":
            protocol, commands = event_stream.WHOLE_MESSAGES, None
            body_bytes = _body_bytes(request, self._services.limits.max_body_bytes)
        else:
            raise RequestRefused(
                405, f"expected {METHODS}, got {request.method[:20]}", (("Allow", METHODS),)
            )
        return Plan(self._admission.admit(request, peer, protocol), protocol, commands, body_bytes)

    def cors(self, origin: str) -> tuple[tuple[str, str], ...]:
        """Headers that let a page read the response."""
        if not origin:
            return ()
        headers = (
            ("Access-Control-Allow-Methods", METHODS),
            ("Access-Control-Allow-Headers", _ALLOWED_HEADERS),
            ("Vary", "Origin"),
        )
        if not self._pages.allow(origin):
            return headers
        # Not *, with which browsers send no cookies.
        return (
            ("Access-Control-Allow-Origin", origin),
            ("Access-Control-Allow-Credentials", "true"),
            *headers,
        )


class Plan(msgspec.Struct, frozen=True):
    """A client that may connect. ``commands`` None: they are in the body, of ``body_bytes``."""

    admitted: Admitted
    protocol: ClientProtocol
    commands: Sequence[Command] | None
    body_bytes: int


def _body_bytes(request: Request, limit: int) -> int:
    """Raises :class:`RequestRefused`: 411 without a length, 413 beyond the limit."""
    length = request.headers.get("content-length", "0")
    if "transfer-encoding" in request.headers:
        raise RequestRefused(411, "expected a body with Content-Length")
    if not length.isascii() or not length.isdecimal():
        raise RequestRefused(400, "expected a number in Content-Length")
    if len(length) > 18 or int(length) > limit:
        raise RequestRefused(413, f"expected a body of up to {limit} bytes")
    return int(length)


def with_headers(refused: RequestRefused, headers: tuple[tuple[str, str], ...]) -> RequestRefused:
    """The same refusal with more headers."""
    return RequestRefused(refused.status, str(refused), (*refused.headers, *headers))


def _empty(status: str, headers: tuple[tuple[str, str], ...]) -> bytes:
    lines = [f"HTTP/1.1 {status}", *(f"{name}: {value}" for name, value in headers)]
    return "\r\n".join([*lines, "Connection: close", "", ""]).encode("latin-1")


def status_of(goodbye: Goodbye) -> RequestRefused:
    """How a client is refused whose session ends before its response begins."""
    return RequestRefused(_STATUSES.get(goodbye.reason, 400), goodbye.text)


def refused_among(session: Session, commands: Sequence[Command]) -> RequestRefused | None:
    """401 if the application has not confirmed all subscriptions (docs/sse.md), else None."""
    for command in commands:
        if type(command) is Subscribe and command.identifier not in session.subscriptions:
            return RequestRefused(401, "the subscription was rejected")
    return None


class BriefAnswer:
    """Satisfies :class:`catenary.edge.connection.Stage`: writes one answer and closes."""

    __slots__ = ("_answer", "_transport")

    is_client: Final = False

    def __init__(self, transport: asyncio.Transport, answer: bytes) -> None:
        self._transport = transport
        self._answer = answer

    def begin(self, rest: bytes) -> None:
        self._transport.write(self._answer)
        self._transport.close()

    def receive(self, data: bytes) -> None:
        """Nothing more is answered."""

    def eof(self) -> bool:
        return False

    def pause_writing(self) -> None:
        """It is as short as an answer can be."""

    def resume_writing(self) -> None:
        """See :meth:`pause_writing`."""

    def lost(self, exc: Exception | None) -> None:
        """Nothing was kept."""

    def shutdown(self) -> None:
        self._transport.close()


class EventStream:
    """Satisfies :class:`catenary.edge.connection.Stage` and :class:`catenary.ports.Outbound`.

    First it reads the body of the request, if there is one; then it collects what is written, until the session's
    subscriptions are confirmed; then it is open.
    """

    __slots__ = (
        "_backlog",
        "_body",
        "_close_timer",
        "_cors",
        "_framing",
        "_is_open",
        "_plan",
        "_services",
        "_session",
        "_transport",
        "_writer",
        "write",
    )

    is_client: Final = True

    def __init__(
        self,
        services: StreamServices,
        transport: asyncio.Transport,
        plan: Plan,
        framing: EventFraming,
        cors: tuple[tuple[str, str], ...],
    ) -> None:
        self._services = services
        self._transport = transport
        self._framing = framing
        # What the response begins with, until it has begun
        self._plan: Plan | None = plan
        self._cors = cors
        self._body = bytearray()
        self._backlog: list[bytes] = []
        # The session, and whether the response has begun
        self._session: Session | None = None
        self._is_open = False
        self.write: Callable[[bytes], None] = self._backlog.append
        # While an answer is sent in slices, and after the end
        self._writer: SlicedWriter | None = None
        self._close_timer: asyncio.TimerHandle | None = None

    # Stage

    def begin(self, rest: bytes) -> None:
        self._transport.set_write_buffer_limits(high=self._services.limits.high_water)
        assert self._plan is not None
        if self._plan.commands is not None:
            self._admit(self._plan.commands)
            return
        self._services.deadlines.watch(self)
        self.receive(rest)

    def receive(self, data: bytes) -> None:
        """Reads on in the body. After it, a client has nothing more to say."""
        plan = self._plan
        if plan is None or plan.commands is not None or self._session is not None:
            return
        self._body += data
        if len(self._body) < plan.body_bytes:
            self._services.memory.hold(self, len(self._body))
            return
        self._forget_body()
        body, self._body = bytes(self._body[: plan.body_bytes]), bytearray()
        try:
            commands = event_stream.commands_of(body)
        except RequestRefused as refused:
            self._refuse(refused)
            return
        self._admit(commands)

    def _forget_body(self) -> None:
        self._services.deadlines.forget(self)
        self._services.memory.release(self)

    def eof(self) -> bool:
        """The client is gone: it would have nothing to send in any case."""
        return False

    def pause_writing(self) -> None:
        """As much waits to be sent as may: too much, unless an answer is sent in slices."""
        if self._writer is not None:
            self._writer.pause()
        else:
            # Closed later: this may be the middle of a delivery.
            asyncio.get_running_loop().call_soon(self._give_up)

    def resume_writing(self) -> None:
        if self._writer is not None:
            self._writer.resume()

    def lost(self, exc: Exception | None) -> None:
        self.write = _discard
        self._forget_body()
        if self._close_timer is not None:
            self._close_timer.cancel()
        if self._writer is not None:
            self._writer.end()
            self._writer = None
        if self._is_open:
            self._services.counters.sse_clients_num -= 1
        if self._session is not None:
            self._services.node.leave(self._session)
        # Each refers to the other: kept so, they would wait for the collector.
        self._session = None

    def shutdown(self) -> None:
        if self._session is None:
            self._transport.close()
        else:
            self._session.close(Reason.SERVER_RESTART)

    # Opening

    def _admit(self, commands: Sequence[Command]) -> None:
        plan, node = self._plan, self._services.node
        assert plan is not None
        encoder = self._services.encoders.encoder(plan.protocol, self._framing.framing)
        admitted = plan.admitted
        session = node.admit(admitted.environment, encoder, self, admitted.traits)
        self._session = session
        for command in (*commands, Checkpoint(lambda: self._answer(commands))):
            if self.write is _discard:
                return
            node.execute(session, command)

    def _answer(self, commands: Sequence[Command]) -> None:
        """Everything that was asked for is decided."""
        if self._is_open or self.write is _discard or self._session is None:
            return
        refused = refused_among(self._session, commands)
        if refused is None:
            self._open()
        else:
            self._refuse(refused)

    def _open(self) -> None:
        self._is_open = True
        self._plan = None
        self._services.counters.sse_clients_num += 1
        backlog, self._backlog = self._backlog, []
        self.write = self._transport.write
        self._transport.write(b"".join([response_head(self._framing, self._cors), *backlog]))
        self._cors = ()

    def _refuse(self, refused: RequestRefused) -> None:
        self._services.refusals.note(refused)
        self._forget_body()
        self.write = _discard
        self._backlog.clear()
        self._transport.write(refusal(with_headers(refused, self._cors)))
        self._transport.close()
        self._cut_later()

    def time_out(self) -> None:
        """The body did not arrive in time."""
        seconds = self._services.deadlines.timeout_s
        self._services.counters.late_handshakes_total += 1
        self._refuse(RequestRefused(408, f"expected a body within {seconds:g} s"))

    def give_up(self) -> None:
        """Other requests need the memory (:class:`catenary.wire.request_memory.Holder`)."""
        self._refuse(too_many())

    # Large answers

    def write_slices(self, slices: Iterator[bytes]) -> Awaitable[None] | None:
        if self.write is _discard:
            return None
        if not self._is_open:
            # A history, or members: a subscription that has them is confirmed.
            self._open()
        if self._writer is None:
            limits = self._services.limits
            self._writer = SlicedWriter(
                self._transport,
                self._services.turns,
                limits.high_water,
                too_slow=self._give_up,
                finished=self._all_written,
            )
            self.write = self._writer.write
            self._transport.set_write_buffer_limits(high=min(SLICE_BYTES, limits.high_water))
        return self._writer.write_slices(slices)

    def _all_written(self) -> None:
        """No answer is on its way any more."""
        self._writer = None
        if self.write is not _discard:
            self.write = self._transport.write
        self._transport.set_write_buffer_limits(high=self._services.limits.high_water)

    # The end

    def close(self, goodbye: Goodbye) -> None:
        if self.write is _discard:
            return
        if not self._is_open:
            self._refuse(status_of(goodbye))
            return
        if self._framing.end:
            self.write(self._framing.end)
        self.write = _discard
        if self._writer is None:
            self._transport.close()
        else:
            self._writer.at_end = self._transport.close
        self._cut_later()

    def _cut_later(self) -> None:
        """A client that does not read is not waited for longer than this."""
        if self._close_timer is None:
            self._close_timer = asyncio.get_running_loop().call_later(
                self._services.limits.close_timeout_s, self._transport.abort
            )

    def _give_up(self) -> None:
        if self.write is not _discard and self._session is not None:
            self._services.counters.disconnected_slow_clients_total += 1
            self._session.close(Reason.SLOW_CLIENT)

    # A client sends nothing after its request

    def pause_reading(self) -> None:
        """Its commands are all here already."""

    def resume_reading(self) -> None:
        """See :meth:`pause_reading`."""


def _discard(batch: bytes) -> None:
    """Where replies go after the end of the response."""
