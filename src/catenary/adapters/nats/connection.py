"""One connection to one NATS server, from its beginning to its end, for the traffic between nodes.

Everything is written in the order of the calls, and what is called in one turn of the loop leaves
in one write. Knows: the protocol, questions without an answer. Does not know: JetStream, the way
back.
"""

import asyncio
import logging
import re
import ssl
from collections import deque
from collections.abc import Awaitable, Callable, Collection, Generator
from typing import Any, Final, Generic, TypeVar, cast

import msgspec

from catenary.adapters.nats import wire
from catenary.adapters.nats.questions import Answered, Questions
from catenary.config.addresses import NatsAddress, nats_login
from catenary.errors import BackendError, BackendRefused, TooLarge
from catenary.logs.rate_limited import RateLimitedLogger

Result = TypeVar("Result")

_limited: Final = RateLimitedLogger(logging.getLogger("catenary.nats"))

PATIENCE_S: Final = 5.0
"""For an answer, for the connection, and for a server that says nothing at all."""

TICK_S: Final = 1.0

UNWRITTEN_LIMIT_BYTES: Final = 64 * 1024 * 1024
"""What may wait for the socket: as much as a server keeps for a slow client (``max_pending``)."""

HEADERS_SIZE: Final = 256
"""More than the headers that we send: what a message may be smaller than the server's limit by."""

ANSWERS: Final = 1
"""The number of the subscription on which answers come."""

_violation: Final = re.compile(
    r'permissions violation for publish (?:to|with reply of) "(.*)"', re.IGNORECASE | re.DOTALL
).match

Hear = Callable[[bytes, bytes, bytes], None]
"""Takes a message: subject, headers, payload."""


class Answer(msgspec.Struct, frozen=True, gc=False):
    """A message that answers; ``status`` is 0 unless it is none but says why."""

    headers: bytes
    payload: bytes

    @property
    def status(self) -> int:
        """As in RFC 9110; 0 where the answer is a message."""
        return wire.status_of(self.headers)


class ServerInfo(msgspec.Struct, frozen=True):
    """What a server says of itself at the beginning."""

    version: str = "0.0.0"
    max_payload: int = 1024 * 1024
    headers: bool = False
    tls_required: bool = False
    cluster: str = ""
    connect_urls: tuple[str, ...] = ()


class Shared(Generic[Result]):
    """Waits for a future that goes on whoever waits for it: who is cancelled does not cancel it."""

    __slots__ = ("_future",)

    def __init__(self, future: "asyncio.Future[Result]") -> None:
        self._future = future
        future.add_done_callback(_look)

    def __await__(self) -> Generator[Any, None, Result]:
        return asyncio.shield(self._future).__await__()


class _Published:
    """Waits until the server has what was published, and fails where it may not be published there."""

    __slots__ = ("_flushed", "_subjects")

    def __init__(
        self, flushed: "asyncio.Future[frozenset[str]]", subjects: Collection[str]
    ) -> None:
        self._flushed = flushed
        self._subjects = subjects
        flushed.add_done_callback(_look)

    def __await__(self) -> Generator[Any, None, None]:
        refused = yield from asyncio.shield(self._flushed).__await__()
        if refused and not refused.isdisjoint(self._subjects):
            raise _not_allowed(self._subjects)


class Connection(asyncio.Protocol):
    """Built by :func:`connect`. ``lost`` is done, with the reason, when it has ended."""

    __slots__ = (
        "_address",
        "_due",
        "_flushed",
        "_forbidden",
        "_greeted",
        "_heard_at",
        "_hears",
        "_is_paused",
        "_is_reading_on",
        "_loop",
        "_number",
        "_out",
        "_pongs",
        "_questions",
        "_reader",
        "_reason",
        "_ticking",
        "_transport",
        "info",
        "lost",
    )

    def __init__(self, address: NatsAddress) -> None:
        self._address = address
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._reader = wire.Reader(self._take, self._hear)
        self._greeted: asyncio.Future[None] = self._loop.create_future()
        self._ticking: asyncio.TimerHandle | None = None
        self._reason = ""
        self._is_paused = False
        self._is_reading_on = False
        self.info = ServerInfo()
        self.lost: asyncio.Future[str] = self._loop.create_future()
        # To be written in this turn
        self._out: list[bytes] = []
        self._due = False
        # PINGs without a PONG, in order, and the one that ends this turn; each is told the subjects
        # on which the server let nothing be published since the PONG before
        self._pongs: deque[asyncio.Future[frozenset[str]]] = deque()
        self._flushed: asyncio.Future[frozenset[str]] | None = None
        self._forbidden: frozenset[str] = frozenset()
        self._heard_at = self._loop.time()
        # Subscriptions: the first is for answers
        self._questions = Questions()
        self._number = ANSWERS
        self._hears: dict[int, Hear] = {ANSWERS: self._questions.hear}

    @property
    def url(self) -> str:
        """Where it leads, without who asks: fit for a log."""
        return self._address.url

    # For those who use it. Whatever is called after the end raises BackendError.

    def publish(self, subject: str, payload: bytes, headers: bytes = b"") -> None:
        """Sends a message; nobody says whether it arrives. Raises :class:`BackendError`."""
        self.check(payload)
        self._write(wire.publish(subject, payload, "", headers))

    def subscribe(self, subject: str, hear: Hear, *, queue: str = "") -> int:
        """Hears what is sent on a subject; returns the number to unsubscribe by.

        Of all who name the same ``queue`` one hears each message.
        """
        self._number += 1
        self._hears[self._number] = hear
        self._write(wire.subscribe(subject, self._number, queue))
        return self._number

    def unsubscribe(self, number: int) -> None:
        """Hears no more of it."""
        if self._hears.pop(number, None) is not None:
            self._write(wire.unsubscribe(number))

    async def drain(self, number: int) -> None:
        """Returns when all of it that the server sends has been heard, and no more will be.

        Raises :class:`BackendError` where the connection ends meanwhile.
        """
        self._write(wire.unsubscribe(number))
        await self.flushed()
        self._hears.pop(number, None)

    def flushed(self) -> Awaitable[object]:
        """Done when the server has everything that was written until the end of this turn."""
        return Shared(self.flushing())

    def published(self, subjects: Collection[str]) -> Awaitable[None]:
        """The same for messages that were published on these subjects in this turn.

        Raises :class:`BackendRefused` where nothing may be published on one of them.
        """
        return _Published(self.flushing(), subjects)

    def flushing(self) -> "asyncio.Future[frozenset[str]]":
        """The same as :meth:`flushed`, one future for each turn, which is not to be cancelled: see :func:`refusal`.

        Raises :class:`BackendError`.
        """
        if self._flushed is None:
            self.check(b"")
            self._flushed = self._loop.create_future()
            self._write(b"")
        return self._flushed

    def question(self, subject: str, payload: bytes, headers: bytes, answered: Answered) -> None:
        """Sends a message; ``answered`` is called once. Raises :class:`BackendError`."""
        self._ask(subject, payload, headers, answered, is_long=False)

    def ask(
        self, subject: str, payload: bytes = b"", headers: bytes = b""
    ) -> "asyncio.Future[Answer]":
        """Sends a question: its answer, or :class:`BackendError`."""
        future: asyncio.Future[Answer] = self._loop.create_future()

        def answered(headers: bytes, payload: bytes, error: BackendError | None) -> None:
            if future.done():
                return
            if error is None:
                future.set_result(Answer(headers, payload))
            else:
                future.set_exception(error)

        try:
            self._ask(subject, payload, headers, answered, is_long=False)
        except BackendError as error:
            future.set_exception(error)
        future.add_done_callback(_look)
        return future

    def ask_many(self, subject: str, payload: bytes) -> "asyncio.Future[list[Answer]]":
        """Sends a question that has many answers: all, the last of them with a status."""
        future: asyncio.Future[list[Answer]] = self._loop.create_future()
        answers: list[Answer] = []

        def answered(headers: bytes, payload: bytes, error: BackendError | None) -> None:
            if error is not None:
                if not future.done():
                    future.set_exception(error)
                return
            answers.append(Answer(headers, payload))
            if wire.status_of(headers) and not future.done():
                future.set_result(answers)

        try:
            self._ask(subject, payload, b"", answered, is_long=True)
        except BackendError as error:
            future.set_exception(error)
        future.add_done_callback(_look)
        return future

    def pause(self) -> None:
        """Reads nothing until :meth:`resume`; nobody is taken to be silent meanwhile."""
        if self._transport is not None and not self._is_paused and not self.lost.done():
            self._is_paused = True
            self._hold_or_receive()

    def resume(self) -> None:
        """Reads on."""
        if self._is_paused and self._transport is not None and not self.lost.done():
            self._is_paused = False
            self._heard_at = self._loop.time()
            self._questions.postpone(self._heard_at + PATIENCE_S)
            self._hold_or_receive()

    def drop(self, reason: str) -> None:
        """Ends it at once."""
        self._reason = self._reason or reason
        if self._transport is not None:
            self._transport.abort()
        self._end()

    async def close(self, timeout_s: float) -> None:
        """Writes what is pending, and ends."""
        if self._transport is not None and not self.lost.done():
            self._flush()
            self._reason = self._reason or "closed"
            self._transport.close()
            await asyncio.wait([self.lost], timeout=timeout_s)
        self.drop("closed")
        # The socket itself is closed in the next turn.
        await asyncio.sleep(0)

    # The beginning

    async def greet(self) -> None:
        """Waits for the server, and says who asks. Raises :class:`BackendError`, OSError."""
        await self._greeted
        if self.info.tls_required or self._address.is_encrypted:
            await self._encrypt()
        if not self.info.headers:
            raise BackendError("the server has no headers: nats-server 2.11 or newer is needed")
        self._write(b"CONNECT %b\r\n" % msgspec.json.encode(nats_login(self._address)))
        self._write(wire.subscribe(self._questions.subjects, ANSWERS))
        await self.flushed()
        self._tick()

    async def _encrypt(self) -> None:
        assert self._transport is not None
        transport = await self._loop.start_tls(
            self._transport,
            self,
            ssl.create_default_context(),
            server_hostname=self._address.host,
        )
        assert transport is not None
        self._transport = transport

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self._heard_at = self._loop.time()
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
        self._reason = self._reason or (
            "the server ended the connection" if error is None else str(error)
        )
        self._end()

    def _end(self) -> None:
        if self.lost.done():
            return
        self.lost.set_result(self._reason)
        if self._ticking is not None:
            self._ticking.cancel()
        gone = BackendError(f"NATS: {self._reason}")
        self._out.clear()
        if self._flushed is not None:
            self._pongs.append(self._flushed)
            self._flushed = None
        waiting: list[asyncio.Future[Any]] = [self._greeted, *self._pongs]
        for future in waiting:
            if not future.done():
                future.set_exception(gone)
                _look(future)
        self._questions.end_all(gone)

    # What comes

    def _take(self, number: int, subject: bytes, headers: bytes, payload: bytes) -> None:
        hear = self._hears.get(number)
        if hear is not None:
            hear(subject, headers, payload)

    def _hear(self, word: bytes, rest: bytes) -> None:
        if word == b"PING":
            self._write(wire.PONG)
        elif word == b"PONG":
            if self._pongs:
                pong = self._pongs.popleft()
                if not pong.done():
                    pong.set_result(self._forbidden)
                self._forbidden = frozenset()
        elif word == b"INFO":
            self.info = msgspec.json.decode(rest, type=ServerInfo)
            if not self._greeted.done():
                self._greeted.set_result(None)
        elif word == b"-ERR":
            self._refused(rest.decode(errors="replace").strip(" '"))
        elif word != b"+OK":
            raise wire.WireError(f"got {word[:20]!r}")

    def _refused(self, words: str) -> None:
        if words.lower().startswith("permissions violation"):
            # The connection stays, and nobody else answers what was sent there.
            _limited.warning("NATS: %s", words)
            found = _violation(words)
            if found is not None:
                self._forbidden |= {found[1]}
                self._questions.refuse(found[1], _not_allowed((found[1],)))
        elif "authorization" in words.lower():
            self.drop(f"it refuses the user, the password or the token of nats_servers: {words}")
        else:
            self.drop(words)

    # What goes

    def check(self, payload: bytes) -> None:
        """May it be sent now? Raises :class:`BackendError`, and :class:`TooLarge` where it never may."""
        if self.lost.done() or self._transport is None:
            raise BackendError(f"NATS is away: {self._reason}")
        if len(payload) > self.info.max_payload - HEADERS_SIZE:
            raise TooLarge(
                f"expected at most {self.info.max_payload - HEADERS_SIZE} bytes, "
                f"got {len(payload)} (max_payload of the NATS server)"
            )
        if self._transport.get_write_buffer_size() > UNWRITTEN_LIMIT_BYTES:
            raise BackendError("NATS does not take what is sent: too much waits already")

    def _ask(
        self,
        subject: str,
        payload: bytes,
        headers: bytes,
        answered: Answered,
        *,
        is_long: bool,
    ) -> None:
        self.check(payload)
        deadline = self._loop.time() + PATIENCE_S
        reply_to = self._questions.ask(subject, answered, deadline, is_long=is_long)
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
        if self._flushed is not None:
            self._pongs.append(self._flushed)
            self._flushed = None
            self._out.append(wire.PING)
        self._transport.write(b"".join(self._out))
        self._out.clear()

    # Time

    def _tick(self) -> None:
        """Questions have their time; a server that is silent is asked whether it is there."""
        self._ticking = self._loop.call_later(TICK_S, self._tick)
        if self._is_paused:
            return
        now = self._loop.time()
        self._questions.end_late(now, BackendError(f"NATS: no answer within {PATIENCE_S:g} s"))
        if self.lost.done():
            return
        if self._pongs and now - self._heard_at > PATIENCE_S:
            self.drop(f"silent for {PATIENCE_S:g} s")
            return
        if not self._pongs:
            self.flushed()


async def connect(address: NatsAddress) -> Connection:
    """Connects to a server, and returns when it has let us in. Raises :class:`BackendError`."""
    loop = asyncio.get_running_loop()
    connection = Connection(address)
    try:
        async with asyncio.timeout(PATIENCE_S):
            await loop.create_connection(lambda: connection, address.host, address.port)
            await connection.greet()
    except TimeoutError as error:
        connection.drop("no answer")
        raise BackendError(f"no answer within {PATIENCE_S:g} s") from error
    except OSError as error:
        connection.drop(str(error))
        raise BackendError(str(error)) from error
    except BaseException:
        connection.drop("not let in")
        raise
    return connection


def refusal(flushing: "asyncio.Future[frozenset[str]]", subject: str) -> BackendError | None:
    """Why a message on a subject did not arrive that was published in the turn of a ``flushing`` that is done; None:
    it did."""
    error = flushing.exception()
    if isinstance(error, BackendError):
        return error
    return _not_allowed((subject,)) if subject in flushing.result() else None


def _look(future: "asyncio.Future[Any]") -> None:
    """Whoever does not wait for it does not want to know its error."""
    if not future.cancelled():
        future.exception()


def _not_allowed(subjects: Collection[str]) -> BackendRefused:
    return BackendRefused(
        f"NATS: this user may not publish to {', '.join(subjects)[:200]} (permissions of the server)"
    )
