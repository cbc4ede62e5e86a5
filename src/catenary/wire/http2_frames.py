"""Frames of HTTP/2 (RFC 9113, sections 4 and 6): their constants and their header.

Knows: bytes. Does not know: which frame is allowed when.
"""

import struct
from typing import Final

# Frame types, section 6.
DATA: Final = 0x0
HEADERS: Final = 0x1
PRIORITY: Final = 0x2
RST_STREAM: Final = 0x3
SETTINGS: Final = 0x4
PUSH_PROMISE: Final = 0x5
PING: Final = 0x6
GOAWAY: Final = 0x7
WINDOW_UPDATE: Final = 0x8
CONTINUATION: Final = 0x9

# Flags.
END_STREAM: Final = 0x1
ACK: Final = 0x1
END_HEADERS: Final = 0x4
PADDED: Final = 0x8
PRIORITIZED: Final = 0x20

# Settings, section 6.5.2.
HEADER_TABLE_SIZE: Final = 0x1
ENABLE_PUSH: Final = 0x2
MAX_CONCURRENT_STREAMS: Final = 0x3
INITIAL_WINDOW_SIZE: Final = 0x4
MAX_FRAME_SIZE: Final = 0x5
MAX_HEADER_LIST_SIZE: Final = 0x6

# Error codes, section 7.
NO_ERROR: Final = 0x0
PROTOCOL_ERROR: Final = 0x1
FLOW_CONTROL_ERROR: Final = 0x3
FRAME_SIZE_ERROR: Final = 0x6
REFUSED_STREAM: Final = 0x7
CANCEL: Final = 0x8
COMPRESSION_ERROR: Final = 0x9
ENHANCE_YOUR_CALM: Final = 0xB
INADEQUATE_SECURITY: Final = 0xC

HEAD_BYTES: Final = 9
"""The header of each frame."""
MIN_FRAME_BYTES: Final = 16_384
MAX_FRAME_BYTES: Final = 2**24 - 1
"""SETTINGS_MAX_FRAME_SIZE is between these; the first is the default."""

unpack_head: Final = struct.Struct(">HBHL").unpack_from
"""A frame's header: its size in two parts, type and flags in one number, the stream."""


class Http2Error(Exception):
    """A connection error: the peer broke the protocol, and the connection can't be used any more.

    ``code`` is the error code that is sent to it (section 7).
    """

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


def frame(kind: int, flags: int, stream_id: int, payload: bytes) -> bytes:
    """One frame (section 4.1)."""
    head = len(payload) << 48 | kind << 40 | flags << 32 | stream_id
    return head.to_bytes(HEAD_BYTES, "big") + payload


def without_padding(payload: bytes) -> bytes:
    """Section 6.1. Raises :class:`Http2Error`."""
    if not payload or payload[0] >= len(payload):
        raise Http2Error(PROTOCOL_ERROR, "expected less padding than payload")
    return payload[1 : len(payload) - payload[0]]
