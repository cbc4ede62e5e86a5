"""One connection to one server: calls in, answers out, all that a turn of the loop brings at once.

Sources: PROTOCOL-HTTP2.md and keepalive.md (grpc/grpc, doc/).
Knows: a transport, calls under way. Does not know: other connections, what is called.
"""

import asyncio
import ssl
from typing import Protocol, cast

import msgspec

from catenary.errors import AppError
from catenary.rpc import grpc_status
from catenary.wire import http2
from catenary.wire.http2_frames import REFUSED_STREAM, Http2Error


class Pace(msgspec.Struct, frozen=True):
    """How patient connections are, in seconds. The defaults are the reference's, or gRPC's."""

    connect_s: float = 3.0
    """For TCP, TLS and the server's settings together."""
    keepalive_s: float = 10.0
    """Of silence, until the server is asked for a sign of life."""
    silence_s: float = 20.0
    """Without one, until the connection counts as dead."""
    first_backoff_s: float = 0.1
    longest_backoff_s: float = 1.0
    least_between_lookups_s: float = 5.0
    most_between_lookups_s: float = 30.0
    shut_s: float = 1.0
    """That calls wait for a connection whose server allows no streams, until there is another one.

    RFC 9113, section 6.5.2: a server should do so for short durations only."""
    goodbye_s: float = 1.0
    """For what is written to leave before a connection is broken off."""


class Owner(Protocol):
    """Who gives calls to connections."""

    connections: "set[GrpcConnection]"
    """Those that were made and are not lost."""

    def submit(self, call: "GrpcAttempt", /) -> None:
        """Takes a call, also one back that the server did not begin. Raises AppError."""
        ...

    def withdraw(self, call: "GrpcAttempt", /) -> None:
        """Nobody waits for the answer any more."""
        ...

    def dispatch(self) -> None:
        """There may be room for another call."""
        ...


class Asker(Protocol):
    """Who hears what came of an attempt; :class:`catenary.rpc.calls.Call` does."""

    def answered(self, raw: bytes) -> None:
        """It was answered."""
        ...

    def failed(self, error: Exception) -> None:
        """It was not."""
        ...


class GrpcAttempt:
    """A call that is sent once: from when it is to be sent until its asker is told."""

    __slots__ = (
        "asker",
        "body",
        "connection",
        "expires_at",
        "fields",
        "owner",
        "path",
        "stream_id",
        "was_refused",
    )

    def __init__(
        self, asker: Asker, path: bytes, fields: bytes, body: bytes, expires_at: float
    ) -> None:
        self.asker = asker
        self.path = path
        self.fields = fields
        """Header fields of this call alone, as they are sent."""
        self.body = body
        self.expires_at = expires_at
        """By the loop's clock."""
        self.owner: Owner | None = None
        """Who has taken it."""
        self.connection: GrpcConnection | None = None
        """None while it waits for one."""
        self.stream_id = 0
        self.was_refused = False

    def cancel(self) -> None:
        """Nobody waits for the answer any more."""
        if self.owner is not None:
            self.owner.withdraw(self)


class GrpcConnection(asyncio.Protocol):
    """Opened by the loop; ``opened`` tells whether the server speaks HTTP/2."""

    __slots__ = (
        "_calls",
        "_is_ending",
        "_is_flush_planned",
        "_is_heard",
        "_is_paused",
        "_keepalive_s",
        "_loop",
        "_owner",
        "_pace",
        "_shut_timer",
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
        core: http2.Connection,
        *,
        pace: Pace,
        keepalive_s: float,
        owner: Owner,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self.core = core
        self._pace = pace
        self._keepalive_s = keepalive_s
        self._owner = owner
        self._calls: dict[int, GrpcAttempt] = {}
        self._transport: asyncio.Transport | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._shut_timer: asyncio.TimerHandle | None = None
        self.reason = ""
        self.was_shut = False
        """Was it given up because its server allowed no streams?"""

        self._is_flush_planned = False
        self._is_paused = False
        self._is_heard = False
        self._is_ending = False

        self.opened: asyncio.Future[bool] = self._loop.create_future()
        """Done when it is known whether calls can be made; if not, ``reason`` tells why."""
        self.goodbye: http2.GoingAway | None = None
        self.ending: asyncio.Future[None] = self._loop.create_future()
        """Done when no more calls can be made, though some may still be answered."""
        self.lost: asyncio.Future[None] = self._loop.create_future()
        """Done when nothing is left of it."""

    # Calls

    @property
    def calls(self) -> tuple[GrpcAttempt, ...]:
        return tuple(self._calls.values())

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
        """Wants no answer any more."""
        if self._calls.pop(call.stream_id, None) is not None:
            self.core.cancel(call.stream_id)
            self._plan_flush()
            self._owner.dispatch()
            self._end_if_done()

    def await_room(self) -> None:
        """Calls wait: a server that allows none for a while is given up, for there may be another."""
        if self._shut_timer is None and self.core.is_shut:
            self._shut_timer = self._loop.call_later(self._pace.shut_s, self._judge_shut)

    def _judge_shut(self) -> None:
        self._shut_timer = None
        if self.core.is_shut:
            self.was_shut = True
            self._settle(self.ending)

    def retire(self) -> None:
        """Ends when the calls under way have ended."""
        self._settle(self.ending)
        self._end_if_done()

    def break_off(self, error: AppError) -> None:
        """Ends now, and so do the calls under way."""
        self._fail_calls(error)
        self._end()

    # asyncio calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are no subclasses of asyncio.Transport.
        self._transport = cast(asyncio.Transport, transport)
        self._owner.connections.add(self)
        encryption: ssl.SSLObject | None = transport.get_extra_info("ssl_object")
        if encryption is not None and encryption.selected_alpn_protocol() != "h2":
            self._break("expected a server that agrees to HTTP/2 in TLS (ALPN h2)")
            return
        self._flush()

    def data_received(self, data: bytes) -> None:
        self._is_heard = True
        self._is_flush_planned = True  # for all that answers bring about: below
        for event in self.core.receive(data):
            if type(event) is http2.Response:
                call = self._calls.pop(event.stream_id)
                try:
                    raw = grpc_status.payload(event)
                except AppError as error:
                    call.asker.failed(error)
                else:
                    call.asker.answered(raw)
            else:
                self._note(event)
        self._owner.dispatch()
        self._flush()
        if self.ending.done() or self.core.is_going:
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
        self._owner.connections.discard(self)
        self._settle(self.lost)

    # What happens

    def _note(self, event: http2.Event) -> None:
        match event:
            case http2.Reset(stream_id=stream_id, code=code):
                call = self._calls.pop(stream_id)
                if code == REFUSED_STREAM and not call.was_refused:
                    self._give_back(call)
                else:
                    call.asker.failed(grpc_status.reset(event))
            case http2.Oversized(stream_id=stream_id):
                limit = self.core.max_body_bytes - grpc_status.PREFIX_BYTES
                self._calls.pop(stream_id).asker.failed(grpc_status.oversized("received", limit))
            case http2.Opened():
                if not self.opened.done():
                    self.opened.set_result(True)
                self._timer = self._loop.call_later(self._keepalive_s, self._ask_for_life)
            case http2.GoingAway():
                self.goodbye = event
            case Http2Error():
                self._break(str(event))

    def _give_back(self, call: GrpcAttempt) -> None:
        """The server says that it did not begin it: another connection may take it, once."""
        call.was_refused = True
        call.connection = None
        try:
            self._owner.submit(call)
        except AppError as error:
            call.asker.failed(error)

    def _ask_for_life(self) -> None:
        """Nothing was heard for a while, or else there is no need to ask."""
        if self._is_heard:
            self._is_heard = False
            wait_s, then = self._keepalive_s, self._ask_for_life
        else:
            self.core.ping()
            self._plan_flush()
            wait_s, then = self._pace.silence_s, self._judge_silence
        self._timer = self._loop.call_later(wait_s, then)

    def _judge_silence(self) -> None:
        if self._is_heard:
            self._ask_for_life()
            return
        self.reason = f"no sign of life for {self._pace.silence_s:.0f} s"
        self.abort()

    # The end

    def _break(self, reason: str) -> None:
        """The server is at fault."""
        self.reason = reason
        self._fail_calls(grpc_status.failure("UNAVAILABLE", reason))
        self._end()

    def _end_if_done(self) -> None:
        if not self._calls and self.ending.done():
            self._end()

    def _end(self) -> None:
        """Says goodbye and closes; what takes too long is broken off."""
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
        self._timer = self._loop.call_later(self._pace.goodbye_s, self.abort)

    def abort(self) -> None:
        """Breaks the connection off, if there is one."""
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
            call.asker.failed(error)

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
