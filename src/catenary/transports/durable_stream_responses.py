"""The heads of responses to reads of a durable stream: status, offsets, cursors, and what caches may keep.

Source: PROTOCOL.md of durable-streams/durable-streams, sections 5.5 to 5.8 and 8.
Knows: HTTP headers. Does not know: connections, histories.
"""

import random
from collections.abc import Mapping
from typing import Final, NamedTuple

from catenary.messages.publications import Position
from catenary.protocols import durable_streams
from catenary.protocols.durable_stream_writes import CLOSED, IMPLIED, Record, metadata
from catenary.protocols.durable_streams import MAX_JITTER, Chunk, Content, offset_of
from catenary.transports.durable_stream_requests import OpenedRead
from catenary.transports.http_responses import Headers
from catenary.wire.event_stream import NO_BUFFERING

_SHARED_CACHE: Final = "public, max-age=60, stale-while-revalidate=300"
_PRIVATE_CACHE: Final = "private, max-age=60, stale-while-revalidate=300"
_NOT_CACHED: Final = ("Cache-Control", "no-store")
_UP_TO_DATE: Final = ("Stream-Up-To-Date", "true")


class ResponseHead(NamedTuple):
    """``headers`` are those of the stream and of caches; a transport adds those of the connection."""

    status: int
    headers: Headers


def of_messages(
    request: OpenedRead, record: Record | None, chunk: Chunk, cursor: str
) -> ResponseHead:
    """The response to a catch-up read, or to a long poll that has messages: 200, or 304 if the client has them already.
    ``record`` is None for a stream that nobody created."""
    headers = [
        ("Content-Type", durable_streams.JSON_TYPE if record is None else record.content_type),
        ("Stream-Next-Offset", offset_of(chunk.end)),
        ("Stream-Cursor", cursor),
    ]
    if chunk.is_up_to_date:
        headers.append(_UP_TO_DATE)
    if chunk.is_closed:
        headers.append(CLOSED)
    if request.query.is_now:
        return ResponseHead(200, (*headers, _NOT_CACHED))
    start, end = request.query.position, chunk.end
    tag = durable_streams.entity_tag(start, end, is_closed=chunk.is_closed)
    cache = _SHARED_CACHE if request.is_shared else _PRIVATE_CACHE
    is_known = durable_streams.matches_tag(request.if_none_match, tag)
    return ResponseHead(
        304 if is_known else 200, (*headers, ("Cache-Control", cache), ("ETag", tag))
    )


def of_no_messages(record: Record | None, position: Position | None, cursor: str) -> ResponseHead:
    """The response to a long poll that has reached its time limit without messages, or whose stream is closed."""
    closed = (CLOSED,) if record is not None and record.is_closed else ()
    offset = ("Stream-Next-Offset", offset_of(position))
    return ResponseHead(204, (offset, ("Stream-Cursor", cursor), _UP_TO_DATE, _NOT_CACHED, *closed))


def of_head(record: Record | None, position: Position | None) -> ResponseHead:
    """The response to a HEAD request; ``position`` is that of the last message."""
    described = metadata(IMPLIED if record is None else record)
    return ResponseHead(200, (*described, ("Stream-Next-Offset", offset_of(position)), _NOT_CACHED))


def of_events(content: Content, cors: Headers) -> Mapping[str, str]:
    """The headers of an event stream."""
    headers = dict((("Content-Type", "text/event-stream"), *NO_BUFFERING)) | dict(cors)
    if content is Content.BINARY:
        headers["Stream-SSE-Data-Encoding"] = "base64"
    return headers


def next_cursor(now: float, asked: str) -> str:
    """A cursor that differs from ``asked``, the cursor of the request; ``now`` is in seconds since 1970."""
    jitter = random.randint(1, MAX_JITTER)  # noqa: S311  (no secret)
    return durable_streams.cursor_at(now, asked, jitter)
