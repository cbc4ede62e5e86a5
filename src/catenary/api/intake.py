"""The fast path of the broadcast endpoint: publishers with a persistent connection, without an HTTP framework.

The usual request, a POST with a Content-Length to the broadcast path, costs 4 µs here, without a task and an ASGI
scope; all requests of one read are published, and answered in one write. A connection with a request of another form is
handed over to uvicorn, with all bytes from that request on.
Knows: connections, requests. Does not know: what a publication is, who receives it.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

import msgspec

from catenary.api.access import ApiResponse
from catenary.api.broadcast import BroadcastRules
from catenary.api.refusals import ApiRefusals, is_refusal
from catenary.edge.connection import ClientConnection, PortState, UvicornContext
from catenary.edge.proxies import TrustedProxies
from catenary.edge.request import Peer
from catenary.edge.routes import Fallback
from catenary.edge.sniffer import at_last
from catenary.errors import RequestRefused
from catenary.messages.environment import Requester
from catenary.ports import Watch
from catenary.wire.http1 import END_OF_HEADERS, MAX_HEADER_BYTES, RequestHead, read_request, refusal
from catenary.wire.request_memory import RequestMemory, too_many

USUAL_BODY_BYTES: Final = 1024 * 1024
"""Larger bodies arrive in many pieces; uvicorn and ``BroadcastEndpoint`` read them."""

_PHRASES: Final = {
    201: b"Created",
    401: b"Unauthorized",
    413: b"Content Too Large",
    422: b"Unprocessable Content",
    429: b"Too Many Requests",
    503: b"Service Unavailable",
}
_CREATED: Final = b"HTTP/1.1 201 Created\r\ncontent-length: 0\r\n\r\n"
_UNUSUAL: Final = frozenset({"transfer-encoding", "expect", "upgrade", "origin"})


class IntakeRules(msgspec.Struct, frozen=True):
    """The state that all connections of publishers share; ``memory`` limits their incomplete requests. ``proxies`` finds the
    publishers behind proxies; None if no proxy is trusted."""

    path: str
    broadcasts: BroadcastRules
    watch: Watch
    memory: RequestMemory
    refusals: ApiRefusals
    proxies: TrustedProxies | None = None


class IntakeFallback:
    """Satisfies :data:`catenary.edge.routes.Fallback`: serves the broadcast path, passes other paths on."""

    __slots__ = ("_otherwise", "_rules")

    def __init__(self, rules: IntakeRules, otherwise: Fallback) -> None:
        self._rules = rules
        self._otherwise = otherwise

    def __call__(
        self, connection: ClientConnection, uvicorn: UvicornContext, path: str, data: bytes
    ) -> None:
        if path != self._rules.path:
            self._otherwise(connection, uvicorn, path, data)
            return
        sniffer = connection.stage

        def hand_over(data: bytes) -> None:
            # As it was when the sniffer chose this fallback.
            connection.stage = sniffer
            self._otherwise(connection, uvicorn, path, data)

        stage = IntakeStage(
            self._rules, connection.transport, hand_over, connection.peer, uvicorn.server_state
        )
        connection.enter(stage, data)


class IntakeStage:
    """One publisher's connection, as long as its requests have the usual form.

    Satisfies :class:`catenary.edge.connection.Stage`. ``hand_over`` passes the connection to uvicorn, from
    the given bytes on. ``peer`` returns the other end of the connection; ``port`` says whether it may be kept open.
    """

    __slots__ = (
        "_hand_over",
        "_is_closing",
        "_is_handed_over",
        "_missing",
        "_peer",
        "_pending",
        "_port",
        "_rules",
        "_task",
        "_transport",
        "_unread",
    )

    is_client: Final = False

    def __init__(
        self,
        rules: IntakeRules,
        transport: asyncio.Transport,
        hand_over: Callable[[bytes], None],
        peer: Callable[[], Peer],
        port: PortState,
    ) -> None:
        self._rules = rules
        self._peer = peer
        self._port = port
        self._transport = transport
        self._hand_over = hand_over
        # An incomplete request, and how many bytes of its body are missing: 0 while its head is incomplete.
        self._pending = bytearray()
        self._missing = 0
        # Bytes still to be skipped: the body of a request that was refused by its head.
        self._unread = 0
        self._task: asyncio.Task[None] | None = None
        self._is_closing = False
        self._is_handed_over = False

    # Stage

    def begin(self, rest: bytes) -> None:
        self.receive(rest)

    def receive(self, data: bytes) -> None:
        if self._unread:
            data = self._skip_refused(data)
            if not data:
                return
        if self._pending or self._task is not None:
            data = self._append(data)
        if data:
            self._handle(data)

    def eof(self) -> bool:
        """Closes the connection after the answers that were written."""
        return False

    def pause_writing(self) -> None:
        """Stops reading from a publisher that does not read its answers."""
        self._transport.pause_reading()

    def resume_writing(self) -> None:
        if self._task is None and not self._transport.is_closing():
            self._transport.resume_reading()

    def lost(self, exc: Exception | None) -> None:
        self._rules.watch.forget(self)
        self._rules.memory.release(self)
        if self._task is not None:
            self._task.cancel()

    # Incomplete requests

    def _skip_refused(self, data: bytes) -> bytes:
        """Skips the refused body; returns the bytes after it."""
        count = min(self._unread, len(data))
        self._unread -= count
        if not self._unread:
            self._continue(None)
        return data[count:] if not self._is_closing else b""

    def _append(self, data: bytes) -> bytes:
        """Appends to the incomplete request. Returns all of it once its head or body is complete, else nothing."""
        pending = self._pending
        seen = max(len(pending) - len(END_OF_HEADERS) + 1, 0)
        pending += data
        if self._task is not None:
            return b""
        if self._missing > len(data):
            self._missing -= len(data)
            self._rules.watch.watch(self)
        elif self._missing or END_OF_HEADERS in pending[seen:] or len(pending) > MAX_HEADER_BYTES:
            return self._take_pending()
        self._rules.memory.hold(self, len(pending))
        return b""

    def _take_pending(self) -> bytes:
        self._rules.memory.release(self)
        data = bytes(self._pending)
        self._pending.clear()
        self._missing = 0
        return data

    def _keep(self, data: bytes, missing: int) -> None:
        self._pending += data
        self._missing = missing
        self._rules.memory.hold(self, len(data))

    def give_up(self) -> None:
        """Other requests need the memory (:class:`catenary.wire.request_memory.Holder`)."""
        self._pending.clear()
        self._transport.write(refusal(too_many()))
        self._transport.close()

    # Requests

    def _handle(self, data: bytes) -> None:
        """Handles all complete requests in order, and answers them in one write."""
        answers: list[bytes] = []
        waiting: Awaitable[None] | None = None
        is_usual = True
        at = missing = 0
        check = self._rules.broadcasts.access.check
        while at < len(data) and waiting is None and not self._is_closing:
            end = data.find(END_OF_HEADERS, at)
            if end == -1:
                is_usual = len(data) - at <= MAX_HEADER_BYTES
                break
            request = _usual(data[at:end], self._rules.path)
            if request is None:
                is_usual = False
                break
            start = end + len(END_OF_HEADERS)
            stop = start + int(request.headers["content-length"])
            refused = check(request.method, request.headers.get("authorization", ""))
            if refused is None and stop > len(data):
                missing = stop - len(data)
                break
            self._is_closing |= request.headers.get("connection", "").lower() == "close"
            at = min(stop, len(data))
            if refused is not None:
                # Its body is skipped, however large it is.
                self._unread = stop - at
                answers.append(self._written(refused, request))
            else:
                waiting = self._publish(data[start:stop], request, answers)
        if waiting is None and at == len(data):
            self._is_closing |= not self._port.keeps_connections
        if answers:
            if self._is_closing and waiting is None:
                answers[-1] = _last(answers[-1])
            self._transport.write(b"".join(answers))
        if not is_usual:
            self._hand_on(data[at:])
            return
        if at < len(data) and not self._is_closing:
            self._keep(data[at:], missing)
        self._continue(waiting)

    def _publish(
        self, body: bytes, request: RequestHead, answers: list[bytes]
    ) -> Awaitable[None] | None:
        """Publishes one body; returns what must be awaited before it is answered."""
        broadcasts = self._rules.broadcasts
        publisher = self._publisher(request) if broadcasts.is_limited else ""
        taken = broadcasts.take(body, request.headers, publisher)
        if isinstance(taken, ApiResponse):
            answers.append(self._written(taken, request))
            return None
        return taken

    def _written(self, answer: ApiResponse, request: RequestHead | None = None) -> bytes:
        """Writes an answer, and reports a refusal. Requests of the usual form have no origin."""
        if answer.status == 201:
            return _CREATED
        if is_refusal(answer.status):
            requester = Requester(self._publisher(request), "POST", self._rules.path)
            self._rules.refusals.note(requester, answer.status, answer.error)
        return _response(answer)

    def _publisher(self, request: RequestHead | None) -> str:
        """The address of the publisher; without a request, that of the last proxy."""
        peer, proxies = self._peer(), self._rules.proxies
        if request is not None and proxies is not None:
            _, peer = proxies.client(request, peer)
        return peer.address

    def _continue(self, waiting: Awaitable[None] | None) -> None:
        """Waits for a publication, closes the connection, or waits for the next request."""
        watch = self._rules.watch
        if waiting is not None:
            watch.forget(self)
            # The publisher waits for the server, so no timeout applies.
            self._rules.memory.release(self)
            self._transport.pause_reading()
            self._task = asyncio.get_running_loop().create_task(self._answer_later(waiting))
        elif self._is_closing and not self._unread:
            self._transport.close()
        else:
            watch.watch(self)

    def _hand_on(self, data: bytes) -> None:
        """Passes the connection on, from these bytes on."""
        self._rules.watch.forget(self)
        self._is_handed_over = True
        self._hand_over(data)

    async def _answer_later(self, waiting: Awaitable[None]) -> None:
        """Answers when the publication was sent. Until then nothing is read: this slows publishers down when deliveries,
        Redis or NATS do not keep up."""
        answer = await self._rules.broadcasts.answer(waiting)
        self._task = None
        written = self._written(answer)
        if not self._pending:
            self._is_closing |= not self._port.keeps_connections
        self._transport.write(_last(written) if self._is_closing else written)
        if not self._transport.is_closing():
            self._transport.resume_reading()
            self._handle(self._take_pending())

    # The end

    def time_out(self) -> None:
        """Idle for too long, or a request was not completed in time."""
        self._transport.close()

    def shutdown(self) -> None:
        """Called by uvicorn when the server stops: a request in progress, or on its way, is still answered."""
        at_last(self._end)

    def _end(self) -> None:
        self._is_closing = True
        if self._task is None and not self._is_handed_over:
            self._transport.close()


def _usual(head: bytes, path: str) -> RequestHead | None:
    """Reads a request of the usual form; None for any other, which uvicorn reads."""
    try:
        request = read_request(head)
    except RequestRefused:
        return None
    headers = request.headers
    length = headers.get("content-length", "")
    if (
        request.is_http_1_0
        or request.method != "POST"
        or request.path != path
        or not _UNUSUAL.isdisjoint(headers)
    ):
        return None
    if not length.isdecimal() or len(length) > 9 or int(length) > USUAL_BODY_BYTES:
        return None
    return request


def _response(answer: ApiResponse) -> bytes:
    body = answer.body
    headers = "".join(f"{name}: {value}\r\n" for name, value in answer.headers).encode()
    return b"HTTP/1.1 %d %b\r\n%bcontent-length: %d\r\ncontent-type: application/json\r\n\r\n%b" % (
        answer.status,
        _PHRASES[answer.status],
        headers,
        len(body),
        body,
    )


def _last(answer: bytes) -> bytes:
    """Adds ``Connection: close`` to an answer after which the connection is closed. Source: RFC 9112, section 9.6."""
    return answer.replace(END_OF_HEADERS, b"\r\nconnection: close" + END_OF_HEADERS, 1)
