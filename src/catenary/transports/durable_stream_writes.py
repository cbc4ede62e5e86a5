"""Writes to durable streams: a request is read, decided on the stream's record, and stored in one step with its messages.

What is appended is a publication: subscribers of every protocol receive it. Writers at several nodes are serialized
by the record: a request whose record was changed meanwhile is decided again.
Source: PROTOCOL.md of durable-streams/durable-streams, sections 5.1 to 5.4.
Knows: records, histories, a transport. Does not know: what a request means, where anything is stored.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Final

import msgspec

from catenary.edge.refusals import Refusals, unavailable
from catenary.errors import BackendError, BackendRefused, RateExceeded, RequestRefused, TooLarge
from catenary.logs.rate_limited import RateLimitedLogger
from catenary.maybe_awaitable import settled
from catenary.messages.environment import Requester
from catenary.messages.names import Stream
from catenary.messages.publications import Position, Publication, Publishable, is_later
from catenary.ports import History, StreamRecords
from catenary.protocols.durable_stream_writes import (
    NO_STREAM,
    Answer,
    Change,
    Headers,
    Record,
    WriteRequest,
    decide_append,
    decide_create,
    packed,
    record_of,
)
from catenary.protocols.durable_streams import offset_of
from catenary.transports.http_responses import response_head, with_headers
from catenary.transports.next_request import NextRequest
from catenary.transports.request_body import BodyReading, RequestBody
from catenary.transports.stream_tails import changes_of
from catenary.wire import http1
from catenary.wire.request_bodies import ChunkedBody, SizedBody

_limited: Final = RateLimitedLogger(logging.getLogger("catenary.edge"))

MAX_BODY_BYTES: Final = 4 * 1024 * 1024
"""The largest body of a request: a batch of the client's producer has up to 1 MB, and one message more."""

ATTEMPTS: Final = 20
"""Attempts to decide a request while writers at other nodes change the record; then it is refused with 503."""

LONGEST_TTL_S: Final = 10 * 365 * 86_400.0


class OpenedWrite(msgspec.Struct, frozen=True):
    """A request of a client that may write a stream. ``headers`` are those of every response to it."""

    method: str
    stream: Stream
    target: str
    request: WriteRequest
    headers: Headers
    body: SizedBody | ChunkedBody
    requester: Requester


class WriteServices(msgspec.Struct, frozen=True, eq=False, kw_only=True):
    """Shared by all writes of one server.

    ``send`` is that of the pub/sub, ``take_rates`` raises :class:`catenary.errors.RateExceeded`, ``note`` counts publications, ``caught_up`` slows publishers down. A stream without a
    TTL is forgotten ``kept_s`` after it was last read or written. ``clock`` returns seconds since 1970.
    """

    records: StreamRecords
    history: History
    send: Callable[[tuple[Publishable, ...]], Awaitable[None] | None]
    take_rates: Callable[[bytes, tuple[Publishable, ...]], None]
    note: Callable[[tuple[Publishable, ...]], None]
    caught_up: Callable[[], Awaitable[None] | None]
    bodies: BodyReading
    refusals: Refusals
    clock: Callable[[], float]
    kept_s: float
    close_timeout_s: float


def ttl_of(record: Record, now_s: float, kept_s: float) -> float:
    """The time to live of a record that is read or written now."""
    remaining_s = record.remaining_s(now_s)
    return kept_s if remaining_s is None else min(remaining_s, LONGEST_TTL_S)


def end_of(newest: tuple[Publication, ...], start: Position | None) -> Position | None:
    """The end of a stream whose messages follow ``start``, from the newest message of its history."""
    if not newest or (start is not None and not is_later(newest[-1].position, start)):
        return None
    return newest[-1].position


class StreamWrite:
    """Satisfies :class:`catenary.edge.connection.Stage`: reads one request, carries it out, and responds.

    A client that is refused before it has sent its whole body would lose the response if the connection was closed: the
    rest is discarded, for a limited time.
    """

    __slots__ = (
        "_body",
        "_charge",
        "_close_timer",
        "_following",
        "_is_ended",
        "_opened",
        "_services",
        "_task",
        "_transport",
    )

    is_client: Final = False

    def __init__(
        self,
        services: WriteServices,
        transport: asyncio.WriteTransport,
        opened: OpenedWrite,
        following: NextRequest,
        charge: Callable[[int], None] | None = None,
    ) -> None:
        """``charge`` counts the messages in the limit of the writer."""
        self._charge = charge
        self._services = services
        self._following = following
        self._transport = transport
        self._opened = opened
        self._body: RequestBody | None = None
        self._task: asyncio.Task[None] | None = None
        self._close_timer: asyncio.TimerHandle | None = None
        self._is_ended = False

    # Stage

    def begin(self, rest: bytes) -> None:
        bodies, reader = self._services.bodies, self._opened.body
        self._body = RequestBody(bodies, reader, self._carry_out, self._refuse)
        if isinstance(reader, SizedBody) and reader.missing > bodies.max_bytes:
            self._body.close()
            self._refuse(RequestRefused(413, f"expected a body of up to {bodies.max_bytes} bytes"))
        self.receive(rest)

    def receive(self, data: bytes) -> None:
        """Reads the body, or the rest of it, which is discarded after the response; then the next request."""
        following = data if self._body is None else self._body.receive(data)
        if following:
            self._following.receive(following)
        elif self._is_ended and self._opened.body.is_complete and not self._following.is_due:
            self._transport.close()

    def eof(self) -> bool:
        return False

    def pause_writing(self) -> None:
        """Does nothing: the response is short."""

    def resume_writing(self) -> None:
        """See :meth:`pause_writing`."""

    def lost(self, exc: Exception | None) -> None:
        """A write under way is completed."""
        self._following.forget()
        self._is_ended = True
        if self._body is not None:
            self._body.close()
        if self._close_timer is not None:
            self._close_timer.cancel()

    def shutdown(self) -> None:
        """A write under way is completed and answered."""
        self._following.refuse()
        if self._is_ended:
            self._transport.close()
        elif self._task is None:
            self._refuse(unavailable("the server is shutting down"))

    # Writing

    def _carry_out(self, body: bytes) -> None:
        self._task = asyncio.get_running_loop().create_task(self._write(body))

    async def _write(self, body: bytes) -> None:
        try:
            answer = await self._written(body)
        except RequestRefused as refused:
            self._refuse(refused)
        except TooLarge as error:
            self._refuse(RequestRefused(413, f"not stored: {error}"))
        except RateExceeded as error:
            self._refuse(
                RequestRefused(429, str(error), (("Retry-After", str(error.retry_after_s)),))
            )
        except BackendRefused as error:
            self._refuse(RequestRefused(422, f"not stored: {error}"))
        except BackendError as error:
            _limited.warning("A write to a durable stream failed: %s", error)
            self._refuse(unavailable("the stream can't be written now"))
        else:
            self._respond(answer)

    async def _written(self, body: bytes) -> Answer:
        """Decides until the record has not changed meanwhile."""
        services, stream = self._services, self._opened.stream
        has_rate = False
        for _ in range(ATTEMPTS):
            stored = await settled(services.records.read(stream))
            record = record_of(stored)
            decided = await self._decided(record, body, is_gone=stored == b"")
            if isinstance(decided, Answer):
                return await self._with_end(decided, record)
            publications = tuple(Publication(stream, each) for each in decided.messages)
            if publications and not has_rate:
                services.take_rates(body, publications)
                if self._charge is not None:
                    self._charge(len(publications))
                has_rate = True
            if await self._store(stored or b"", decided, publications):
                return await self._with_end(decided.answer, decided.record)
        raise unavailable("too many clients write this stream")

    async def _decided(
        self, record: Record | None, body: bytes, *, is_gone: bool
    ) -> Answer | Change:
        opened, history = self._opened, self._services.history
        if opened.method == "POST":
            return decide_append(record, opened.request, body)
        start = None
        if is_gone or opened.method == "DELETE":
            newest = await settled(history.since(opened.stream, 0, 1, newest=True))
            start = newest[-1].position if newest else None
        if opened.method == "PUT":
            return decide_create(record, opened.request, body, start)
        if record is None and (is_gone or start is None):
            return NO_STREAM
        return Change(None, (), Answer(204), ends_reads=True)

    async def _store(
        self, expected: bytes, change: Change, publications: tuple[Publication, ...]
    ) -> bool:
        """Writes the record and the messages in one step; False if the record has changed."""
        services, stream, record = self._services, self._opened.stream, change.record
        ttl_s = 0.0 if record is None else ttl_of(record, services.clock(), services.kept_s)
        written = services.records.write(
            stream, expected, b"" if record is None else packed(record), ttl_s, publications
        )
        if not await settled(written):
            return False
        if publications:
            services.note(publications)
        if change.ends_reads:
            await self._announce()
        held = services.caught_up()
        if held is not None:
            await held
        return True

    async def _announce(self) -> None:
        """Notifies the readers at all nodes. Without this, they notice when they ask again."""
        change = Publication(changes_of(self._opened.stream), "null", transient=True)
        try:
            sent = self._services.send((change,))
            if sent is not None:
                await sent
        except BackendError as error:
            _limited.warning(
                "The end of a durable stream could not be announced, waiting readers see it with their next request: %s",
                error,
            )

    async def _with_end(self, answer: Answer, record: Record | None) -> Answer:
        """Adds the offset of the end to the answers that have one."""
        if record is None or not (answer.with_end or answer.status in (200, 201, 204)):
            return answer
        newest = await settled(self._services.history.since(self._opened.stream, 0, 1, newest=True))
        end = ("Stream-Next-Offset", offset_of(end_of(newest, record.start)))
        return msgspec.structs.replace(answer, headers=(end, *answer.headers))

    # Responses

    def _respond(self, answer: Answer) -> None:
        if answer.status >= 400:
            refused = RequestRefused(answer.status, answer.text, answer.headers)
            self._following.refuse()
            self._end(http1.refusal(with_headers(refused, self._opened.headers)))
            return
        location = (("Location", self._opened.target),) if answer.status == 201 else ()
        length = () if answer.status == 204 else (("Content-Length", "0"),)
        close = () if self._following.is_expected() else (("Connection", "close"),)
        fields = (*answer.headers, *location, *self._opened.headers, *length, *close)
        self._end(response_head(answer.status, fields))

    def _refuse(self, refused: RequestRefused) -> None:
        if not self._is_ended:
            self._services.refusals.note(refused, self._opened.requester)
        self._following.refuse()
        self._end(http1.refusal(with_headers(refused, self._opened.headers)))

    def _end(self, response: bytes) -> None:
        if self._is_ended:
            return
        self._is_ended = True
        self._transport.write(response)
        if self._following.await_soon(_nothing):
            return
        self._following.forget()
        if self._opened.body.is_complete:
            self._transport.close()
        self._close_timer = asyncio.get_running_loop().call_later(
            self._services.close_timeout_s, self._transport.abort
        )


def _nothing() -> None:
    """A write has nothing to release when the connection serves its next request."""
