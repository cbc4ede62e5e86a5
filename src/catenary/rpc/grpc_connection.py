"""One connection to one gRPC server. All calls of a turn of the loop leave in one write.

Sources: PROTOCOL-HTTP2.md and keepalive.md (grpc/grpc, doc/).
Knows: a transport, calls under way. Does not know: other connections, what a call is about.
"""

import asyncio
import ssl
from typing import Protocol, cast

import msgspec

from catenary.errors import AppError
from catenary.rpc import grpc_status
from catenary.wire import http2, http2_events
from catenary.wire.http2_frames import REFUSED_STREAM, Http2Error


class GrpcTimeouts(msgspec.Struct, frozen=True):
    """Time limits and intervals of connections, in seconds. The defaults are the reference's, or gRPC's."""

    connect_s: float = 3.0
    """For TCP, TLS and the server's HTTP/2 settings together."""
    keepalive_s: float = 10.0
    """Silence after which the server is sent a PING."""
    silence_s: float = 20.0
    """Time after the PING until the connection counts as dead."""
    first_backoff_s: float = 0.1
    longest_backoff_s: float = 1.0
    least_between_lookups_s: float = 5.0
    most_between_lookups_s: float = 30.0
    shut_s: float = 1.0
    """How long calls wait for a server that allows no streams, until it is connected to again.

    RFC 9113, section 6.5.2: a server should allow none for short durations only."""
    goodbye_s: float = 1.0
    """For written data to leave before a connection is aborted."""


class ConnectionPool(Protocol):
    """Gives calls to connections."""

    connections: "set[GrpcConnection]"
    """The connections that exist."""

    def submit(self, call: "GrpcAttempt", /) -> None:
        """Takes a call, or takes back one that a server did not begin. Raises AppError."""
        ...

    def withdraw(self, call: "GrpcAttempt", /) -> None:
        """Drops a call: its answer is no longer wanted."""
        ...

    def dispatch(self) -> None:
        """A connection may have room for another call."""
        ...


class ResponseHandler(Protocol):
    """Receives the result of an attempt; :class:`catenary.rpc.calls.RpcCall` is one."""

    def answered(self, raw: bytes) -> None:
        """The answer is there."""
        ...

    def failed(self, error: Exception) -> None:
        """The attempt ended without one."""
        ...


class GrpcAttempt:
    """A call that is sent once, from its submission until its handler has the result."""

    __slots__ = (
        "body",
        "connection",
        "expires_at",
        "fields",
        "handler",
        "path",
        "pool",
        "stream_id",
        "was_refused",
    )

    def __init__(
        self, handler: ResponseHandler, path: bytes, fields: bytes, body: bytes, expires_at: float
    ) -> None:
        self.handler = handler
        self.path = path
        self.fields = fields
        """Encoded header fields of this call alone."""
        self.body = body
        self.expires_at = expires_at
        """By the loop's clock."""
        self.pool: ConnectionPool | None = None
        """The pool that has taken it."""
        self.connection: GrpcConnection | None = None
        """None while the call waits for one."""
        self.stream_id = 0
        self.was_refused = False

    def cancel(self) -> None:
        """Drops a call: its answer is no longer wanted."""
        if self.pool is not None:
            self.pool.withdraw(self)


class GrpcConnection(asyncio.Protocol):
    """The loop connects it; the result of ``opened`` is whether the server speaks HTTP/2."""

    __slots__ = (
        "_calls",
        "_has_received",
        "_is_ending",
        "_is_flush_planned",
        "_is_paused",
        "_keepalive_s",
        "_loop",
        "_pool",
        "_shut_timer",
        "_timeouts",
        "_timer",
        "_transport",
        "core",
        "ending",
        "goodbye",
        "lost",
        "opened",
        "reason",
        "was_shut",
    )

    def __init__(
        self,
        core: http2.Http2Connection,
        *,
        timeouts: GrpcTimeouts,
        keepalive_s: float,
        pool: ConnectionPool,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self.core = core
        self._timeouts = timeouts
        self._keepalive_s = keepalive_s
        self._pool = pool
        self._calls: dict[int, GrpcAttempt] = {}
        self._transport: asyncio.Transport | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._shut_timer: asyncio.TimerHandle | None = None
        self.reason = ""
        self.was_shut = False
        """Was it ended because its server allowed no streams?"""

        self._is_flush_planned = False
        self._is_paused = False
        self._has_received = False
        self._is_ending = False

        self.opened: asyncio.Future[bool] = self._loop.create_future()
        """Whether calls can be made; if not, ``reason`` is the cause."""
        self.goodbye: http2_events.GoingAway | None = None
        self.ending: asyncio.Future[None] = self._loop.create_future()
        """Done when it takes no more calls, though some may still be answered."""
        self.lost: asyncio.Future[None] = self._loop.create_future()
        """Done when it is closed."""

    # Calls

    @property
    def calls(self) -> tuple[GrpcAttempt, ...]:
        return tuple(self._calls.values())

    def has(self, call: GrpcAttempt) -> bool:
        """Whether it is under way here."""
        return self._calls.get(call.stream_id) is call

    def start(self, call: GrpcAttempt) -> None:
        """Sends a call at the end of this turn of the loop. There must be room."""
        stream_id = self.core.request(call.path, call.fields, call.body)
        call.connection = self
        call.stream_id = stream_id
        self._calls[stream_id] = call
        if not self._is_flush_planned:
            self._is_flush_planned = True
            self._loop.call_soon(self._flush)

    def abandon(self, call: GrpcAttempt) -> None:
        """Drops a call; an answer that still comes is ignored."""
        if self._calls.pop(call.stream_id, None) is not None:
            self.core.cancel(call.stream_id)
            self._plan_flush()
            self._pool.dispatch()
            self._end_if_done()

    def await_room(self) -> None:
        """Calls wait for room. If the server allows no streams for a while, the connection ends: another server may be
        there."""
        if self._shut_timer is None and self.core.is_shut:
            self._shut_timer = self._loop.call_later(self._timeouts.shut_s, self._end_if_shut)

    def _end_if_shut(self) -> None:
        self._shut_timer = None
        if self.core.is_shut:
            self.was_shut = True
            self._settle(self.ending)

    def retire(self) -> None:
        """Takes no more calls, and closes when those under way have ended."""
        self._settle(self.ending)
        self._end_if_done()

    def fail(self, error: AppError) -> None:
        """Closes now, and fails the calls under way."""
        self._fail_calls(error)
        self._end()

    # asyncio calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are no subclasses of asyncio.Transport.
        self._transport = cast(asyncio.Transport, transport)
        self._pool.connections.add(self)
        encryption: ssl.SSLObject | None = transport.get_extra_info("ssl_object")
        if encryption is not None and encryption.selected_alpn_protocol() != "h2":
            self._break("expected a server that agrees to HTTP/2 in TLS (ALPN h2)")
            return
        self._flush()

    def data_received(self, data: bytes) -> None:
        self._has_received = True
        self._is_flush_planned = True  # one write, below, for all that the answers cause
        for event in self.core.receive(data):
            if type(event) is http2_events.Response:
                call = self._calls.pop(event.stream_id)
                try:
                    raw = grpc_status.payload(event)
                except AppError as error:
                    call.handler.failed(error)
                else:
                    call.handler.answered(raw)
            else:
                self._note(event)
        self._pool.dispatch()
        self._flush()
        if self.ending.done() or self.core.is_going_away:
            self._settle(self.ending)
            self._end_if_done()

    def pause_writing(self) -> None:
        self._is_paused = True

    def resume_writing(self) -> None:
        self._is_paused = False
        self._flush()

    def connection_lost(self, error: Exception | None) -> None:
        self._transport = None
        for timer in (self._timer, self._shut_timer):
            if timer is not None:
                timer.cancel()
        self.core.close()
        if not self.reason:
            self.reason = str(error) if error else "the server closed the connection"
        if not self.opened.done():
            self.opened.set_result(False)
        self._settle(self.ending)
        self._fail_calls(grpc_status.failure("UNAVAILABLE", self.reason))
        self._pool.connections.discard(self)
        self._settle(self.lost)

    # Events of the protocol

    def _note(self, event: http2_events.Event) -> None:
        match event:
            case http2_events.Reset(stream_id=stream_id, code=code):
                call = self._calls.pop(stream_id)
                if code == REFUSED_STREAM and not call.was_refused:
                    self._resubmit(call)
                else:
                    call.handler.failed(grpc_status.reset(event))
            case http2_events.Oversized(stream_id=stream_id):
                limit = self.core.max_body_bytes - grpc_status.PREFIX_BYTES
                self._calls.pop(stream_id).handler.failed(grpc_status.oversized("received", limit))
            case http2_events.Opened():
                if not self.opened.done():
                    self.opened.set_result(True)
                self._timer = self._loop.call_later(self._keepalive_s, self._send_keepalive)
            case http2_events.GoingAway():
                self.goodbye = event
            case Http2Error():
                self._break(str(event))

    def _resubmit(self, call: GrpcAttempt) -> None:
        """The server did not begin the call: another connection may take it, once."""
        call.was_refused = True
        call.connection = None
        try:
            self._pool.submit(call)
        except AppError as error:
            call.handler.failed(error)

    def _send_keepalive(self) -> None:
        """Sends a PING if nothing was received since the last check."""
        if self._has_received:
            self._has_received = False
            wait_s, then = self._keepalive_s, self._send_keepalive
        else:
            self.core.ping()
            self._plan_flush()
            wait_s, then = self._timeouts.silence_s, self._check_keepalive
        self._timer = self._loop.call_later(wait_s, then)

    def _check_keepalive(self) -> None:
        if self._has_received:
            self._send_keepalive()
            return
        self.reason = f"no sign of life for {self._timeouts.silence_s:.0f} s"
        self.abort()

    # The end

    def _break(self, reason: str) -> None:
        """The server has broken the protocol."""
        self.reason = reason
        self._fail_calls(grpc_status.failure("UNAVAILABLE", reason))
        self._end()

    def _end_if_done(self) -> None:
        if not self._calls and self.ending.done():
            self._end()

    def _end(self) -> None:
        """Sends GOAWAY and closes; aborts the connection if that takes too long."""
        if self._is_ending or self._transport is None:
            return
        self._is_ending = True
        self._settle(self.ending)
        self.core.close()
        self._is_paused = False
        self._flush()
        self._transport.close()
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_later(self._timeouts.goodbye_s, self.abort)

    def abort(self) -> None:
        """Aborts the connection, if there is one."""
        transport = self._transport
        if transport is not None:
            self._is_ending = True
            transport.abort()
            if not transport.is_closing():
                # uvloop closes a transport without a call of connection_lost, and with no sign but this, when
                # create_connection is cancelled in the moment the connection was made.
                self.connection_lost(None)

    def _fail_calls(self, error: AppError) -> None:
        calls = self.calls
        self._calls.clear()
        for call in calls:
            call.handler.failed(error)

    def _plan_flush(self) -> None:
        if self.core.has_output and not self._is_flush_planned:
            self._is_flush_planned = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._is_flush_planned = False
        # A transport of uvloop that is closed, by this side or by the server, raises when it is written to, and
        # ``connection_lost`` is called only in a later turn of the loop.
        if self._transport is None or self._is_paused or self._transport.is_closing():
            return
        data = self.core.data_to_send()
        if data:
            self._transport.write(data)

    @staticmethod
    def _settle(future: asyncio.Future[None]) -> None:
        if not future.done():
            future.set_result(None)
