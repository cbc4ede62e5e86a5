"""Durable Streams: requests for reads, offsets, cursors, and the bodies and events that carry messages.

Source: PROTOCOL.md of durable-streams/durable-streams (version 1.0); docs/durable_streams.md (anycable/anycable).
Knows: queries, headers, JSON. Does not know: HTTP connections, where messages are stored, the time.
"""

import base64
import binascii
import enum
import re
from collections.abc import Callable, Sequence
from typing import Any, Final
from urllib.parse import parse_qs

import msgspec

from catenary.errors import RequestRefused
from catenary.messages.lenient_json import JSON_ERRORS
from catenary.messages.publications import Position

JSON_TYPE: Final = "application/json"

START: Final = "-1"
"""The offset before the first message."""

NOW: Final = "now"
"""The offset after the last message."""

EMPTY: Final = "0"
"""The next offset of a stream that has no messages: the same as :data:`START`."""

CURSOR_EPOCH_S: Final = 1_728_432_000
"""Cursors count the intervals since October 9, 2024 (section 10.1)."""

CURSOR_INTERVAL_S: Final = 20

MAX_JITTER: Final = 180
"""A cursor that must differ from the client's is 1 to this many intervals ahead of it: 20 to 3,600 seconds."""

_OFFSET: Final = re.compile(r"([0-9]{1,20})(?:_|::)([A-Za-z0-9.-]{1,64})")
_CURSOR: Final = re.compile(r"[0-9]{1,15}")
_LINE_BREAK: Final = re.compile(rb"\r\n|\r|\n")
_MAX_FIELDS: Final = 100

_write: Final = msgspec.json.Encoder().encode
_read_json: Final = msgspec.json.Decoder().decode


class Live(enum.Enum):
    """The live mode of a read: after the last message it ends, waits once for more messages, or stays open as an event stream."""

    CATCH_UP = ""
    LONG_POLL = "long-poll"
    SSE = "sse"


class ReadRequest(msgspec.Struct, frozen=True, kw_only=True):
    """The query of a read: messages after ``position``, all if it is None; none of the existing ones with ``is_now``.

    ``cursor`` is that of the response before, ``signed`` a signed name of the stream; both may be empty.
    """

    position: Position | None = None
    is_now: bool = False
    live: Live = Live.CATCH_UP
    cursor: str = ""
    signed: str = ""


def signed_name(query: str) -> str:
    """The signed name in the query of a request, empty if there is none. Raises :class:`RequestRefused` with 400."""
    return _fields(query).get("signed", [""])[-1]


def _fields(query: str) -> dict[str, list[str]]:
    try:
        return parse_qs(query, keep_blank_values=True, max_num_fields=_MAX_FIELDS)
    except ValueError as error:
        raise RequestRefused(
            400, f"expected a query of up to {_MAX_FIELDS} fields: {error}"
        ) from error


def read_request(query: str) -> ReadRequest:
    """Reads the query of a GET or HEAD request (sections 5.6 to 5.8). Raises :class:`RequestRefused` with 400."""
    fields = _fields(query)
    try:
        live = Live(fields.get("live", [""])[-1])
    except ValueError:
        raise RequestRefused(400, "expected live=long-poll or live=sse") from None
    offsets = fields.get("offset", [])
    if len(offsets) > 1:
        raise RequestRefused(400, "expected one offset, got more")
    if not offsets and live is not Live.CATCH_UP:
        raise RequestRefused(400, f"expected an offset for live={live.value}")
    offset = offsets[0] if offsets else START
    return ReadRequest(
        position=position_of(offset),
        is_now=offset == NOW,
        live=live,
        cursor=fields.get("cursor", [""])[-1],
        signed=fields.get("signed", [""])[-1],
    )


def position_of(offset: str) -> Position | None:
    """Reads an offset; None for those without a position: the start of the stream, and ``now``.

    Offsets of anycable-go are read, too. Their epoch is unknown here, so the client is notified that its position is
    lost. Raises :class:`RequestRefused` with 400.
    """
    if offset in (START, NOW, EMPTY):
        return None
    match = _OFFSET.fullmatch(offset)
    if match is None:
        raise RequestRefused(
            400, f"expected an offset of this server, -1 or now, got {offset[:80]!r}"
        )
    return Position(match[2], int(match[1]))


def offset_of(position: Position | None) -> str:
    """Writes an offset: opaque to clients, and sorted as text within an epoch (section 8)."""
    return EMPTY if position is None else f"{position.offset:020d}_{position.epoch}"


def cursor_at(now_s: float, asked: str = "", jitter: int = 1) -> str:
    """The cursor of a response: the number of the current interval of 20 s, or a number greater than that of the request.

    ``jitter`` is a random number from 1 to :data:`MAX_JITTER` (section 10.1).
    """
    interval = int(now_s - CURSOR_EPOCH_S) // CURSOR_INTERVAL_S
    if _CURSOR.fullmatch(asked) is not None and int(asked) >= interval:
        interval = int(asked) + jitter
    return str(interval)


def entity_tag(start: Position | None, end: Position | None, *, is_closed: bool) -> str:
    """The ETag of the messages between two positions; it varies with the end of the stream (section 10.1)."""
    closed = ":c" if is_closed else ""
    return f'"{offset_of(start)}:{offset_of(end)}{closed}"'


def matches_tag(if_none_match: str, tag: str) -> bool:
    """Whether the header If-None-Match names an entity tag (RFC 9110, section 13.1.2)."""
    return any(
        each.strip().removeprefix("W/") in (tag, "*") for each in if_none_match.split(",") if each
    )


# Content


class Content(enum.Enum):
    """How the messages of a stream are joined and sent in events: it follows from its content type (section 9)."""

    JSON = enum.auto()
    TEXT = enum.auto()
    BINARY = enum.auto()


def media_type(content_type: str) -> str:
    """A content type without its parameters, in lower case."""
    return content_type.partition(";")[0].strip().lower()


def content_of(content_type: str) -> Content:
    """The content of a stream with this content type."""
    media = media_type(content_type)
    if media == JSON_TYPE:
        return Content.JSON
    return Content.TEXT if media.startswith("text/") else Content.BINARY


def message_of(content: Content, message: bytes) -> bytes:
    """A stored message, JSON text, as a stream with this content has it.

    In a stream of bytes, a string is its characters, ``{"base64": …}`` those bytes, and another value its JSON text.
    """
    if content is Content.JSON:
        return message
    try:
        value: Any = _read_json(message)
    except JSON_ERRORS:
        return message
    if type(value) is str:
        return value.encode()
    if type(value) is dict and len(value) == 1 and type(value.get("base64")) is str:
        try:
            return base64.b64decode(value["base64"], validate=True)
        except (binascii.Error, ValueError):
            return message
    return message


Frame = Callable[[bytes], bytes]
"""Frames an event (:class:`catenary.wire.framing.Framing`)."""


class Chunk:
    """Messages of a stream that follow each other, encoded once for all readers at the same position.

    ``end`` is the position after them. ``is_up_to_date`` says that they were the last ones when they were read,
    ``is_closed`` that no others will follow.
    """

    __slots__ = ("_content", "_events", "_messages", "body", "end", "is_closed", "is_up_to_date")

    def __init__(
        self,
        content: Content,
        messages: Sequence[bytes],
        end: Position | None,
        *,
        is_up_to_date: bool,
        is_closed: bool = False,
    ) -> None:
        """``messages`` are stored ones, as JSON text."""
        self.end = end
        self.is_up_to_date = is_up_to_date
        self.is_closed = is_closed
        self._content = content
        self._messages = len(messages)
        self._events: dict[tuple[Frame, str], bytes] = {}
        parts = [message_of(content, each) for each in messages]
        self.body = b"[%b]" % b",".join(parts) if content is Content.JSON else b"".join(parts)
        """The body of a response."""

    def __len__(self) -> int:
        return self._messages

    def events(self, frame: Frame, cursor: str) -> bytes:
        """The event with the messages, if there are any, and the control event after it, framed: encoded once for all
        readers with this framing and cursor (section 5.8)."""
        events = self._events.get((frame, cursor))
        if events is None:
            events = self._events[frame, cursor] = frame(self._data_event() + self._control(cursor))
        return events

    def _data_event(self) -> bytes:
        if not self._messages:
            return b""
        data = self.body
        if self._content is Content.BINARY:
            data = base64.b64encode(data)
        elif self._content is Content.TEXT:
            # Events are UTF-8: a character that was split between two messages can't be in them.
            data = data.decode(errors="replace").encode()
        lines = b"\n".join(map(_data_line, _LINE_BREAK.split(data)))
        return b"event: data\n%b\n\n" % lines

    def _control(self, cursor: str) -> bytes:
        """Without the empty line that ends an event: the framing adds it."""
        control: dict[str, object] = {"streamNextOffset": offset_of(self.end)}
        if self.is_closed:
            control["streamClosed"] = True
        else:
            control["streamCursor"] = cursor
        if self.is_up_to_date:
            control["upToDate"] = True
        return b"event: control\ndata:" + _write(control)


def _data_line(line: bytes) -> bytes:
    """A space after the colon is not part of the data, so that a line that begins with one needs another."""
    return (b"data: " if line.startswith(b" ") else b"data:") + line
