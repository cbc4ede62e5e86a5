"""The REST API for reading: the history and the members of a stream.

Source: docs/api.md (anycable) for presence; the history is an addition.
Knows: queries, JSON. Does not know: where anything is stored.
"""

import asyncio
import math
from collections.abc import Callable, Sequence
from typing import Annotated, Any, Final, Literal, TypeVar

import msgspec
from msgspec import Meta

from catenary.api.access import ApiResponse
from catenary.api.rest import Handler, QueryError, RestRequest
from catenary.messages.names import Stream
from catenary.messages.presence import Member
from catenary.messages.publications import Position, Publication, position_of
from catenary.node.reads import Reads
from catenary.ports import SLICE_BYTES

PAGE: Final = 1_000
"""The most messages of one answer; a reader asks for the rest with the position of the last one."""

RECORD_BYTES: Final = 300
"""Cost of a record, besides its text, towards the bytes that are encoded in one turn of the event loop."""

_T = TypeVar("_T")

_write: Final = msgspec.json.encode


class _Member(msgspec.Struct, gc=False):
    id: str
    info: msgspec.Raw


class _Message(msgspec.Struct, gc=False, omit_defaults=True):
    offset: int
    data: str
    type: str = ""


class _Messages(msgspec.Struct, gc=False):
    stream: str
    epoch: str | None
    messages: msgspec.Raw
    more: bool


class _NewestMessages(_Messages, gc=False):
    next: str | None


# The same, for the OpenAPI document


class MemberRecord(msgspec.Struct):
    """A member: its id, and its info of any type."""

    id: str
    info: Any


class Members(msgspec.Struct, omit_defaults=True):
    """The members of a stream; ``records`` is missing if there are none."""

    type: Literal["info"]
    total: int
    records: list[MemberRecord] = []


class MessageRecord(msgspec.Struct, omit_defaults=True):
    """A message of a history; ``type`` is missing for usual ones."""

    offset: int
    data: str
    type: str = ""


class Messages(msgspec.Struct, omit_defaults=True):
    """A part of a history; ``next`` is there with ``order=newest`` only."""

    stream: str
    epoch: str | None
    messages: list[MessageRecord]
    more: bool
    next: str | None = None


class PresenceQuery(msgspec.Struct, frozen=True):
    """The members have no parameters; unknown ones are ignored, as in anycable-go."""


class HistoryQuery(msgspec.Struct, frozen=True):
    """A part of the history of a stream."""

    since: Annotated[
        str | None, Meta(description="messages since a time, in seconds since 1970")
    ] = None
    after: Annotated[str | None, Meta(description="messages after a position, OFFSET:EPOCH")] = None
    before: Annotated[
        str | None, Meta(description="messages before a position, OFFSET:EPOCH; with order=newest")
    ] = None
    order: Annotated[
        Literal["oldest", "newest"], Meta(description="which message is the first of the answer")
    ] = "oldest"
    limit: Annotated[str | None, Meta(description=f"the most messages, from 1 to {PAGE}")] = None


def presence_of(reads: Reads) -> Handler:
    """Reads the members of a stream."""

    async def read(request: RestRequest) -> ApiResponse:
        members = await reads.members(Stream(request.path["stream"]))
        answer = b'{"type":"info","total":%d' % len(members)
        # anycable-go leaves the records out if there are none.
        if members:
            records = await _list(members, _member, lambda each: len(each.info))
            answer += b',"records":' + records
        return ApiResponse(200, content=answer + b"}")

    return read


def history_of(reads: Reads) -> Handler:
    """Reads the history of a stream, oldest message first: ``since`` a time (seconds since 1970), or ``after`` a
    position (``offset:epoch``). A ``limit`` selects the newest messages, or the next ones after the position.

    With ``order=newest``, the newest message is the first, and ``next`` the position ``before`` which the next page ends."""

    async def read(request: RestRequest) -> ApiResponse:
        stream, query = Stream(request.path["stream"]), request.query
        limit = _limit(query.limit)
        if query.order == "newest":
            return await newest_first(stream, query, limit or PAGE)
        if query.before is not None:
            raise QueryError("before: expected with order=newest")
        start = _start(query)
        newest = limit is not None and not isinstance(start, Position)
        page = await reads.page(stream, start, limit or PAGE, newest=newest)
        position = page.messages[0].position if page.messages else start
        epoch = position.epoch if isinstance(position, Position) else None
        messages = await _list(page.messages, _message, lambda each: len(each.data))
        answer = _Messages(stream, epoch, msgspec.Raw(messages), page.more)
        return ApiResponse(200, content=_write(answer))

    async def newest_first(stream: Stream, query: HistoryQuery, limit: int) -> ApiResponse:
        if query.since is not None or query.after is not None:
            raise QueryError("order=newest: expected before, got since or after")
        before = None if query.before is None else _position("before", query.before)
        page = await reads.page_before(stream, before, limit)
        first, last = (
            (page.messages[0].position, page.messages[-1].position)
            if page.messages
            else (before, None)
        )
        epoch = None if first is None else first.epoch
        following = f"{last.offset}:{last.epoch}" if page.more and last is not None else None
        messages = await _list(page.messages, _message, lambda each: len(each.data))
        answer = _NewestMessages(stream, epoch, msgspec.Raw(messages), page.more, following)
        return ApiResponse(200, content=_write(answer))

    return read


async def _list(
    items: Sequence[_T], record: Callable[[_T], object], size: Callable[[_T], int]
) -> bytes:
    """Writes a JSON list, with a turn for the event loop after every :data:`SLICE_BYTES`."""
    pieces: list[bytes] = []
    records: list[object] = []
    room = SLICE_BYTES
    for number, each in enumerate(items, 1):
        records.append(record(each))
        room -= RECORD_BYTES + size(each)
        if room <= 0 or number == len(items):
            pieces.append(_write(records)[1:-1])
            records, room = [], SLICE_BYTES
            await asyncio.sleep(0)
    return b"[%b]" % b",".join(pieces)


def _member(member: Member) -> _Member:
    return _Member(member.id, msgspec.Raw(member.info.encode()))


def _start(query: HistoryQuery) -> int | Position:
    if query.after is None:
        return _moment("0" if query.since is None else query.since)
    if query.since is not None:
        raise QueryError("expected since or after, got both")
    return _position("after", query.after)


def _position(name: str, text: str) -> Position:
    try:
        return position_of(text)
    except ValueError as error:
        raise QueryError(f"{name}: {error}") from error


def _message(publication: Publication) -> _Message:
    offset = 0 if publication.position is None else publication.position.offset
    return _Message(offset, publication.data, publication.kind)


def _limit(text: str | None) -> int | None:
    if text is None:
        return None
    if not text.isascii() or not text.isdecimal() or len(text) > 9 or not 1 <= int(text) <= PAGE:
        raise QueryError(f"limit: expected a number from 1 to {PAGE}, got {text[:40]!r}")
    return int(text)


def _moment(text: str) -> int:
    try:
        moment = float(text)
        if not math.isfinite(moment) or not 0 <= moment < 2**53:
            raise ValueError
    except ValueError as error:
        raise QueryError(f"since: expected seconds since 1970, got {text[:40]!r}") from error
    return int(moment)
