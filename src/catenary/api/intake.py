"""Publishers who keep a connection open: their requests, answered without an HTTP framework.

The usual request, a POST with a length to the path of broadcasts, costs 4 µs here, without a task
and an ASGI scope; what comes in one read is published, and answered, in one go. Whatever has
another form is handed, with all bytes that follow, to those who know it.
Knows: connections. Does not know: what a publication is, who hears it.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

import msgspec

from catenary.api.access import Answer
from catenary.api.broadcast import Broadcasts
from catenary.errors import RequestRefused
from catenary.ports import Watch
from catenary.wire.http1 import END_OF_HEADERS, MAX_HEADER_BYTES, Request, read_request

USUAL_BODY_BYTES: Final = 1024 * 1024
"""A larger body comes in many pieces, which others gather better."""

_PHRASES: Final = {
    201: b"Created",
    401: b"Unauthorized",
    413: b"Content Too Large",
    422: b"Unprocessable Content",
    503: b"Service Unavailable",
}
_CREATED: Final = b"HTTP/1.1 201 Created\r\ncontent-length: 0\r\n\r\n"
_UNUSUAL: Final = frozenset({"transfer-encoding", "expect", "upgrade", "origin"})


class IntakeRules(msgspec.Struct, frozen=True):
    """What the connections of all publishers share."""

    path: str
    broadcasts: Broadcasts
    watch: Watch


class IntakeConnection(asyncio.Protocol):
    """One publisher's connection, as long as its requests are the usual ones.

    ``hand_over`` takes the connection from the bytes given onwards; ``connections`` is uvicorn's set.
    """

    __slots__ = (
        "_connections",
        "_data",
        "_hand_over",
        "_is_closing",
        "_rules",
        "_task",
        "_transport",
    )

    def __init__(
        self,
        rules: IntakeRules,
        connections: set[object],
        hand_over: Callable[[asyncio.Transport, bytes], None],
    ) -> None:
        self._rules = rules
        self._connections = connections
        self._hand_over = hand_over
        self._transport: asyncio.Transport
        self._data = b""
        self._task: asyncio.Task[None] | None = None
        self._is_closing = False

    def open(self, transport: asyncio.Transport, data: bytes) -> None:
        """Takes a connection over; ``data`` is what it has brought so far."""
        self._transport = transport
        self._connections.add(self)
        transport.set_protocol(self)
        self.data_received(data)

    # asyncio.Protocol

    def data_received(self, data: bytes) -> None:
        self._data = self._data + data if self._data else data
        if self._task is None:
            self._work()

    def eof_received(self) -> None:
        """Answers are still written before the connection is closed."""

    def pause_writing(self) -> None:
        """A publisher that does not read its answers is not read either."""
        self._transport.pause_reading()

    def resume_writing(self) -> None:
        if self._task is None and not self._transport.is_closing():
            self._transport.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        self._connections.discard(self)
        self._rules.watch.forget(self)
        if self._task is not None:
            self._task.cancel()

    # Requests

    def _work(self) -> None:
        """Answers what is complete, in order, in one write."""
        answers: list[bytes] = []
        waiting: Awaitable[None] | None = None
        is_usual = True
        while self._data and waiting is None and not self._is_closing:
            end = self._data.find(END_OF_HEADERS)
            if end == -1:
                is_usual = len(self._data) <= MAX_HEADER_BYTES
                break
            request = _usual(self._data[:end], self._rules.path)
            if request is None:
                is_usual = False
                break
            start = end + len(END_OF_HEADERS)
            stop = start + int(request.headers["content-length"])
            if len(self._data) < stop:
                break
            body, self._data = self._data[start:stop], self._data[stop:]
            self._is_closing |= request.headers.get("connection", "").lower() == "close"
            waiting = self._publish(request, body, answers)
        if answers:
            self._transport.write(b"".join(answers))
        self._go_on(waiting, is_usual=is_usual)

    def _publish(
        self, request: Request, body: bytes, answers: list[bytes]
    ) -> Awaitable[None] | None:
        """Publishes one body; returns what is to be waited for before it is answered."""
        broadcasts = self._rules.broadcasts
        answer = broadcasts.access.check(request.method, request.headers.get("authorization", ""))
        taken = broadcasts.take(body) if answer is None else answer
        if isinstance(taken, Answer):
            answers.append(_written(taken))
            return None
        return taken

    def _go_on(self, waiting: Awaitable[None] | None, *, is_usual: bool) -> None:
        """What comes next on this connection: a wait, a goodbye, somebody else, or more."""
        watch = self._rules.watch
        if waiting is not None:
            watch.forget(self)
            self._transport.pause_reading()
            self._task = asyncio.get_running_loop().create_task(self._answer_later(waiting))
        elif self._is_closing:
            self._transport.close()
        elif is_usual:
            watch.watch(self)
        else:
            watch.forget(self)
            self._connections.discard(self)
            self._hand_over(self._transport, self._data)

    async def _answer_later(self, waiting: Awaitable[None]) -> None:
        """The publisher feels that deliveries, or what keeps them, do not keep up: its answer, and its
        next turn, wait."""
        answer = await self._rules.broadcasts.answer(waiting)
        self._task = None
        self._transport.write(_written(answer))
        if not self._transport.is_closing():
            self._transport.resume_reading()
            self._work()

    # The end

    def time_out(self) -> None:
        """Nothing was asked for a while, or not to the end."""
        self._transport.close()

    def shutdown(self) -> None:
        """Called by uvicorn when the server stops: what is under way is still answered."""
        self._is_closing = True
        if self._task is None:
            self._transport.close()


def _usual(head: bytes, path: str) -> Request | None:
    """A request of the usual form; None for every other, which is no fault."""
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


def _written(answer: Answer) -> bytes:
    if answer.status == 201:
        return _CREATED
    body = answer.body
    return b"HTTP/1.1 %d %b\r\ncontent-length: %d\r\ncontent-type: application/json\r\n\r\n%b" % (
        answer.status,
        _PHRASES[answer.status],
        len(body),
        body,
    )
