"""Compressed messages: permessage-deflate (RFC 7692) without context takeover in either direction.

Each message is compressed independently: one compressed frame is sent to all clients with the same window, and no
connection keeps a compressor.
Knows: offers of extensions, DEFLATE. Does not know: sockets, clients.
"""

import zlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

import msgspec

from catenary.errors import FrameError
from catenary.wire.frames import INVALID_PAYLOAD, RSV1, TOO_BIG, fragments, frame
from catenary.wire.handshake import Extension

NAME: Final = "permessage-deflate"

LARGEST_WINDOW: Final = 12
"""The server's window is at most 2**12 bytes, even if a client accepts more: a compressor with 2**15 takes 38 µs for a
message of 200 bytes, one with 2**12 takes 13 µs, and messages of up to 20 KB become as small."""

WINDOWS: Final = range(9, LARGEST_WINDOW + 1)
"""The windows that the server uses, each with frames of its own. zlib can't compress with 2**8."""

MIN_BYTES: Final = 128
"""Shorter messages are not compressed: 12 µs would save about 20 bytes."""

_LEVEL: Final = 1
"""Level 6 makes messages of 1 KB 5 % smaller and those of 4 KB 9 %, in up to 2.5 times the time."""

_MEMORY: Final = 5
_INFLATING_WINDOW: Final = 15
"""Decompresses data of any window."""

_FLUSHED: Final = b"\x00\x00\xff\xff"
"""Section 7.2.1: the end of a flush, which is not sent."""

_END: Final = _FLUSHED + b"\x01\x00\x00\xff\xff"
"""The end that was not sent, and a final block: there zlib reaches the end of the data if the message was complete."""

_VALUES: Final[dict[str, frozenset[str | None]]] = {
    "server_no_context_takeover": frozenset([None]),
    "client_no_context_takeover": frozenset([None]),
    "server_max_window_bits": frozenset(map(str, range(9, 16))),
    "client_max_window_bits": frozenset([None, *map(str, range(8, 16))]),
}
"""Section 7.1: the parameters of an offer, and their acceptable values."""


class Agreement(msgspec.Struct, frozen=True, gc=False):
    """The compression of one connection: the server's window (an exponent of 2), and the header value to respond with."""

    window_bits: int
    header: str


def agree(offers: Sequence[Extension]) -> Agreement | None:
    """Accepts the first acceptable offer (section 5.1); None if there is none."""
    for offer in offers:
        if offer.name == NAME and _is_acceptable(offer):
            return _agreement(dict(offer.parameters).get("server_max_window_bits"))
    return None


def _is_acceptable(offer: Extension) -> bool:
    """Section 7: an offer with an unknown parameter, an invalid value or a repeated parameter is declined."""
    names = [name for name, _ in offer.parameters]
    return len(set(names)) == len(names) and all(
        value in _VALUES.get(name, ()) for name, value in offer.parameters
    )


def _agreement(asked_bits: str | None) -> Agreement:
    header = f"{NAME}; server_no_context_takeover; client_no_context_takeover"
    if asked_bits is None:
        return Agreement(LARGEST_WINDOW, header)
    window_bits = min(int(asked_bits), LARGEST_WINDOW)
    return Agreement(window_bits, f"{header}; server_max_window_bits={window_bits}")


def deflated_frame(opcode: int, window_bits: int, payload: bytes) -> bytes:
    """A message in one frame, compressed if that makes it shorter (section 7.2.1)."""
    if len(payload) >= MIN_BYTES:
        packed = deflated(payload, window_bits)
        if len(packed) < len(payload):
            return frame(RSV1 | opcode, packed)
    return frame(opcode, payload)


def deflated_fragments(opcode: int, window_bits: int, pieces: Iterable[bytes]) -> Iterator[bytes]:
    """A message in several frames, compressed piece by piece (section 7.2.1)."""
    return fragments(opcode, _deflated_pieces(pieces, window_bits), reserved=RSV1)


def _deflated_pieces(pieces: Iterable[bytes], window_bits: int) -> Iterator[bytes]:
    deflater = _deflater(window_bits)
    for piece in pieces:
        yield deflater.compress(piece)
    yield deflater.flush(zlib.Z_SYNC_FLUSH)[: -len(_FLUSHED)]


def deflated(payload: bytes, window_bits: int) -> bytes:
    """Compresses one message."""
    deflater = _deflater(window_bits)
    packed = deflater.compress(payload) + deflater.flush(zlib.Z_SYNC_FLUSH)
    return packed[: -len(_FLUSHED)]


def _deflater(window_bits: int) -> "zlib._Compress":
    return zlib.compressobj(_LEVEL, zlib.DEFLATED, -window_bits, _MEMORY)


def inflated(packed: bytes, max_bytes: int) -> bytes:
    """Decompresses one message (section 7.2.2).

    Raises :class:`FrameError`: 1009 if it exceeds ``max_bytes``, by decompressing no more than one byte beyond them; 1007
    for data that is not DEFLATE, or not complete.
    """
    inflater = zlib.decompressobj(-_INFLATING_WINDOW)
    try:
        payload = inflater.decompress(packed + _END, max_bytes + 1)
    except zlib.error as error:
        raise FrameError(INVALID_PAYLOAD, f"expected compressed data: {error}") from error
    if len(payload) > max_bytes:
        raise FrameError(TOO_BIG, f"expected messages of up to {max_bytes} bytes, got more")
    # Section 7.2.3.4: a client may end its message with a final block and a zero byte.
    if not inflater.eof or inflater.unused_data not in (b"", b"\x00" + _END):
        raise FrameError(INVALID_PAYLOAD, "expected the compressed data of a whole message")
    return payload
