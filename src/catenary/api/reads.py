"""The REST API for reading: the history and the members of a stream.

Source: docs/api.md (anycable) for presence; the history is an addition.
Knows: queries, JSON. Does not know: where anything is stored.
"""

import asyncio
import math
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Final, TypeVar

import msgspec
from starlette.datastructures import QueryParams
from starlette.types import Receive, Scope, Send

from catenary.api.access import Access, ApiResponse, send_answer
from catenary.errors import (
    BackendError,
    BackendRefused,
    CatenaryError,
    LostPosition,
    NotKept,
)
from catenary.messages.names import Stream
from catenary.messages.presence import Member
from catenary.messages.publications import Position, Publication, position_of
from catenary.node.reads import Reads
from catenary.ports import SLICE_BYTES
from catenary.wire.http1 import header_text

PAGE: Final = 1_000
"""The most messages of one answer; a reader asks for the rest with the position of the last one."""

_STATUSES: Final[tuple[tuple[type[CatenaryError], int], ...]] = (
    (NotKept, 501),
    (LostPosition, 410),
    (BackendRefused, 422),
    (BackendError, 503),
)
"""The status of an error: that of the first class that it is an instance of."""
RECORD_BYTES: Final = 300
"""Cost of a record, besides its text, towards the bytes that are encoded in one turn of the event loop."""

_T = TypeVar("_T")

_write: Final = msgspec.json.encode

Read = Callable[[Stream, Mapping[str, str]], Awaitable[bytes]]


class QueryError(ValueError):
    """A malformed query; the message says what was expected."""


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


class ReadEndpoint:
    """An ASGI application that answers one kind of request about the ``stream`` of its path.

    200; 401 without the key, 404 without a stream, 422 for a query that can't be read or that the
    broker refuses for good, and for methods other than GET, 501 without a broker, 410 if a part of the
    history is gone, 503 while the broker is unavailable.
    """

    __slots__ = ("_access", "_read")

    def __init__(self, read: Read, access: Access) -> None:
        self._read = read
        self._access = access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = {name: header_text(value) for name, value in scope["headers"]}
        answer = self._access.check(scope["method"], headers.get(b"authorization", ""))
        if answer is None:
            answer = await self._answer(scope)
        await send_answer(send, answer, self._access.cors(headers.get(b"origin", "")))

    async def _answer(self, scope: Scope) -> ApiResponse:
        stream = Stream(scope["path_params"]["stream"])
        if not stream:
            return ApiResponse(404, "expected a stream in the path")
        try:
            content = await self._read(stream, QueryParams(scope["query_string"]))
        except QueryError as error:
            return ApiResponse(422, str(error))
        except (NotKept, LostPosition, BackendError) as error:
            status = next(status for kind, status in _STATUSES if isinstance(error, kind))
            return ApiResponse(status, str(error))
        return ApiResponse(200, content=content)


def presence_of(reads: Reads) -> Read:
    """Reads the members of a stream."""

    async def read(stream: Stream, query: Mapping[str, str]) -> bytes:
        members = await reads.members(stream)
        answer = b'{"type":"info","total":%d' % len(members)
        # anycable-go leaves the records out if there are none.
        if members:
            records = await _list(members, _member, lambda each: len(each.info))
            answer += b',"records":' + records
        return answer + b"}"

    return read


def history_of(reads: Reads) -> Read:
    """Reads the history of a stream, oldest message first: ``since`` a time (seconds since 1970), or ``after`` a
    position (``offset:epoch``). A ``limit`` selects the newest messages, or the next ones after the position."""

    async def read(stream: Stream, query: Mapping[str, str]) -> bytes:
        start, limit = _start(query), _limit(query.get("limit"))
        newest = limit is not None and not isinstance(start, Position)
        page = await reads.page(stream, start, limit or PAGE, newest=newest)
        position = page.messages[0].position if page.messages else start
        epoch = position.epoch if isinstance(position, Position) else None
        messages = await _list(page.messages, _message, lambda each: len(each.data))
        return _write(_Messages(stream, epoch, msgspec.Raw(messages), page.more))

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


def _start(query: Mapping[str, str]) -> int | Position:
    if "after" not in query:
        return _moment(query.get("since", "0"))
    if "since" in query:
        raise QueryError("expected since or after, got both")
    try:
        return position_of(query["after"])
    except ValueError as error:
        raise QueryError(f"after: {error}") from error


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
