"""The client side of HTTP/2 (RFC 9113), as far as unary calls need it.

A request is sent as a whole; a response becomes one event when it is complete. There is no push, no priorities and no
upgrade from HTTP/1.1. Knows: frames, streams, windows. Does not know: sockets, clocks, gRPC.
"""

import struct
from typing import ClassVar, Final

from catenary.wire.hpack import Field
from catenary.wire.http2_events import Event, GoingAway, Opened, Oversized, Reset, Response
from catenary.wire.http2_frames import (
    ACK,
    CANCEL,
    CONTINUATION,
    DATA,
    ENABLE_PUSH,
    END_HEADERS,
    END_STREAM,
    ENHANCE_YOUR_CALM,
    FLOW_CONTROL_ERROR,
    FRAME_SIZE_ERROR,
    GOAWAY,
    HEAD_BYTES,
    HEADER_TABLE_SIZE,
    HEADERS,
    INITIAL_WINDOW_SIZE,
    MAX_CONCURRENT_STREAMS,
    MAX_FRAME_BYTES,
    MAX_FRAME_SIZE,
    MAX_HEADER_LIST_SIZE,
    MIN_FRAME_BYTES,
    NO_ERROR,
    PADDED,
    PING,
    PRIORITIZED,
    PRIORITY,
    PROTOCOL_ERROR,
    PUSH_PROMISE,
    REFUSED_STREAM,
    RST_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
    Http2Error,
    frame,
    unpack_head,
    without_padding,
)
from catenary.wire.http2_headers import (
    MAX_BLOCK_BYTES,
    Headers,
    MalformedResponse,
    RequestBlocks,
    ResponseBlocks,
)
from catenary.wire.http2_uploads import DEFAULT_WINDOW_BYTES, MAX_WINDOW, Uploads

PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

STREAM_WINDOW_BYTES: Final = 2**20
CONNECTION_WINDOW_BYTES: Final = 2**24
"""The receive windows. Responses are processed at once, so the windows limit a flood only."""

MAX_IDLE_FRAMES: Final = 10_000
"""The maximum of consecutive frames without progress of any call, and of acknowledgements that the server does not read.

A ping every ten seconds makes 180 in half an hour; a flood makes so many within a second.
"""

_LAST_STREAM: Final = 2**31 - 1
_HEAD_ALONE: Final = HEADERS << 8 | END_HEADERS
_REQUEST_HEAD: Final = _HEAD_ALONE << 32
_REQUEST_BODY: Final = (DATA << 8 | END_STREAM) << 32
_TRAILERS: Final = HEADERS << 8 | END_HEADERS | END_STREAM
_setting: Final = struct.Struct(">HL")
_word: Final = struct.Struct(">L")


class _PartialResponse:
    """An incomplete response."""

    __slots__ = ("body", "credit", "head")

    def __init__(self, head: Headers) -> None:
        self.head = head
        self.body: bytes | bytearray = b""
        self.credit = STREAM_WINDOW_BYTES


class Http2Connection:
    """One connection. After each call of a method, the caller sends what :meth:`data_to_send` returns."""

    __slots__ = (
        "_allowed",
        "_blocks",
        "_cached_blocks",
        "_continued",
        "_credit",
        "_expected",
        "_idle_frames",
        "_is_finished",
        "_is_going_away",
        "_limit",
        "_next_id",
        "_out",
        "_replies",
        "_request_blocks",
        "_streams",
        "_tail",
        "_uploads",
        "max_body_bytes",
    )

    def __init__(self, fields: tuple[Field, ...], max_body_bytes: int) -> None:
        """``fields`` are sent with every request, after the method and the path; pseudo-header fields first."""
        self.max_body_bytes = max_body_bytes

        # Receiving
        self._tail = b""
        self._expected: int | None = SETTINGS
        """The only type allowed for the next frame; None for any."""
        self._continued: _Block | None = None
        self._blocks = ResponseBlocks()
        self._cached_blocks = self._blocks.cached
        self._credit = CONNECTION_WINDOW_BYTES
        self._idle_frames = 0
        self._replies = 0
        """Acknowledgements not sent yet."""
        self._is_finished = False

        # Sending
        self._streams: dict[int, _PartialResponse | None] = {}
        """Requests in flight, each with its partial response."""
        self._next_id = 1
        self._allowed = 0
        """Streams allowed by the server's settings."""
        self._limit = 0
        """Streams that may be open: 0 before the settings, after GOAWAY, and while the initial window is 0."""
        self._is_going_away = False
        self._request_blocks = RequestBlocks(fields)
        more = CONNECTION_WINDOW_BYTES - DEFAULT_WINDOW_BYTES
        self._out = [
            PREFACE,
            frame(SETTINGS, 0, 0, b"".join(_setting.pack(*each) for each in _OUR_SETTINGS)),
            frame(WINDOW_UPDATE, 0, 0, _word.pack(more)),
        ]
        self._uploads = Uploads(self._out)

    # Requests

    @property
    def has_room(self) -> bool:
        """Whether a request may be sent now."""
        return len(self._streams) < self._limit

    @property
    def is_shut(self) -> bool:
        """Whether the server's settings allow no request at all, for now."""
        return self._limit == 0 and not self._is_going_away and self._expected != SETTINGS

    @property
    def is_going_away(self) -> bool:
        """Whether no more requests can be sent; responses may still arrive."""
        return self._is_going_away

    @property
    def has_output(self) -> bool:
        """Whether there is data to send."""
        return bool(self._out)

    def request(self, path: bytes, more: bytes, body: bytes) -> int:
        """Sends a POST, its body as the windows allow, and returns the number of its stream.

        ``more`` are fields of this request only, from :func:`catenary.wire.hpack.literal`. Allowed only while
        :attr:`has_room`.
        """
        stream_id = self._next_id
        self._next_id = stream_id + 2
        if stream_id >= _LAST_STREAM:
            self._stop_requests()
        self._idle_frames = 0
        self._streams[stream_id] = None
        block = (self._request_blocks.cached.get(path) or self._request_blocks.write(path)) + more
        size = len(body)
        uploads = self._uploads
        if (
            size <= uploads.window
            and size <= uploads.initial_window
            and len(block) + size <= uploads.max_frame_bytes
        ):
            # A fast path: nearly every request is two frames.
            uploads.window -= size
            head = len(block) << 48 | _REQUEST_HEAD | stream_id
            then = size << 48 | _REQUEST_BODY | stream_id
            self._out += (
                head.to_bytes(HEAD_BYTES, "big"),
                block,
                then.to_bytes(HEAD_BYTES, "big"),
                body,
            )
            return stream_id
        self._send_block(stream_id, block)
        if body:
            uploads.begin(stream_id, body)
            self._send_uploads()
        else:
            self._out.append(frame(DATA, END_STREAM, stream_id, b""))
        return stream_id

    def cancel(self, stream_id: int) -> None:
        """Resets a request; frames of its response are ignored."""
        if self._forget(stream_id):
            self._out.append(frame(RST_STREAM, 0, stream_id, _word.pack(CANCEL)))

    def ping(self) -> None:
        """Sends a ping, which the server must acknowledge."""
        self._idle_frames = 0
        self._out.append(frame(PING, 0, 0, bytes(8)))

    def close(self, code: int = NO_ERROR) -> None:
        """Sends GOAWAY, once (section 6.8). Nothing is read after that."""
        if self._is_finished:
            return
        self._is_finished = True
        self._stop_requests()
        self._out.append(frame(GOAWAY, 0, 0, bytes(4) + _word.pack(code)))

    def data_to_send(self) -> bytes:
        """Returns the bytes to send now, empty if there are none."""
        data = b"".join(self._out)
        self._out.clear()
        self._replies = 0
        return data

    # Responses

    def receive(self, data: bytes) -> list[Event]:
        """Reads more bytes; returns the events that are complete now, in order.

        A connection error becomes an :class:`Http2Error`, which is always the last event.
        """
        events: list[Event] = []
        if self._is_finished:
            return events
        if self._tail:
            data = self._tail + data
        at = 0
        end = len(data)
        try:
            while end - at >= HEAD_BYTES:
                size, low, what, stream_id = unpack_head(data, at)
                size = size << 8 | low
                start = at + HEAD_BYTES
                if what == _HEAD_ALONE and self._expected is None:
                    after = self._read_usual_response(data, start, size, stream_id, events)
                    if after:
                        at = after
                        continue
                kind = what >> 8
                if self._expected is not None and kind != self._expected:
                    self._raise_unexpected(data[at:start])
                if size > MIN_FRAME_BYTES:
                    raise Http2Error(
                        FRAME_SIZE_ERROR,
                        f"expected frames of up to {MIN_FRAME_BYTES} bytes, got {size}",
                    )
                if start + size > end:
                    break
                at = start + size
                read = self._READERS.get(kind)
                if read is None:
                    self._count_idle_frame()
                else:
                    read(self, stream_id & MAX_WINDOW, what & 0xFF, data[start:at], events)
        except Http2Error as error:
            self.close(error.code)
            events.append(error)
        self._tail = data[at:]
        return events

    def _read_usual_response(
        self, data: bytes, start: int, size: int, stream_id: int, events: list[Event]
    ) -> int:
        """Reads a complete response of the usual form and returns its end; returns 0 for any other.

        The usual form is a head and trailers with cached blocks, and one DATA frame between them. A fast path: it saves
        half the time. Any other response is read frame by frame.
        """
        head = self._cached_blocks.get(data[start : start + size])
        at = start + size
        if head is None or len(data) < at + 2 * HEAD_BYTES:
            return 0
        size, low, what, data_id = unpack_head(data, at)
        size = size << 8 | low
        if what != DATA << 8 or data_id != stream_id or size > MIN_FRAME_BYTES:
            return 0
        start = at + HEAD_BYTES
        at = start + size
        if len(data) < at + HEAD_BYTES:
            return 0
        high, low, what, trailers_id = unpack_head(data, at)
        if what != _TRAILERS or trailers_id != stream_id:
            return 0
        after: int = at + HEAD_BYTES + (high << 8 | low)
        trailers = self._cached_blocks.get(data[at + HEAD_BYTES : after])
        if (
            trailers is None
            or after > len(data)
            or b":status" in trailers
            or head.get(b":status", b"") < b"200"
            or self._streams.get(stream_id, head) is not None
            or stream_id in self._uploads
            or not 0 < size <= self.max_body_bytes
            or self._credit - size < CONNECTION_WINDOW_BYTES // 2
        ):
            return 0
        self._credit -= size
        self._idle_frames = 0
        del self._streams[stream_id]
        events.append(Response(stream_id, head, data[start:at], trailers))
        return after

    def _read_data(self, stream_id: int, flags: int, payload: bytes, events: list[Event]) -> None:
        size = len(payload)
        self._credit -= size
        if self._credit < CONNECTION_WINDOW_BYTES // 2:
            if self._credit < 0:
                raise Http2Error(FLOW_CONTROL_ERROR, "expected no more data than the window allows")
            self._credit += self._extend_window(0, CONNECTION_WINDOW_BYTES - self._credit)
        if flags & PADDED:
            payload = without_padding(payload)
        response = self._streams.get(stream_id)
        if response is None:
            if stream_id in self._streams:
                self._reset_stream(stream_id, "expected header fields before data", events)
            else:
                self._check_known_stream(stream_id)
            return
        response.credit -= size
        if response.credit < 0:
            raise Http2Error(
                FLOW_CONTROL_ERROR, "expected no more data than a stream's window allows"
            )
        if not response.body:
            response.body = payload
        elif isinstance(response.body, bytearray):
            response.body += payload
        else:
            response.body = bytearray(response.body + payload)
        if len(response.body) > self.max_body_bytes:
            self.cancel(stream_id)
            events.append(Oversized(stream_id))
        elif flags & END_STREAM:
            self._finish(stream_id, response, {}, events)
        elif not payload:
            self._count_idle_frame()
        elif response.credit < STREAM_WINDOW_BYTES // 2:
            response.credit += self._extend_window(stream_id, STREAM_WINDOW_BYTES - response.credit)

    def _read_headers(
        self, stream_id: int, flags: int, payload: bytes, events: list[Event]
    ) -> None:
        if not stream_id & 1 or stream_id >= self._next_id:
            raise Http2Error(PROTOCOL_ERROR, f"expected a stream of this client, got {stream_id}")
        if flags & PADDED:
            payload = without_padding(payload)
        if flags & PRIORITIZED:
            if len(payload) < 5:
                raise Http2Error(FRAME_SIZE_ERROR, "expected a priority of five bytes")
            payload = payload[5:]
        if flags & END_HEADERS:
            self._read_block(stream_id, flags, payload, events)
        else:
            self._expected = CONTINUATION
            self._continued = _Block(stream_id, flags, bytearray(payload))

    def _read_continuation(
        self, stream_id: int, flags: int, payload: bytes, events: list[Event]
    ) -> None:
        block = self._continued
        if block is None or stream_id != block.stream_id:
            raise Http2Error(PROTOCOL_ERROR, "expected a continuation of the same stream")
        self._count_idle_frame()
        block.pieces += payload
        if len(block.pieces) > MAX_BLOCK_BYTES:
            raise Http2Error(
                ENHANCE_YOUR_CALM, f"expected header fields of up to {MAX_BLOCK_BYTES} bytes"
            )
        if flags & END_HEADERS:
            self._expected = self._continued = None
            self._read_block(stream_id, block.flags, bytes(block.pieces), events)

    def _read_block(self, stream_id: int, flags: int, block: bytes, events: list[Event]) -> None:
        headers = self._cached_blocks.get(block)
        try:
            if headers is None:
                headers = self._blocks.read(block)
            if stream_id not in self._streams:
                self._count_idle_frame()
                return
            response = self._streams[stream_id]
            status = headers.get(b":status")
            if response is not None:
                if status is not None or not flags & END_STREAM:
                    raise MalformedResponse("expected trailers, got another head")
                self._finish(stream_id, response, headers, events)
            elif status is None:
                raise MalformedResponse("expected a status, got none")
            elif status < b"200":
                if flags & END_STREAM:
                    raise MalformedResponse("expected more than an interim response")
                self._count_idle_frame()
            elif flags & END_STREAM:
                self._finish(stream_id, _PartialResponse(headers), headers, events)
            else:
                self._streams[stream_id] = _PartialResponse(headers)
        except MalformedResponse as error:
            self._reset_stream(stream_id, str(error), events)

    def _read_reset(self, stream_id: int, flags: int, payload: bytes, events: list[Event]) -> None:
        if len(payload) != 4:
            raise Http2Error(FRAME_SIZE_ERROR, "expected an error code of four bytes")
        if self._forget(stream_id):
            events.append(Reset(stream_id, _word.unpack(payload)[0]))
        else:
            self._check_known_stream(stream_id)

    def _read_settings(
        self, stream_id: int, flags: int, payload: bytes, events: list[Event]
    ) -> None:
        is_first = self._expected is not None
        if stream_id or (is_first and flags & ACK):
            raise Http2Error(PROTOCOL_ERROR, "expected settings of the connection")
        if len(payload) % _setting.size or (flags & ACK and payload):
            raise Http2Error(FRAME_SIZE_ERROR, "expected settings of six bytes each")
        self._count_idle_frame()
        if flags & ACK:
            return
        self._expected = None
        if is_first:
            self._allowed = MAX_WINDOW
            events.append(Opened())
        for key, value in _setting.iter_unpack(payload):
            self._set(key, value)
        self._limit = (
            0 if self._is_going_away or not self._uploads.initial_window else self._allowed
        )
        self._reply(_SETTINGS_ACK)
        self._send_uploads()

    def _set(self, key: int, value: int) -> None:
        """Section 6.5.2. Unknown settings are ignored."""
        if key == HEADER_TABLE_SIZE:
            self._request_blocks.limit_table(value)
        elif key == MAX_CONCURRENT_STREAMS:
            self._allowed = value
        elif key == INITIAL_WINDOW_SIZE:
            self._uploads.set_initial_window(value)
        elif key == MAX_FRAME_SIZE:
            if not MIN_FRAME_BYTES <= value <= MAX_FRAME_BYTES:
                raise Http2Error(PROTOCOL_ERROR, f"expected a size of frames, got {value}")
            self._uploads.max_frame_bytes = value
        elif key == ENABLE_PUSH and value:
            raise Http2Error(PROTOCOL_ERROR, "expected no push from a server")

    def _read_push(self, stream_id: int, flags: int, payload: bytes, events: list[Event]) -> None:
        raise Http2Error(PROTOCOL_ERROR, "expected no push: it is off")

    def _read_ping(self, stream_id: int, flags: int, payload: bytes, events: list[Event]) -> None:
        if stream_id:
            raise Http2Error(PROTOCOL_ERROR, "expected a ping of the connection")
        if len(payload) != 8:
            raise Http2Error(FRAME_SIZE_ERROR, "expected a ping of eight bytes")
        self._count_idle_frame()
        if not flags & ACK:
            self._reply(frame(PING, ACK, 0, payload))

    def _read_goaway(self, stream_id: int, flags: int, payload: bytes, events: list[Event]) -> None:
        if stream_id:
            raise Http2Error(PROTOCOL_ERROR, "expected GOAWAY of the connection")
        if len(payload) < 8:
            raise Http2Error(FRAME_SIZE_ERROR, "expected GOAWAY of eight bytes or more")
        self._count_idle_frame()
        self._stop_requests()
        last = _word.unpack_from(payload)[0] & MAX_WINDOW
        for refused in [each for each in self._streams if each > last]:
            self._forget(refused)
            events.append(Reset(refused, REFUSED_STREAM))
        events.append(GoingAway(_word.unpack_from(payload, 4)[0], payload[8:]))

    def _read_window(self, stream_id: int, flags: int, payload: bytes, events: list[Event]) -> None:
        if len(payload) != 4:
            raise Http2Error(FRAME_SIZE_ERROR, "expected an increment of four bytes")
        self._count_idle_frame()
        more = _word.unpack(payload)[0] & MAX_WINDOW
        if not more:
            # For a stream, section 6.9 asks for a stream error; but such a server is broken.
            raise Http2Error(PROTOCOL_ERROR, "expected an increment, got 0")
        if not stream_id or stream_id in self._streams:
            self._uploads.extend(stream_id, more)
        else:
            self._check_known_stream(stream_id)
        self._send_uploads()

    def _read_priority(
        self, stream_id: int, flags: int, payload: bytes, events: list[Event]
    ) -> None:
        if not stream_id:
            raise Http2Error(PROTOCOL_ERROR, "expected a priority of a stream")
        if len(payload) != 5:
            raise Http2Error(FRAME_SIZE_ERROR, "expected a priority of five bytes")
        self._count_idle_frame()

    _READERS: ClassVar = {
        DATA: _read_data,
        HEADERS: _read_headers,
        PRIORITY: _read_priority,
        RST_STREAM: _read_reset,
        SETTINGS: _read_settings,
        PUSH_PROMISE: _read_push,
        PING: _read_ping,
        GOAWAY: _read_goaway,
        WINDOW_UPDATE: _read_window,
        CONTINUATION: _read_continuation,
    }

    # The ends of streams

    def _finish(
        self, stream_id: int, response: _PartialResponse, trailers: Headers, events: list[Event]
    ) -> None:
        self._idle_frames = 0
        if stream_id in self._uploads:
            # Section 8.1: a response may end before its request.
            self.cancel(stream_id)
        else:
            del self._streams[stream_id]
        events.append(Response(stream_id, response.head, bytes(response.body), trailers))

    def _reset_stream(self, stream_id: int, reason: str, events: list[Event]) -> None:
        """Section 8.1.1: "a stream error of type PROTOCOL_ERROR"."""
        if not self._forget(stream_id):
            self._count_idle_frame()
            return
        self._out.append(frame(RST_STREAM, 0, stream_id, _word.pack(PROTOCOL_ERROR)))
        events.append(Reset(stream_id, PROTOCOL_ERROR, reason))

    def _forget(self, stream_id: int) -> bool:
        """Removes a stream; returns whether it existed."""
        if stream_id not in self._streams:
            return False
        del self._streams[stream_id]
        self._uploads.forget(stream_id)
        return True

    def _stop_requests(self) -> None:
        self._is_going_away = True
        self._limit = 0

    def _send_block(self, stream_id: int, block: bytes) -> None:
        """Sends a block in as many frames as it needs."""
        size = self._uploads.max_frame_bytes
        for at in range(0, len(block), size):
            kind = CONTINUATION if at else HEADERS
            flags = END_HEADERS if at + size >= len(block) else 0
            self._out.append(frame(kind, flags, stream_id, block[at : at + size]))

    def _send_uploads(self) -> None:
        if self._uploads.send():
            self._idle_frames = 0

    def _extend_window(self, stream_id: int, more: int) -> int:
        self._out.append(frame(WINDOW_UPDATE, 0, stream_id, _word.pack(more)))
        return more

    # Unexpected frames

    def _raise_unexpected(self, head: bytes) -> None:
        if self._expected == CONTINUATION:
            raise Http2Error(PROTOCOL_ERROR, "expected a continuation, got another frame")
        raise Http2Error(PROTOCOL_ERROR, f"expected HTTP/2 settings, got {head!r}")

    def _check_known_stream(self, stream_id: int) -> None:
        """A frame of a stream that this side has ended is ignored; one of a stream that never existed is an error."""
        if not stream_id & 1 or stream_id >= self._next_id:
            raise Http2Error(PROTOCOL_ERROR, f"expected a stream of this client, got {stream_id}")
        self._count_idle_frame()

    def _reply(self, acknowledgement: bytes) -> None:
        self._out.append(acknowledgement)
        self._replies += 1
        if self._replies > MAX_IDLE_FRAMES:
            raise Http2Error(ENHANCE_YOUR_CALM, "expected a server that reads acknowledgements")

    def _count_idle_frame(self) -> None:
        self._idle_frames += 1
        if self._idle_frames > MAX_IDLE_FRAMES:
            raise Http2Error(
                ENHANCE_YOUR_CALM, f"expected responses, got {self._idle_frames} other frames"
            )


class _Block:
    """An incomplete header block."""

    __slots__ = ("flags", "pieces", "stream_id")

    def __init__(self, stream_id: int, flags: int, pieces: bytearray) -> None:
        self.stream_id = stream_id
        self.flags = flags
        self.pieces = pieces


_OUR_SETTINGS: Final = (
    (ENABLE_PUSH, 0),
    (INITIAL_WINDOW_SIZE, STREAM_WINDOW_BYTES),
    (MAX_HEADER_LIST_SIZE, MAX_BLOCK_BYTES),
)
_SETTINGS_ACK: Final = frame(SETTINGS, ACK, 0, b"")
