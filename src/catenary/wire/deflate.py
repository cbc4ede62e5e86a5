"""Compressed messages: permessage-deflate (RFC 7692) without context takeover in either direction.

Every message stands for itself: one compressed frame serves all who agreed on a window, and no
connection keeps a compressor.
Knows: what was offered, DEFLATE. Does not know: sockets, who listens.
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
"""We look back 2**12 bytes, whoever takes more: a compressor with 2**15 takes 38 µs for a message
of 200 bytes, one with 2**12 takes 13, and what it makes of messages up to 20 KB is as small."""

WINDOWS: Final = range(9, LARGEST_WINDOW + 1)
"""Each needs frames of its own. zlib compresses with no window of 2**8."""

MIN_BYTES: Final = 128
"""Shorter messages travel as they are: 12 µs would save some 20 bytes."""

_LEVEL: Final = 1
"""Level 6 makes messages of 1 KB 5 % smaller and of 4 KB 9 %, and takes up to 2.5 times as long."""

_MEMORY: Final = 5
_INFLATING_WINDOW: Final = 15
"""Reads what was compressed with any window."""

_FLUSHED: Final = b"\x00\x00\xff\xff"
"""Section 7.2.1: what ends a flush, and is left out."""

_END: Final = _FLUSHED + b"\x01\x00\x00\xff\xff"
"""What was left out, and a last block: zlib reaches its end there if the message was whole."""

_VALUES: Final[dict[str, frozenset[str | None]]] = {
    "server_no_context_takeover": frozenset([None]),
    "client_no_context_takeover": frozenset([None]),
    "server_max_window_bits": frozenset(map(str, range(9, 16))),
    "client_max_window_bits": frozenset([None, *map(str, range(8, 16))]),
}
"""Section 7.1: the parameters of an offer and the values that can be agreed to."""


class Agreement(msgspec.Struct, frozen=True, gc=False):
    """How one connection compresses: our window as a power of two, and the words that say so."""

    window_bits: int
    answer: str


def agree(offers: Sequence[Extension]) -> Agreement | None:
    """The first offer that can be agreed to (section 5.1); None where all are declined."""
    for offer in offers:
        if offer.name == NAME and _is_acceptable(offer):
            return _agreement(dict(offer.parameters).get("server_max_window_bits"))
    return None


def _is_acceptable(offer: Extension) -> bool:
    """Section 7: what has an unknown parameter, one of a wrong value or one twice, is declined."""
    names = [name for name, _ in offer.parameters]
    return len(set(names)) == len(names) and all(
        value in _VALUES.get(name, ()) for name, value in offer.parameters
    )


def _agreement(asked_bits: str | None) -> Agreement:
    answer = f"{NAME}; server_no_context_takeover; client_no_context_takeover"
    if asked_bits is None:
        return Agreement(LARGEST_WINDOW, answer)
    window_bits = min(int(asked_bits), LARGEST_WINDOW)
    return Agreement(window_bits, f"{answer}; server_max_window_bits={window_bits}")


def deflated_frame(opcode: int, window_bits: int, payload: bytes) -> bytes:
    """A message in one frame, compressed where that makes it shorter (section 7.2.1)."""
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
    """One message, compressed by itself."""
    deflater = _deflater(window_bits)
    packed = deflater.compress(payload) + deflater.flush(zlib.Z_SYNC_FLUSH)
    return packed[: -len(_FLUSHED)]


def _deflater(window_bits: int) -> "zlib._Compress":
    return zlib.compressobj(_LEVEL, zlib.DEFLATED, -window_bits, _MEMORY)


def inflated(packed: bytes, max_bytes: int) -> bytes:
    """One message as it was (section 7.2.2).

    Raises :class:`FrameError` with 1009 where it has more than ``max_bytes``, of which one byte is
    written before that is known, and with 1007 where it is no DEFLATE, or not all of it.
    """
    inflater = zlib.decompressobj(-_INFLATING_WINDOW)
    try:
        payload = inflater.decompress(packed + _END, max_bytes + 1)
    except zlib.error as error:
        raise FrameError(INVALID_PAYLOAD, f"expected compressed data: {error}") from error
    if len(payload) > max_bytes:
        raise FrameError(TOO_BIG, f"expected messages of up to {max_bytes} bytes, got more")
    # Section 7.2.3.4: a client may end its message with a last block of its own, and a zero.
    if not inflater.eof or inflater.unused_data not in (b"", b"\x00" + _END):
        raise FrameError(INVALID_PAYLOAD, "expected the compressed data of a whole message")
    return payload
