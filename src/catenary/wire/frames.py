"""WebSocket frames (RFC 6455, section 5): bytes → messages and control frames, and back.

The server's side: received frames are masked, sent frames are not.
Knows: bits. Does not know: sockets, compression, the meaning of messages.
"""

import codecs
from collections.abc import Callable, Iterable, Iterator
from typing import Final

import msgspec

from catenary.errors import FrameError

# Opcodes, section 11.8.
CONTINUATION: Final = 0x0
TEXT: Final = 0x1
BINARY: Final = 0x2
CLOSE: Final = 0x8
PING: Final = 0x9
PONG: Final = 0xA

# Close codes, section 7.4.1.
NORMAL: Final = 1000
GOING_AWAY: Final = 1001
PROTOCOL_ERROR: Final = 1002
NO_STATUS: Final = 1005
INVALID_PAYLOAD: Final = 1007
POLICY: Final = 1008
TOO_BIG: Final = 1009

RSV1: Final = 0x40
"""Section 5.2; set in the first frame of a compressed message (RFC 7692, section 6)."""

_FIN: Final = 0x80
_RESERVED: Final = 0x70
_MASKED: Final = 0x80
_WHOLE_TEXT: Final = _FIN | TEXT
"""The first byte of nearly every frame; then only the mask bit must be checked."""
_SHORT_FRAME_BYTES: Final = 6 + 125
"""The longest frame whose second byte is its length."""
_MEDIUM: Final = _MASKED | 126
_MEDIUM_FRAME_BYTES: Final = 8 + 126
"""A frame with a length of 16 bits: its second byte, and its shortest size."""
_SHORT_TEXTS: Final = tuple(bytes((_WHOLE_TEXT, size)) for size in range(126))
_MAX_CONTROL_BYTES: Final = 125
_MAX_REASON_BYTES: Final = 123


class Message(msgspec.Struct, frozen=True, gc=False):
    """A complete message, its fragments joined. The ``payload`` of a text is valid UTF-8."""

    payload: bytes
    is_text: bool


class PingFrame(msgspec.Struct, frozen=True, gc=False):
    """Section 5.5.2: to be answered with a pong of the same payload."""

    payload: bytes


class PongFrame(msgspec.Struct, frozen=True, gc=False):
    """Section 5.5.3."""

    payload: bytes


class Close(msgspec.Struct, frozen=True, gc=False):
    """Section 5.5.1; ``code`` is 1005 if the frame has none."""

    code: int
    reason: str


Event = Message | PingFrame | PongFrame | Close | FrameError

Inflate = Callable[[bytes, int], bytes]
"""Decompresses a message to at most so many bytes. Raises :class:`FrameError`."""


class FrameReader:
    """Converts bytes, however they are split, into events.

    An invalid frame becomes a :class:`FrameError`, which is always the last event: nothing is read after it, nor after a
    Close. An idle reader has no buffers.
    """

    __slots__ = (
        "_fragments",
        "_inflate",
        "_max_bytes",
        "_missing",
        "_opener",
        "_tail",
        "_valid",
        "finished",
        "is_midway",
        "pieces",
    )

    def __init__(self, max_message_bytes: int, inflate: Inflate | None = None) -> None:
        """``inflate`` is set if compression was negotiated; without it, compressed frames are invalid."""
        self._max_bytes = max_message_bytes
        self._inflate = inflate
        # An incomplete frame, and the size that it must reach
        self._tail: bytearray | None = None
        self._missing = 0
        # An incomplete message: its first byte, its payload, and the length of its valid text
        self._opener = 0
        self._fragments: bytearray | None = None
        self._valid = 0
        self.finished = False
        # Whether a frame or a message is incomplete
        self.is_midway = False
        # Fragments received, which are not events, for the rate limit
        self.pieces = 0

    def finish(self) -> None:
        """Stops reading, and drops incomplete frames and messages."""
        self.finished = True
        self._tail = self._fragments = None
        self.is_midway = False

    def receive(self, data: bytes) -> list[Event]:
        """Reads more bytes; returns the events that are complete now, in order."""
        if not self.is_midway and not self.finished:
            payload = _lone_text(data, self._max_bytes)
            if payload is not None:
                return [Message(payload, True)]
        tail = self._tail
        if tail is not None:
            tail += data
            if len(tail) < self._missing:
                return []
            data = bytes(tail)
            self._tail = None
        events: list[Event] = []
        position = 0
        size = len(data)
        try:
            while position < size and not self.finished:
                end = self._read_frame(data, position, events)
                if end == 0:
                    break
                position = end
        except FrameError as error:
            self.finished = True
            events.append(error)
        if self.finished:
            self.finish()
            return events
        if position < size:
            self._tail = bytearray(data[position:])
        self.is_midway = self._tail is not None or self._fragments is not None
        return events

    def _read_frame(self, data: bytes, start: int, events: list[Event]) -> int:
        """Reads one frame; returns its end, or 0 if it is incomplete."""
        available = len(data) - start
        self._missing = 2
        if available < 2:
            return 0
        first = data[start]
        length = data[start + 1]
        if first != _WHOLE_TEXT or length < _MASKED or self._fragments is not None:
            self._check_header(first, length)
        length &= 0x7F
        body = start + 6
        if length == 126:
            self._missing = 4
            if available < 4:
                return 0
            length = int.from_bytes(data[start + 2 : start + 4], "big")
            if length < 126:
                raise FrameError(PROTOCOL_ERROR, f"expected {length} in a length of 7 bits")
            body = start + 8
        elif length == 127:
            self._missing = 10
            if available < 10:
                return 0
            length = int.from_bytes(data[start + 2 : start + 10], "big")
            if length >> 63:
                raise FrameError(PROTOCOL_ERROR, "expected a length with a highest bit of 0")
            if length < 65536:
                raise FrameError(PROTOCOL_ERROR, f"expected {length} in a length of 16 bits")
            body = start + 14
        if not first & 0x08 and (length > self._max_bytes or self._fragments is not None):
            self._check_size(first, length)
        end = body + length
        if end > len(data):
            # Until so many bytes are there, receive() only appends: no byte is parsed twice.
            self._missing = end - start
            return 0
        payload = data[body:end]
        mask = data[body - 4 : body]
        if mask != b"\0\0\0\0":
            payload = unmask(payload, mask)
        if first == _WHOLE_TEXT:
            if not payload.isascii():
                _valid_bytes(payload, is_whole=True)
            events.append(Message(payload, True))
        else:
            self._accept(first, payload, events)
        return end

    def _check_header(self, first: int, second: int) -> None:
        """Checks the first two bytes (sections 5.2 to 5.5), before the body of an invalid frame is awaited."""
        opcode = first & 0x0F
        if first & _RESERVED:
            self._check_reserved(first)
        if not second & _MASKED:
            raise FrameError(PROTOCOL_ERROR, "expected a masked frame from a client")
        if opcode in (TEXT, BINARY):
            if self._fragments is not None:
                raise FrameError(PROTOCOL_ERROR, "expected a continuation, got a new message")
        elif opcode == CONTINUATION:
            if self._fragments is None:
                raise FrameError(PROTOCOL_ERROR, "expected a message, got a continuation of none")
        elif opcode in (CLOSE, PING, PONG):
            if not first & _FIN:
                raise FrameError(PROTOCOL_ERROR, "expected control frames in one piece")
            if second & 0x7F > _MAX_CONTROL_BYTES:
                raise FrameError(PROTOCOL_ERROR, "expected control frames of up to 125 bytes")
        else:
            raise FrameError(PROTOCOL_ERROR, f"expected a known opcode, got {opcode:#x}")

    def _check_reserved(self, first: int) -> None:
        if self._inflate is None:
            raise FrameError(PROTOCOL_ERROR, "expected reserved bits of 0: no extension is in use")
        # RFC 7692, section 6: neither control frames nor continuations have it.
        if first & _RESERVED != RSV1 or first & 0x0F not in (TEXT, BINARY):
            raise FrameError(PROTOCOL_ERROR, "expected no reserved bit but that of compression")

    def _check_size(self, first: int, length: int) -> None:
        """Checks the size of the message, as far as it is known."""
        if self._fragments is not None:
            first = self._opener
            length += len(self._fragments)
        limit = self._max_bytes
        if first & RSV1:
            # Incompressible data grows: by 1/8 if each byte is a literal of 9 bits.
            limit += limit // 8 + 64
        if length > limit:
            raise FrameError(TOO_BIG, f"expected messages of up to {limit} bytes, got {length}")

    def _accept(self, first: int, payload: bytes, events: list[Event]) -> None:
        opcode = first & 0x0F
        if opcode == TEXT or opcode == BINARY:
            if first & _FIN:
                events.append(self._message(first, payload))
            else:
                self._opener = first
                self._fragments = bytearray()
                self._valid = 0
                self._continue(self._fragments, payload)
        elif opcode == CONTINUATION:
            fragments = self._fragments
            assert fragments is not None  # by _check_header
            self._continue(fragments, payload)
            if first & _FIN:
                self._fragments = None
                events.append(self._message(self._opener, bytes(fragments)))
        elif opcode == PING:
            events.append(PingFrame(payload))
        elif opcode == PONG:
            events.append(PongFrame(payload))
        else:
            self.finished = True
            events.append(_close(payload))

    def _continue(self, fragments: bytearray, payload: bytes) -> None:
        """Text is checked as it arrives: an invalid message is refused before its rest is sent."""
        fragments += payload
        self.pieces += 1
        if self._opener & ~_FIN == TEXT:
            self._valid += _valid_bytes(fragments[self._valid :], is_whole=False)

    def _message(self, opener: int, payload: bytes) -> Message:
        if opener & RSV1:
            assert self._inflate is not None  # by _check_reserved
            payload = self._inflate(payload, self._max_bytes)
        is_text = opener & 0x0F == TEXT
        if is_text and not payload.isascii():
            _valid_bytes(payload, is_whole=True)
        return Message(payload, is_text)


def _valid_bytes(text: bytes | bytearray, *, is_whole: bool) -> int:
    """The number of bytes that are complete characters. Raises :class:`FrameError` (section 8.1)."""
    try:
        return codecs.utf_8_decode(text, "strict", is_whole)[1]
    except UnicodeDecodeError as error:
        raise FrameError(INVALID_PAYLOAD, f"expected text in UTF-8: {error.reason}") from error


def _close(payload: bytes) -> Close:
    if not payload:
        return Close(NO_STATUS, "")
    if len(payload) == 1:
        raise FrameError(PROTOCOL_ERROR, "expected a close code of two bytes, got one")
    code = int.from_bytes(payload[:2], "big")
    if not _may_be_sent(code):
        raise FrameError(PROTOCOL_ERROR, f"expected a close code that may be sent, got {code}")
    try:
        return Close(code, payload[2:].decode())
    except UnicodeDecodeError as error:
        raise FrameError(INVALID_PAYLOAD, "expected a close reason in UTF-8") from error


def _lone_text(data: bytes, max_bytes: int) -> bytes | None:
    """The payload if the data is exactly one unfragmented ASCII text, as in nearly every read; else None. A fast path:
    it takes half the time."""
    size = len(data)
    if size < 6 or data[0] != _WHOLE_TEXT:
        return None
    second = data[1]
    if size <= _SHORT_FRAME_BYTES and second == _MASKED | size - 6:
        body = 6
    elif second == _MEDIUM and size >= _MEDIUM_FRAME_BYTES and data[2] << 8 | data[3] == size - 8:
        body = 8
    else:
        return None
    if size - body > max_bytes:
        return None
    payload = data[body:]
    mask = data[body - 4 : body]
    if mask != b"\0\0\0\0":
        payload = unmask(payload, mask)
    return payload if payload.isascii() else None


def _may_be_sent(code: int) -> bool:
    """Sections 7.4.1 and 7.4.2: 1004 to 1006 and 1015 must not be sent; 1012 to 1014 were registered later."""
    return 1000 <= code <= 1003 or 1007 <= code <= 1014 or 3000 <= code <= 4999


def unmask(payload: bytes, mask: bytes) -> bytes:
    """Section 5.3. Its own inverse.

    One XOR of two long integers takes 0.3 µs for 100 bytes; a loop over bytes takes 8 µs.
    """
    size = len(payload)
    key = (mask * (size // 4 + 1))[:size]
    return (int.from_bytes(payload, "little") ^ int.from_bytes(key, "little")).to_bytes(
        size, "little"
    )


def frame(opcode: int, payload: bytes) -> bytes:
    """One whole frame from the server: final, not masked."""
    return _headed(_FIN | opcode, payload)


def _headed(first: int, payload: bytes) -> bytes:
    size = len(payload)
    if size < 126:
        return bytes((first, size)) + payload
    if size < 65536:
        return bytes((first, 126)) + size.to_bytes(2, "big") + payload
    return bytes((first, 127)) + size.to_bytes(8, "big") + payload


def fragments(opcode: int, pieces: Iterable[bytes], *, reserved: int = 0) -> Iterator[bytes]:
    """One message in several frames (section 5.4), so that its size need not be known in advance: a frame for each piece
    that is not empty, and a last one. ``reserved`` are bits of the first."""
    first = opcode | reserved
    for piece in pieces:
        if piece:
            yield _headed(first, piece)
            first = CONTINUATION
        else:
            yield b""
    yield _headed(_FIN | first, b"")


def text_frame(payload: bytes) -> bytes:
    """A text message in one frame."""
    size = len(payload)
    if size < 126:
        return _SHORT_TEXTS[size] + payload
    return frame(TEXT, payload)


def close_frame(code: int, reason: str) -> bytes:
    """Section 5.5.1; the reason is truncated to 123 bytes, never within a character."""
    if code == NO_STATUS:
        return frame(CLOSE, b"")
    text = reason.encode()[:_MAX_REASON_BYTES].decode(errors="ignore").encode()
    return frame(CLOSE, code.to_bytes(2, "big") + text)
