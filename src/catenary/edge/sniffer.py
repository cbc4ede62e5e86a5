"""The first stage of a connection: reads the head of its first request and opens the endpoint of its path.

Knows: request heads, the route table, the handshake queue, deadlines. Does not know: which clients may connect, what an
endpoint does.
"""

import asyncio
import functools
from collections.abc import Callable
from time import perf_counter
from typing import Final, cast

import msgspec

from catenary.edge.connection import ClientConnection, UvicornContext
from catenary.edge.deadlines import Deadlines
from catenary.edge.handshake_queue import HandshakeQueue
from catenary.edge.proxies import TrustedProxies
from catenary.edge.refusals import Refusals, unavailable
from catenary.edge.request import requester_of
from catenary.edge.routes import Endpoint, Fallback, RouteTable
from catenary.errors import RequestRefused
from catenary.messages.environment import Requester
from catenary.metrics.counters import Counters
from catenary.wire import http1
from catenary.wire.proxy_protocol import begins_header
from catenary.wire.request_memory import RequestMemory, too_many

LAST_REQUEST_S: Final = 0.5
"""At a shutdown, how long an accepted connection may take to bring its request.

Its client can't know that this server was about to stop, and most would report a closed connection as an error."""


def at_last(end: Callable[[], None]) -> None:
    """Calls ``end`` after :data:`LAST_REQUEST_S`.

    A timer that is late because the loop was busy is called before the loop reads what has arrived meanwhile; a second
    one is called afterwards.
    """
    loop = asyncio.get_running_loop()
    loop.call_later(LAST_REQUEST_S, loop.call_later, 0.001, end)


class HeadLimits(msgspec.Struct, frozen=True):
    """Limits of a request head, in bytes and in lines."""

    max_bytes: int = http1.MAX_HEADER_BYTES
    max_lines: int = http1.MAX_HEADERS


class Port(msgspec.Struct, frozen=True, eq=False, kw_only=True):
    """Shared by all connections of one port.

    ``fallback`` serves the paths that are not in ``routes``; ``late_fallback`` does so for an upgrade that follows other
    requests on its connection. ``proxies`` finds the clients of proxies; None if no proxy is trusted.
    """

    routes: RouteTable[Endpoint]
    fallback: Fallback
    late_fallback: Fallback
    queue: HandshakeQueue
    deadlines: Deadlines
    memory: RequestMemory
    head: HeadLimits
    counters: Counters
    refusals: Refusals
    proxies: TrustedProxies | None = None


class RequestSniffer:
    """Satisfies :class:`catenary.edge.connection.Stage`."""

    __slots__ = ("_connection", "_head", "_is_last", "_port", "_uvicorn")

    is_client: Final = False

    def __init__(self, port: Port, connection: ClientConnection, uvicorn: UvicornContext) -> None:
        self._port = port
        self._connection = connection
        self._uvicorn = uvicorn
        # The part of the request that was received
        self._head: bytes | bytearray = b""
        # Whether the server is shutting down
        self._is_last = False

    def begin(self, rest: bytes) -> None:
        """Called again by a stage that gives the connection back for its next request, whose first bytes are ``rest``."""
        self._port.deadlines.watch(self)
        if rest:
            self.receive(rest)

    def receive(self, data: bytes) -> None:
        if self._head:
            self._receive_more(data)
        else:
            self._look(data, 0)

    def is_for_endpoint(self, data: bytes) -> bool:
        """Whether the request that begins with ``data`` belongs to an endpoint; also if its first line is not complete, so
        that nobody knows yet."""
        if b"\n" not in data:
            return True
        path = _path(data)
        return path is not None and self._port.routes.find(path) is not None

    def _receive_more(self, data: bytes) -> None:
        """Appends in place and searches the new bytes only: a head that arrives byte by byte must not be copied and
        searched each time."""
        if type(self._head) is not bytearray:
            self._head = bytearray(self._head)
        head, port = self._head, self._port
        seen = max(len(head) - len(http1.END_OF_HEADERS) + 1, 0)
        head += data
        if self not in port.queue:
            self._look(head, seen)
        elif len(head) > 2 * port.head.max_bytes:
            # Reading continues, to notice when the client leaves; the client must not fill the memory meanwhile.
            self._refuse(RequestRefused(400, "expected a client that waits for its response"))
        else:
            port.memory.hold(self, len(head))

    def _look(self, data: bytes | bytearray, seen: int) -> None:
        """Dispatches the request once its head is complete; the search for its end starts at ``seen``."""
        end = data.find(http1.END_OF_HEADERS, seen)
        limit = self._port.head.max_bytes
        if end == -1 and len(data) <= limit:
            # Kept here for every path, because only here an incomplete head times out.
            self._head = data
            self._port.memory.hold(self, len(data))
        elif end == -1 or end > limit:
            self._refuse(RequestRefused(431, f"expected a request head of up to {limit} bytes"))
        else:
            self._dispatch(bytes(data), end)

    def _dispatch(self, data: bytes, end: int) -> None:
        path = _path(data)
        endpoint = None if path is None else self._port.routes.find(path)
        if endpoint is None and begins_header(data):
            self._head = data
            self._refuse(_unexpected_header())
        elif endpoint is None and path is not None:
            self._fall_back(path, data)
        else:
            self._queue(endpoint, data, end)

    # Endpoints

    def _queue(self, endpoint: Endpoint | None, data: bytes, end: int) -> None:
        """Opens the endpoint now or in a later turn. An invalid request line has no endpoint: the request is refused in its
        turn."""
        port = self._port
        self._head = data
        if not port.queue.enter(self, functools.partial(self._open, endpoint, end, perf_counter())):
            self._refuse(unavailable("too many handshakes"))
        elif self in port.queue:
            port.memory.hold(self, len(data))

    def _open(self, endpoint: Endpoint | None, end: int, asked_at: float) -> None:
        data = bytes(self._head)
        try:
            request = http1.read_request(data[:end], self._port.head.max_lines)
            if endpoint is None:
                raise RequestRefused(400, "expected a path in the request line")
            connection = self._connection
            peer = connection.peer(asked_at)
            if self._port.proxies is not None:
                request, peer = self._port.proxies.client(request, peer)
            stage = endpoint.open(request, peer, connection)
        except RequestRefused as refused:
            self._refuse(_unexpected_header() if begins_header(data) else refused)
            return
        self._uvicorn.server_state.total_requests += 1  # as uvicorn does for its own
        self._leave()
        if request.expects_continue:
            connection.transport.write(http1.CONTINUE)
        connection.enter(stage, data[end + len(http1.END_OF_HEADERS) :])
        if self._is_last:
            connection.shutdown()

    # Paths without an endpoint

    def _fall_back(self, path: str, data: bytes) -> None:
        self._leave()
        transport = self._connection.transport
        try:
            self._fallback(self._connection, self._uvicorn, path, data)
        except RequestRefused as refused:
            self._head = data
            self._refuse(refused)
            return
        if self._is_last:
            # Another stage, or uvicorn's protocol
            cast("ClientConnection", transport.get_protocol()).shutdown()

    @property
    def _fallback(self) -> Fallback:
        return self._port.fallback

    # Ends

    def _leave(self) -> None:
        """Releases the memory and leaves the queue and the deadlines."""
        port = self._port
        port.deadlines.forget(self)
        port.queue.leave(self)
        port.memory.release(self)
        self._head = b""

    def give_up(self) -> None:
        """Gives up for lack of memory (:class:`catenary.wire.request_memory.Holder`)."""
        self._refuse(too_many())

    def _refuse(self, refused: RequestRefused) -> None:
        self._port.refusals.note(refused, self._requester())
        is_head = self._head.startswith(b"HEAD ")
        self._leave()
        transport = self._connection.transport
        transport.write(http1.refusal(refused, is_head=is_head))
        transport.close()

    def _requester(self) -> Requester:
        """The sender, as far as the head can be read."""
        peer = self._connection.peer()
        if begins_header(bytes(self._head)):
            return Requester(peer.address)
        head = bytes(self._head).partition(http1.END_OF_HEADERS)[0]
        try:
            request = http1.read_request(head, self._port.head.max_lines)
        except RequestRefused:
            return Requester(peer.address, path=_path(head) or "")
        if self._port.proxies is not None:
            request, peer = self._port.proxies.client(request, peer)
        return requester_of(request, peer)

    def time_out(self) -> None:
        """The client did not send a whole head in time, or waited too long in the queue."""
        self._port.counters.late_handshakes_total += 1
        if self in self._port.queue:
            self._refuse(unavailable("too many handshakes"))
        elif self._head:
            seconds = self._port.deadlines.timeout_s
            self._refuse(RequestRefused(408, f"expected a request within {seconds:g} s"))
        else:
            self._connection.transport.close()

    def eof(self) -> bool:
        """No response is pending yet."""
        return False

    def pause_writing(self) -> None:
        """Does nothing: at most one response is written."""

    def resume_writing(self) -> None:
        """See :meth:`pause_writing`."""

    def lost(self, exc: Exception | None) -> None:
        self._leave()

    def shutdown(self) -> None:
        """Serves one request that is on its way, and ends the connection."""
        self._is_last = True
        transport = self._connection.transport
        at_last(functools.partial(self._end, transport))

    def _end(self, transport: asyncio.Transport) -> None:
        if self in self._port.deadlines:
            transport.close()


class LateUpgradeSniffer(RequestSniffer):
    """For an upgrade on a connection that uvicorn has served before.

    uvicorn calls data_received() of the new protocol before it gives that to the transport: the bytes are read in the
    next turn of the loop.
    """

    __slots__ = ()

    def receive(self, data: bytes) -> None:
        transport = self._connection.transport
        asyncio.get_running_loop().call_soon(self._receive_later, transport, data)

    def _receive_later(self, transport: asyncio.Transport, data: bytes) -> None:
        if not transport.is_closing():
            super().receive(data)

    @property
    def _fallback(self) -> Fallback:
        return self._port.late_fallback


def _unexpected_header() -> RequestRefused:
    """Says what is wrong where the grammar of requests would be a riddle."""
    return RequestRefused(400, "expected no PROXY protocol header from this peer")


def _path(head: bytes) -> str | None:
    """The path of a complete head; None if its first line can't be read."""
    words = head.split(b" ", 2)
    if len(words) < 2:
        return None
    target = words[1].decode("latin-1")
    if not target.startswith("/"):
        try:
            target = http1.origin_form(target)[2]
        except RequestRefused:
            return None
    path, query, _ = target.partition("?")
    return path if query or len(words) == 3 else None
