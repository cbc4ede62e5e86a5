"""Framings: how payloads are delimited on each kind of connection.

Every framing is self-delimiting: a batch of messages is the concatenation of their frames, so one ``write`` sends any
number of them, and the code that joins frames need not know the framing.
Knows: RFC 6455 frames, permessage-deflate. Does not know: the meaning of payloads, sockets.
"""

import functools
from collections.abc import Callable, Iterator
from typing import Final

import msgspec

from catenary.wire.deflate import WINDOWS, deflated_fragments, deflated_frame
from catenary.wire.frames import BINARY, PING, TEXT, fragments, frame, text_frame

_PREFIX_BYTES: Final = 4


class Framing(msgspec.Struct, frozen=True, eq=False):
    """One way to delimit payloads.

    ``frame`` delimits one payload. ``frame_pieces`` does so for a payload that is encoded piece by piece: it yields
    batches, which are empty while nothing can be sent. ``ping`` is the transport's own heartbeat, framed; empty if it
    has none.
    """

    frame: Callable[[bytes], bytes]
    frame_pieces: Callable[[Iterator[bytes]], Iterator[bytes]]
    ping: bytes = b""


def frame_whole(frame: Callable[[bytes], bytes], pieces: Iterator[bytes]) -> Iterator[bytes]:
    """For framings that need the whole payload: yields an empty batch for each piece, then the message."""
    payload = bytearray()
    for piece in pieces:
        payload += piece
        yield b""
    yield frame(bytes(payload))


_PING: Final = frame(PING, b"")

WEBSOCKET_TEXT: Final = Framing(text_frame, functools.partial(fragments, TEXT), _PING)
WEBSOCKET_BINARY: Final = Framing(
    functools.partial(frame, BINARY), functools.partial(fragments, BINARY), _PING
)

_DEFLATED: Final = {
    (opcode == BINARY, bits): Framing(
        functools.partial(deflated_frame, opcode, bits),
        functools.partial(deflated_fragments, opcode, bits),
        _PING,
    )
    for opcode in (TEXT, BINARY)
    for bits in WINDOWS
}


def websocket_framing(*, is_binary: bool, window_bits: int = 0) -> Framing:
    """The framing of a WebSocket; ``window_bits`` is the negotiated window of permessage-deflate, 0 without compression."""
    if window_bits:
        return _DEFLATED[is_binary, window_bits]
    return WEBSOCKET_BINARY if is_binary else WEBSOCKET_TEXT


@functools.cache
def separated_framing(framing: Framing, separator: bytes) -> Framing:
    """A framing that splits payloads at ``separator`` and frames each part: several messages that a codec writes at once."""
    frame_one = framing.frame

    def frame_parts(payload: bytes) -> bytes:
        if separator not in payload:
            return frame_one(payload)
        return b"".join(map(frame_one, payload.split(separator)))

    return Framing(frame_parts, framing.frame_pieces, framing.ping)


def _prefixed(payload: bytes) -> bytes:
    return len(payload).to_bytes(_PREFIX_BYTES, "big") + payload


PREFIXED: Final = Framing(_prefixed, functools.partial(frame_whole, _prefixed))
"""A length of four bytes before each payload, for transports that send each message by a separate call and split
the batch with :func:`payloads`."""


def payloads(batch: bytes) -> Iterator[bytes]:
    """The payloads of a batch in :data:`PREFIXED`, in order."""
    start = 0
    while start < len(batch):
        body = start + _PREFIX_BYTES
        start = body + int.from_bytes(batch[start:body], "big")
        yield batch[body:start]
