"""One connection to one NATS server, from its beginning to its end, for the traffic between nodes.

Everything is written in the order of the calls, and what is called in one turn of the loop leaves
in one write. Knows: the protocol, questions without an answer. Does not know: JetStream, the way
back.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection
from typing import Final, cast

import msgspec

from catenary.adapters.nats import wire
from catenary.adapters.nats.access import ANONYMOUS, NatsAccess
from catenary.adapters.nats.flushes import Flush, Flushes, Published, Shared, not_allowed, retrieve
from catenary.adapters.nats.pending_requests import OnReply, PendingRequests
from catenary.adapters.nats.refusals import ending, forbidden_subject
from catenary.adapters.nats.server_info import ServerInfo
from catenary.config.addresses import NatsAddress
from catenary.errors import BackendError, TooLarge
from catenary.logs.rate_limited import RateLimitedLogger

_limited: Final = RateLimitedLogger(logging.getLogger("catenary.nats"))

PATIENCE_S: Final = 5.0
"""Time limit for a reply, for connecting, and for a server that sends nothing at all."""

TICK_S: Final = 1.0

UNWRITTEN_LIMIT_BYTES: Final = 64 * 1024 * 1024
"""Limit of what waits for the socket: as much as a server keeps for a slow client (``max_pending``)."""

HEADERS_SIZE: Final = 256
"""Room for the headers that are sent: a message may be smaller than the server's limit by so much."""

REPLIES: Final = 1
"""The number of the subscription to replies."""

OnMessage = Callable[[bytes, bytes, bytes], None]
"""Receives a message: subject, headers, payload."""


class Reply(msgspec.Struct, frozen=True, gc=False):
    """A reply to a request."""

    headers: bytes
    payload: bytes

    @property
    def status(self) -> int:
        """A status as in RFC 9110, of a reply without a message; otherwise 0."""
        return wire.status_of(self.headers)


class NatsConnection(asyncio.Protocol):
    """Made by :func:`connect`. The result of ``lost`` is the reason why the connection has ended.

    Methods raise :class:`BackendError` once it has.
    """

    __slots__ = (
        "_access",
        "_address",
        "_due",
        "_flushes",
        "_greeted",
        "_handlers",
        "_is_paused",
        "_is_reading_on",
        "_loop",
        "_needed",
        "_number",
        "_out",
        "_reader",
        "_reason",
        "_received_at",
        "_requests",
        "_ticking",
        "_transport",
        "info",
        "lost",
    )

    def __init__(self, address: NatsAddress, access: NatsAccess) -> None:
        self._address = address
        self._access = access
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._reader = wire.NatsReader(self._on_message, self._on_line)
        self._greeted: asyncio.Future[None] = self._loop.create_future()
        self._ticking: asyncio.TimerHandle | None = None
        self._reason = ""
        self._is_paused = False
        self._is_reading_on = False
        self.info = ServerInfo()
        self.lost: asyncio.Future[str] = self._loop.create_future()
        # Written at the end of this turn
        self._out: list[bytes] = []
        self._due = False
        self._flushes = Flushes(self._loop)
        self._received_at = self._loop.time()
        # Subscriptions: the first is for replies
        self._requests = PendingRequests(access.inbox_prefix)
        self._number = REPLIES
        self._needed: set[str] = {self._requests.subjects}
        self._handlers: dict[int, OnMessage] = {REPLIES: self._requests.receive}

    @property
    def url(self) -> str:
        """The server's address, without user and password: fit for a log."""
        return self._address.url

    # For users of the connection

    def publish(self, subject: str, payload: bytes, headers: bytes = b"") -> None:
        """Sends a message; its arrival is not confirmed. Raises :class:`BackendError`."""
        self.check(payload)
        self._write(wire.publish(subject, payload, "", headers))

    def subscribe(
        self, subject: str, on_message: OnMessage, *, queue: str = "", is_needed: bool = True
    ) -> int:
        """Subscribes to a subject; returns the number for :meth:`unsubscribe`.

        Each message goes to one of all subscribers that name the same ``queue``. If this user may not subscribe to a
        subject that ``is_needed``, the connection ends.
        """
        self._number += 1
        if is_needed:
            self._needed.add(subject)
        self._handlers[self._number] = on_message
        self._write(wire.subscribe(subject, self._number, queue))
        return self._number

    def unsubscribe(self, number: int) -> None:
        """Ends a subscription."""
        if self._handlers.pop(number, None) is not None:
            self._write(wire.unsubscribe(number))

    async def drain(self, number: int) -> None:
        """Ends a subscription, and returns when everything that the server has sent on it was received.

        Raises :class:`BackendError` where the connection ends before that.
        """
        self._write(wire.unsubscribe(number))
        await self.flushed()
        self._handlers.pop(number, None)

    def flushed(self) -> Awaitable[object]:
        """Awaits that the server has received everything that is written until the end of this turn."""
        return Shared(self.flushing())

    def published(self, subjects: Collection[str]) -> Awaitable[None]:
        """The same for messages that were published on these subjects in this turn.

        Raises :class:`BackendRefused` where this user may not publish on one of them.
        """
        return Published(self.flushing(), subjects)

    def flushing(self) -> Flush:
        """The flush of this turn. Raises :class:`BackendError`."""
        if not self._flushes.is_upcoming:
            self.check(b"")
            self._write(b"")
        return self._flushes.upcoming()

    def send_request(self, subject: str, payload: bytes, headers: bytes, on_reply: OnReply) -> None:
        """Sends a request; ``on_reply`` is called once, with the reply or the error. Raises :class:`BackendError`."""
        self._request(subject, payload, headers, on_reply, is_long=False)

    def request(
        self, subject: str, payload: bytes = b"", headers: bytes = b""
    ) -> "asyncio.Future[Reply]":
        """Sends a request and returns its reply, or :class:`BackendError`, as a future."""
        future: asyncio.Future[Reply] = self._loop.create_future()

        def on_reply(headers: bytes, payload: bytes, error: BackendError | None) -> None:
            if future.done():
                return
            if error is None:
                future.set_result(Reply(headers, payload))
            else:
                future.set_exception(error)

        try:
            self._request(subject, payload, headers, on_reply, is_long=False)
        except BackendError as error:
            future.set_exception(error)
        future.add_done_callback(retrieve)
        return future

    def request_many(self, subject: str, payload: bytes) -> "asyncio.Future[list[Reply]]":
        """Sends a request with many replies, of which the last has a status; returns all of them as a future."""
        future: asyncio.Future[list[Reply]] = self._loop.create_future()
        answers: list[Reply] = []

        def on_reply(headers: bytes, payload: bytes, error: BackendError | None) -> None:
            if error is not None:
                if not future.done():
                    future.set_exception(error)
                return
            answers.append(Reply(headers, payload))
            if wire.status_of(headers) and not future.done():
                future.set_result(answers)

        try:
            self._request(subject, payload, b"", on_reply, is_long=True)
        except BackendError as error:
            future.set_exception(error)
        future.add_done_callback(retrieve)
        return future

    def pause(self) -> None:
        """Receives nothing until :meth:`resume`; no time limit passes meanwhile."""
        if self._transport is not None and not self._is_paused and not self.lost.done():
            self._is_paused = True
            self._hold_or_receive()

    def resume(self) -> None:
        """Receives again after :meth:`pause`."""
        if self._is_paused and self._transport is not None and not self.lost.done():
            self._is_paused = False
            self._received_at = self._loop.time()
            self._requests.postpone(self._received_at + PATIENCE_S)
            self._hold_or_receive()

    def drop(self, reason: str) -> None:
        """Ends the connection at once."""
        self._reason = self._reason or reason
        if self._transport is not None:
            self._transport.abort()
        self._end()

    async def close(self, timeout_s: float) -> None:
        """Writes pending data, and ends the connection."""
        if self._transport is not None and not self.lost.done():
            self._flush()
            self._reason = self._reason or "closed"
            self._transport.close()
            await asyncio.wait([self.lost], timeout=timeout_s)
        self.drop("closed")
        # The socket itself is closed in the next turn.
        await asyncio.sleep(0)

    # Connecting

    async def greet(self) -> None:
        """Waits for the server's INFO and logs in. Raises :class:`BackendError`, OSError."""
        await self._greeted
        if not self._access.handshake_first and self._is_to_be_encrypted:
            await self._encrypt()
        if not self.info.headers:
            raise BackendError("the server has no headers: nats-server 2.11 or newer is needed")
        login = self._access.login(self._address, self.info.nonce)
        self._write(b"CONNECT %b\r\n" % msgspec.json.encode(login))
        self._write(wire.subscribe(self._requests.subjects, REPLIES))
        await self.flushed()
        self._tick()

    @property
    def _is_to_be_encrypted(self) -> bool:
        return self.info.tls_required or self._address.is_encrypted or self._access.needs_tls

    async def _encrypt(self) -> None:
        assert self._transport is not None
        context = self._access.tls_context()
        transport = await self._loop.start_tls(
            self._transport, self, context, server_hostname=self._address.host
        )
        if transport is None:
            raise BackendError("the server ended the connection during the TLS handshake")
        self._transport = transport

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self._received_at = self._loop.time()
        self._reader.feed(data)
        if not self._is_reading_on:
            self._read_on()

    def _read_on(self) -> None:
        """Handles what was received, a share of it in each turn of the loop, and receives no more until that is done."""
        was_reading_on, self._is_reading_on = self._is_reading_on, False
        if self.lost.done():
            return
        try:
            self._is_reading_on = self._reader.read()
        except (wire.WireError, msgspec.DecodeError) as error:
            self.drop(f"not the NATS protocol: {error}")
            return
        if self._is_reading_on:
            self._loop.call_soon(self._read_on)
        if self._is_reading_on != was_reading_on:
            self._hold_or_receive()

    def _hold_or_receive(self) -> None:
        if self._transport is None or self.lost.done():
            return
        if self._is_paused or self._is_reading_on:
            self._transport.pause_reading()
        else:
            self._transport.resume_reading()

    def connection_lost(self, error: Exception | None) -> None:
        while self._is_reading_on:
            self._read_on()
        if not self._reason:
            self._reason = self._access.ending(error, was_greeted=self._greeted.done())
        self._end()

    def _end(self) -> None:
        if self.lost.done():
            return
        self.lost.set_result(self._reason)
        if self._ticking is not None:
            self._ticking.cancel()
        gone = BackendError(f"NATS: {self._reason}")
        self._out.clear()
        if not self._greeted.done():
            self._greeted.set_exception(gone)
            retrieve(self._greeted)
        self._flushes.fail_all(gone)
        self._requests.fail_all(gone)

    # Receiving

    def _on_message(self, number: int, subject: bytes, headers: bytes, payload: bytes) -> None:
        handler = self._handlers.get(number)
        if handler is not None:
            handler(subject, headers, payload)

    def _on_line(self, word: bytes, rest: bytes) -> None:
        if word == b"PING":
            self._write(wire.PONG)
        elif word == b"PONG":
            self._flushes.note_pong()
        elif word == b"INFO":
            self.info = msgspec.json.decode(rest, type=ServerInfo)
            if not self._greeted.done():
                self._greeted.set_result(None)
        elif word == b"-ERR":
            self._refused(rest.decode(errors="replace").strip(" '"))
        elif word != b"+OK":
            raise wire.WireError(f"got {word[:20]!r}")

    def _refused(self, words: str) -> None:
        published, subscribed = forbidden_subject(words)
        if subscribed in self._needed:
            # Nothing arrives there: a node that stayed connected would miss messages without a trace.
            self.drop(f"this user may not subscribe to {subscribed} (permissions of the server)")
        elif subscribed:
            _limited.warning("NATS: %s", words)
        elif published:
            # The connection stays, and a request that was sent there gets no other reply.
            _limited.warning("NATS: %s", words)
            self._flushes.note_refused(published)
            self._requests.refuse(published, not_allowed((published,)))
        else:
            self.drop(ending(words, self._access.credentials))

    # Sending

    def check(self, payload: bytes) -> None:
        """Raises :class:`BackendError` if a payload can't be sent now, and :class:`TooLarge` if it never can."""
        if self.lost.done() or self._transport is None:
            raise BackendError(f"NATS is away: {self._reason}")
        if len(payload) > self.info.max_payload - HEADERS_SIZE:
            raise TooLarge(
                f"expected at most {self.info.max_payload - HEADERS_SIZE} bytes, "
                f"got {len(payload)} (max_payload of the NATS server)"
            )
        if self._transport.get_write_buffer_size() > UNWRITTEN_LIMIT_BYTES:
            raise BackendError("NATS does not take what is sent: too much waits already")

    def _request(
        self,
        subject: str,
        payload: bytes,
        headers: bytes,
        on_reply: OnReply,
        *,
        is_long: bool,
    ) -> None:
        self.check(payload)
        deadline = self._loop.time() + PATIENCE_S
        reply_to = self._requests.add(subject, on_reply, deadline, is_long=is_long)
        self._write(wire.publish(subject, payload, reply_to, headers))

    def _write(self, data: bytes) -> None:
        self._out.append(data)
        if not self._due:
            self._due = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._due = False
        # uvloop raises when a closed transport is written to.
        if self._transport is None or self.lost.done() or self._transport.is_closing():
            return
        if self._flushes.is_upcoming:
            self._flushes.note_ping()
            self._out.append(wire.PING)
        self._transport.write(b"".join(self._out))
        self._out.clear()

    # Time

    def _tick(self) -> None:
        """Fails requests whose time limit has passed, and sends a PING, or ends the connection to a silent server."""
        self._ticking = self._loop.call_later(TICK_S, self._tick)
        if self._is_paused:
            return
        now = self._loop.time()
        self._requests.expire(now, BackendError(f"NATS: no answer within {PATIENCE_S:g} s"))
        if self.lost.done():
            return
        if self._flushes.are_unanswered and now - self._received_at > PATIENCE_S:
            self.drop(f"silent for {PATIENCE_S:g} s")
            return
        if not self._flushes.are_unanswered:
            self.flushed()


async def connect(address: NatsAddress, access: NatsAccess = ANONYMOUS) -> NatsConnection:
    """Connects to a server and logs in. Raises :class:`BackendError`, :class:`MissingExtra`."""
    loop = asyncio.get_running_loop()
    connection = NatsConnection(address, access)
    tls = access.tls_context() if access.handshake_first else None
    try:
        async with asyncio.timeout(PATIENCE_S):
            await loop.create_connection(lambda: connection, address.host, address.port, ssl=tls)
            await connection.greet()
    except TimeoutError as error:
        connection.drop("no answer")
        raise BackendError(f"no answer within {PATIENCE_S:g} s") from error
    except OSError as error:
        connection.drop(str(error))
        raise BackendError(access.ending(error, was_greeted=True)) from error
    except BaseException:
        connection.drop("not connected")
        raise
    return connection
