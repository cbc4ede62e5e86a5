"""Durable Streams: requests that write, and what they do to a stream: its record, and the messages to append.

A decision is a plain function of the record and the request: an answer, or a change to be stored with its messages in one
step. Source: PROTOCOL.md of durable-streams/durable-streams (version 1.0), sections 4 and 5.
Knows: headers, records, JSON. Does not know: HTTP connections, where records and messages are stored.
"""

import base64
import re
from collections.abc import Mapping
from datetime import datetime
from typing import Final

import msgspec

from catenary.errors import BackendError, RequestRefused
from catenary.messages.lenient_json import checked, reader
from catenary.messages.publications import BATCH_LIMIT, Position
from catenary.protocols.durable_streams import JSON_TYPE, Content, content_of, media_type

DEFAULT_TYPE: Final = "application/octet-stream"

MAX_PRODUCERS: Final = 1_000
"""Limit of the producers whose state is in a record; the one that has not written for longest is dropped first."""

MAX_HEADER: Final = 256
"""Limit of a content type, a Producer-Id and a Stream-Seq, in characters."""

_LARGEST: Final = 2**53 - 1
"""The largest integer of JavaScript (section 5.2.1)."""

_NUMBER: Final = re.compile(r"0|[1-9][0-9]{0,15}")
_TYPE: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+/[!#$%&'*+.^_`|~0-9A-Za-z-]+\s*(;.*)?")

_split: Final = reader(list[msgspec.Raw])
_write: Final = msgspec.json.Encoder().encode

Headers = tuple[tuple[str, str], ...]


class Producer(msgspec.Struct, frozen=True, array_like=True):
    """The state of an idempotent producer: its epoch, and its last sequence number in that epoch."""

    epoch: int
    seq: int


class ProducerId(msgspec.Struct, frozen=True, array_like=True):
    """The three headers of an idempotent producer."""

    id: str
    epoch: int
    seq: int


class Record(msgspec.Struct, frozen=True):
    """The state of a stream besides its messages.

    ``content_type`` is as the creator wrote it. The stream lasts for ``ttl_s`` after it was last read or written, or until
    ``expires_at``, in RFC 3339. Only messages after ``start`` belong to it: others are of a deleted stream with its name.
    ``seq`` is the last Stream-Seq, ``closed_by`` the request of the producer that closed the stream.
    """

    content_type: str
    ttl_s: int | None = None
    expires_at: str = ""
    start: Position | None = None
    is_closed: bool = False
    closed_by: ProducerId | None = None
    seq: str | None = None
    producers: dict[str, Producer] = {}

    @property
    def content(self) -> Content:
        return content_of(self.content_type)

    def remaining_s(self, now_s: float) -> float | None:
        """Seconds until the stream expires if it is neither read nor written, at least 0; None if it never expires."""
        if self.ttl_s is not None:
            return float(self.ttl_s)
        return max(_moment(self.expires_at) - now_s, 0.0) if self.expires_at else None


_read_record: Final = msgspec.msgpack.Decoder(Record).decode
packed: Final = msgspec.msgpack.Encoder().encode


def record_of(stored: bytes | None) -> Record | None:
    """Reads a stored record; None if there is none. Raises :class:`BackendError` for anything else."""
    try:
        return _read_record(stored) if stored else None
    except msgspec.DecodeError as error:
        raise BackendError(f"expected the record of a durable stream: {error}") from error


class WriteRequest(msgspec.Struct, frozen=True, kw_only=True):
    """The headers of a PUT or POST request."""

    content_type: str = ""
    ttl_s: int | None = None
    expires_at: str = ""
    closes: bool = False
    seq: str | None = None
    producer: ProducerId | None = None


class Answer(msgspec.Struct, frozen=True):
    """A response that changes nothing; the offset of the end is added to it if ``with_end``."""

    status: int
    headers: Headers = ()
    text: str = ""
    with_end: bool = False


class Change(msgspec.Struct, frozen=True):
    """A new record (None removes it), the messages to append in the same step (JSON text each), and the response, to
    which the offset of the end is added. ``ends_reads``: waiting readers must read the record again."""

    record: Record | None
    messages: tuple[str, ...]
    answer: Answer
    ends_reads: bool = False


CLOSED: Final = ("Stream-Closed", "true")
NO_STREAM: Final = Answer(404, text="expected a stream that exists: PUT creates one")


def write_request(headers: Mapping[str, str], *, creates: bool) -> WriteRequest:
    """Reads the headers of a POST request, or of a PUT request if it ``creates``. Raises :class:`RequestRefused`."""
    if any(name in headers for name in ("stream-forked-from", "stream-fork-offset")):
        raise RequestRefused(501, "expected no fork: forks of streams are not served")
    if "stream-fork-sub-offset" in headers:
        raise RequestRefused(400, "expected no Stream-Fork-Sub-Offset without Stream-Forked-From")
    content_type = headers.get("content-type", "").strip()
    if content_type and (len(content_type) > MAX_HEADER or _TYPE.fullmatch(content_type) is None):
        raise RequestRefused(
            400, f"expected a media type in Content-Type, got {content_type[:80]!r}"
        )
    ttl_s = expires_at = None
    if creates:
        ttl_s, expires_at = _ttl(headers), headers.get("stream-expires-at")
        if ttl_s is not None and expires_at is not None:
            raise RequestRefused(400, "expected Stream-TTL or Stream-Expires-At, got both")
        if expires_at is not None:
            _moment(expires_at)
    seq = headers.get("stream-seq")
    if seq is not None and len(seq) > MAX_HEADER:
        raise RequestRefused(400, f"expected a Stream-Seq of up to {MAX_HEADER} characters")
    return WriteRequest(
        content_type=content_type,
        ttl_s=ttl_s,
        expires_at=expires_at or "",
        closes=headers.get("stream-closed", "").lower() == "true",
        seq=seq,
        producer=None if creates else _producer(headers),
    )


def _ttl(headers: Mapping[str, str]) -> int | None:
    text = headers.get("stream-ttl")
    return None if text is None else _number("Stream-TTL", text)


def _producer(headers: Mapping[str, str]) -> ProducerId | None:
    names = ("producer-id", "producer-epoch", "producer-seq")
    given = [headers[name] for name in names if name in headers]
    if not given:
        return None
    if len(given) < len(names):
        raise RequestRefused(400, "expected Producer-Id, Producer-Epoch and Producer-Seq together")
    name, epoch, seq = given
    if not 0 < len(name) <= MAX_HEADER:
        raise RequestRefused(400, f"expected a Producer-Id of 1 to {MAX_HEADER} characters")
    return ProducerId(name, _number("Producer-Epoch", epoch), _number("Producer-Seq", seq))


def _number(name: str, text: str) -> int:
    if _NUMBER.fullmatch(text) is None or int(text) > _LARGEST:
        raise RequestRefused(400, f"expected a whole number in {name}, got {text[:40]!r}")
    return int(text)


def _moment(text: str) -> float:
    """Seconds since 1970. Raises :class:`RequestRefused` for text that is not RFC 3339."""
    try:
        moment = datetime.fromisoformat(text)
        if moment.tzinfo is None or "T" not in text.upper():
            raise ValueError
        return moment.timestamp()
    except (ValueError, OverflowError):
        raise RequestRefused(
            400,
            f"expected a time such as 2030-01-01T00:00:00Z in Stream-Expires-At, got {text[:40]!r}",
        ) from None


# Bodies


def messages_of(content: Content, body: bytes) -> tuple[str, ...]:
    """The messages of a body, as the JSON text that publications have. Raises :class:`RequestRefused` with 400 or 413.

    JSON: a list is one message for each element (section 9.1). Text is a JSON string; other bytes, and text that is not
    UTF-8, are ``{"base64": …}``, so that subscribers of other protocols receive them, too.
    """
    if content is Content.JSON:
        return _json_messages(body)
    if content is Content.TEXT:
        try:
            return (_write(body.decode()).decode(),)
        except UnicodeDecodeError:
            pass
    return (_write({"base64": base64.b64encode(body).decode()}).decode(),)


def _json_messages(body: bytes) -> tuple[str, ...]:
    try:
        if not body.lstrip(b" \t\r\n").startswith(b"["):
            one = checked(body)
            if one is None:
                raise RequestRefused(400, "expected JSON")
            return (one.decode().strip(),)
        found = tuple(bytes(each).decode() for each in _split(body))
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise RequestRefused(400, f"expected JSON: {str(error)[:200]}") from error
    if len(found) > BATCH_LIMIT:
        raise RequestRefused(413, f"expected up to {BATCH_LIMIT} messages, got {len(found)}")
    return found


# Decisions


def decide_create(
    record: Record | None, request: WriteRequest, body: bytes, start: Position | None
) -> Answer | Change:
    """PUT (section 5.1): creates a stream whose messages follow ``start``, unless it exists. Raises
    :class:`RequestRefused`."""
    content_type = request.content_type or DEFAULT_TYPE
    if record is not None:
        if _is_same(record, request, content_type):
            return Answer(200, _described(record), with_end=True)
        return Answer(409, _closed(record), "the stream exists with another configuration", True)
    content = content_of(content_type)
    messages = () if not body else messages_of(content, body)
    created = Record(
        content_type,
        ttl_s=request.ttl_s,
        expires_at=request.expires_at,
        start=start,
        is_closed=request.closes,
    )
    return Change(created, messages, Answer(201, _described(created)))


def _is_same(record: Record, request: WriteRequest, content_type: str) -> bool:
    return (
        media_type(record.content_type) == media_type(content_type)
        and record.ttl_s == request.ttl_s
        and record.expires_at == request.expires_at
        and record.is_closed == request.closes
    )


def decide_append(record: Record | None, request: WriteRequest, body: bytes) -> Answer | Change:
    """POST (sections 5.2 and 5.3): appends messages, closes the stream, or both. Raises :class:`RequestRefused`."""
    if record is None:
        return NO_STREAM
    if not body and not request.closes:
        raise RequestRefused(400, "expected a body, or Stream-Closed: true")
    if body and not request.content_type:
        raise RequestRefused(400, "expected Content-Type")
    producer = request.producer
    known = None if producer is None else record.producers.get(producer.id)
    if known is not None and producer is not None and producer.epoch < known.epoch:
        stale = (("Producer-Epoch", str(known.epoch)), *_closed(record))
        return Answer(403, stale, "the epoch of this producer is over")
    if record.is_closed:
        return _answer_closed(record, request, body)
    if body and media_type(request.content_type) != media_type(record.content_type):
        return Answer(409, text=f"expected Content-Type: {record.content_type}", with_end=True)
    if producer is not None:
        answer = _check_producer(producer, known)
        if answer is not None:
            return answer
    if request.seq is not None and record.seq is not None and request.seq <= record.seq:
        return Answer(409, text="expected a Stream-Seq after the last one", with_end=True)
    messages = messages_of(record.content, body) if body else ()
    if body and not messages:
        raise RequestRefused(400, "expected a message, got an empty list")
    changed = msgspec.structs.replace(
        record,
        is_closed=request.closes,
        closed_by=producer if request.closes else None,
        seq=record.seq if request.seq is None else request.seq,
        producers=record.producers if producer is None else _noted(record.producers, producer),
    )
    status = 200 if producer is not None and body else 204
    headers = (*_acknowledged(producer, producer), *_closed(changed))
    return Change(changed, messages, Answer(status, headers), ends_reads=request.closes)


def _answer_closed(record: Record, request: WriteRequest, body: bytes) -> Answer:
    """Closing a closed stream again succeeds, and so does the repetition of the append that closed it."""
    producer = request.producer
    is_repeated = producer is not None and producer == record.closed_by
    if is_repeated or (producer is None and request.closes and not body):
        return Answer(204, (*_acknowledged(producer, producer), CLOSED), with_end=True)
    return Answer(409, (CLOSED,), "the stream is closed", with_end=True)


def _check_producer(producer: ProducerId, known: Producer | None) -> Answer | None:
    """None if the request is the next one of its producer (section 5.2.1)."""
    if known is not None and producer.epoch == known.epoch:
        if producer.seq <= known.seq:
            newest = ProducerId(producer.id, known.epoch, known.seq)
            return Answer(204, _acknowledged(producer, newest), with_end=True)
        expected = known.seq + 1
    elif known is not None and producer.seq != 0:
        raise RequestRefused(400, "expected Producer-Seq: 0 in a new epoch")
    else:
        expected = 0
    if producer.seq == expected:
        return None
    gap = (("Producer-Expected-Seq", str(expected)), ("Producer-Received-Seq", str(producer.seq)))
    return Answer(409, gap, "a request of this producer is missing")


def _noted(producers: dict[str, Producer], producer: ProducerId) -> dict[str, Producer]:
    """The producers after a write of this one, in the order of their last writes."""
    noted = {name: each for name, each in producers.items() if name != producer.id}
    noted[producer.id] = Producer(producer.epoch, producer.seq)
    if len(noted) > MAX_PRODUCERS:
        del noted[next(iter(noted))]
    return noted


def _acknowledged(producer: ProducerId | None, newest: ProducerId | None) -> Headers:
    if producer is None or newest is None:
        return ()
    return (("Producer-Epoch", str(newest.epoch)), ("Producer-Seq", str(newest.seq)))


def _closed(record: Record) -> Headers:
    return (CLOSED,) if record.is_closed else ()


def _described(record: Record) -> Headers:
    return (("Content-Type", record.content_type), *_closed(record))


def metadata(record: Record) -> Headers:
    """The headers of a HEAD response, besides the offset (section 5.5)."""
    headers: list[tuple[str, str]] = [*_described(record)]
    if record.ttl_s is not None:
        headers.append(("Stream-TTL", str(record.ttl_s)))
    if record.expires_at:
        headers.append(("Stream-Expires-At", record.expires_at))
    return tuple(headers)


IMPLIED: Final = Record(JSON_TYPE)
"""The record of a stream that nobody created, and others publish to."""
