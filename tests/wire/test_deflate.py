"""Compressed messages: the examples of RFC 7692, its negotiation, and limits that hold.

The peer of the last part is the extension of the ``websockets`` library.
"""

import gc
import tracemalloc
import zlib
from itertools import pairwise
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.extensions.permessage_deflate import (
    ClientPerMessageDeflateFactory,
    PerMessageDeflate,
)
from websockets.frames import Frame, Opcode

from catenary.errors import FrameError
from catenary.wire.deflate import (
    MIN_BYTES,
    NAME,
    WINDOWS,
    Agreement,
    agree,
    deflated,
    deflated_frame,
    inflated,
)
from catenary.wire.frames import (
    BINARY,
    CLOSE,
    CONTINUATION,
    INVALID_PAYLOAD,
    PING,
    PONG,
    PROTOCOL_ERROR,
    RSV1,
    TEXT,
    TOO_BIG,
    Close,
    FrameReader,
    Message,
    PingFrame,
    text_frame,
)
from catenary.wire.handshake import Extension
from tests.conformance.autobahn.peer import inflated_by_steps
from tests.wire.test_frames import Described, byte_by_byte, described, masked

LIMIT = 100_000
FLUSHED = b"\x00\x00\xff\xff"
HELLO = bytes.fromhex("f248cdc9c90700")
LONG = b"compressed and compressed again, " * 100


def packed(payload: bytes, level: int = 6, window_bits: int = 15) -> bytes:
    """The message as a client decompresses it."""
    deflater = zlib.compressobj(level, zlib.DEFLATED, -window_bits)
    return (deflater.compress(payload) + deflater.flush(zlib.Z_SYNC_FLUSH))[:-4]


def read(*chunks: bytes, max_bytes: int = LIMIT) -> list[Described]:
    """The events of a new reader with compression for bytes in these chunks."""
    reader = FrameReader(max_bytes, inflated)
    return [event for chunk in chunks for event in described(reader.receive(chunk))]


def outcome_of(data: bytes, max_bytes: int = LIMIT) -> bytes | int:
    """The message, or the close code that refuses it."""
    try:
        return inflated(data, max_bytes)
    except FrameError as error:
        return error.close_code


# One message


@pytest.mark.parametrize(
    "data",
    [
        pytest.param("f2 48 cd c9 c9 07 00", id="7.2.3.1: one block"),
        pytest.param("00 05 00 fa ff 48 65 6c 6c 6f 00", id="7.2.3.3: not compressed"),
        pytest.param("f3 48 cd c9 c9 07 00 00", id="7.2.3.4: a last block"),
        pytest.param("f2 48 05 00 00 00 ff ff ca c9 c9 07 00", id="7.2.3.5: two blocks"),
    ],
)
def test_reads_the_examples_of_the_rfc(data: str) -> None:
    assert inflated(bytes.fromhex(data), LIMIT) == b"Hello"


def test_reads_an_empty_message() -> None:
    """Section 7.2.3.6."""
    assert inflated(b"\x00", LIMIT) == b""


def test_references_to_the_message_before_are_refused() -> None:
    """Section 7.2.3.2 has this second Hello; we answer that there is no context to refer to."""
    assert outcome_of(bytes.fromhex("f200110000")) == INVALID_PAYLOAD


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"", id="nothing at all"),
        pytest.param(b"\xff" * 20, id="no block has this type"),
        pytest.param(HELLO[:3], id="cut"),
        pytest.param(HELLO + b"\x02", id="more behind it"),
        pytest.param(bytes.fromhex("f348cdc9c90700") + HELLO, id="more behind a last block"),
    ],
)
def test_incomplete_data_is_refused(data: bytes) -> None:
    assert outcome_of(data) == INVALID_PAYLOAD


@given(payload=st.binary(max_size=3000), level=st.integers(0, 9), window_bits=st.integers(9, 15))
def test_reads_the_output_of_any_compressor(payload: bytes, level: int, window_bits: int) -> None:
    assert inflated(packed(payload, level, window_bits), LIMIT) == payload


@given(payload=st.binary(min_size=1, max_size=500), data=st.data())
def test_a_part_of_a_message_is_never_taken_for_the_message(
    payload: bytes, data: st.DataObject
) -> None:
    """The last byte may be nothing but padding, which what was left out brings again."""
    whole = packed(payload)
    part = whole[: data.draw(st.integers(0, len(whole) - 1))]

    assert outcome_of(part) in (payload, INVALID_PAYLOAD)


@given(data=st.binary(max_size=300), max_bytes=st.integers(1, 1000))
def test_any_bytes_give_a_message_within_the_limit_or_an_error(data: bytes, max_bytes: int) -> None:
    outcome = outcome_of(data, max_bytes)

    assert (
        outcome in (INVALID_PAYLOAD, TOO_BIG)
        if isinstance(outcome, int)
        else len(outcome) <= max_bytes
    )


def test_the_limit_applies_to_the_decompressed_message() -> None:
    assert inflated(packed(b"x" * 1000), 1000) == b"x" * 1000
    assert outcome_of(packed(b"x" * 1001), 1000) == TOO_BIG


def test_a_bomb_is_never_inflated_beyond_the_limit() -> None:
    bomb = packed(b"\x00" * 64_000_000, 9)
    assert len(bomb) < LIMIT
    tracemalloc.start()
    try:
        assert outcome_of(bomb) == TOO_BIG
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()

    # The output, in pieces and joined; the input, with an end and the unused rest; zlib's own memory.
    assert peak < 2 * LIMIT + 2 * len(bomb) + 100_000


# Compression


@given(payload=st.binary(max_size=5000), window_bits=st.sampled_from(WINDOWS))
def test_a_client_with_the_negotiated_window_reads_the_messages(
    payload: bytes, window_bits: int
) -> None:
    inflater = zlib.decompressobj(-window_bits)

    assert inflater.decompress(deflated(payload, window_bits) + FLUSHED) == payload


@pytest.mark.parametrize("window_bits", WINDOWS)
def test_no_reference_goes_beyond_the_window(window_bits: int) -> None:
    far = Random(1).randbytes(2**window_bits + 1000) * 2
    inflater = zlib.decompressobj(-window_bits)

    assert inflated_by_steps(inflater, deflated(far, window_bits) + FLUSHED) == far


def test_no_message_refers_to_the_one_before() -> None:
    assert deflated(LONG, 12) == deflated(LONG, 12)


def test_short_messages_travel_as_they_are() -> None:
    short = b"x" * (MIN_BYTES - 1)

    assert deflated_frame(TEXT, 12, short) == text_frame(short)
    assert deflated_frame(TEXT, 12, short + b"x")[0] == 0x80 | RSV1 | TEXT


def test_incompressible_messages_are_sent_uncompressed() -> None:
    noise = bytes(range(256))

    assert deflated_frame(TEXT, 12, noise) == text_frame(noise)


# Frames


@pytest.mark.parametrize(
    ("frames", "events"),
    [
        pytest.param(
            [masked(TEXT, HELLO, reserved=RSV1)],
            [Message(b"Hello", is_text=True)],
            id="7.2.3.1: one frame",
        ),
        pytest.param(
            [
                masked(TEXT, HELLO[:3], reserved=RSV1, final=False),
                masked(PING, b"between"),
                masked(CONTINUATION, HELLO[3:]),
            ],
            [PingFrame(b"between"), Message(b"Hello", is_text=True)],
            id="7.2.3.1: fragments, a ping between",
        ),
        pytest.param(
            [masked(BINARY, packed(b"\xff\xfe"), reserved=RSV1)],
            [Message(b"\xff\xfe", is_text=False)],
            id="binary",
        ),
        pytest.param(
            [
                masked(TEXT, b"plain"),
                masked(TEXT, HELLO, reserved=RSV1),
                masked(TEXT, HELLO[:2], reserved=RSV1, final=False),
                masked(CONTINUATION, HELLO[2:]),
                masked(TEXT, b"pl", final=False),
                masked(CONTINUATION, b"ain"),
                masked(CLOSE),
            ],
            [
                Message(b"plain", is_text=True),
                Message(b"Hello", is_text=True),
                Message(b"Hello", is_text=True),
                Message(b"plain", is_text=True),
                Close(1005, ""),
            ],
            id="compressed and plain, as they come",
        ),
        pytest.param(
            [masked(TEXT, packed(b"\xff"), reserved=RSV1)], [INVALID_PAYLOAD], id="no UTF-8 inside"
        ),
        pytest.param([masked(TEXT, b"\xff" * 9, reserved=RSV1)], [INVALID_PAYLOAD], id="garbage"),
        pytest.param(
            [masked(TEXT, packed(b"x" * (LIMIT + 1)), reserved=RSV1)], [TOO_BIG], id="a bomb"
        ),
        *(
            pytest.param(
                [masked(opcode, reserved=RSV1)], [PROTOCOL_ERROR], id=f"6: RSV1 of {opcode:#x}"
            )
            for opcode in (PING, PONG, CLOSE, 3, 0xB)
        ),
        pytest.param(
            [
                masked(TEXT, HELLO[:3], reserved=RSV1, final=False),
                masked(CONTINUATION, HELLO[3:], reserved=RSV1),
            ],
            [PROTOCOL_ERROR],
            id="6.1: RSV1 of a continuation",
        ),
        *(
            pytest.param(
                [masked(TEXT, HELLO, reserved=bits)], [PROTOCOL_ERROR], id=f"bits {bits:#x}"
            )
            for bits in (0x20, 0x10, 0x60, 0x50, 0x70)
        ),
    ],
)
def test_reads_frames(frames: list[bytes], events: list[Described]) -> None:
    data = b"".join(frames)

    assert read(data) == events
    assert read(*byte_by_byte(data)) == events


def test_nothing_may_be_compressed_where_that_was_not_agreed_on() -> None:
    reader = FrameReader(LIMIT)

    assert described(reader.receive(masked(TEXT, HELLO, reserved=RSV1))) == [PROTOCOL_ERROR]


def test_a_message_that_compression_makes_longer_is_read_up_to_the_limit() -> None:
    noise = bytes(at * at // 7 % 256 for at in range(1000))
    stored = packed(noise, 0)
    assert len(stored) > len(noise)

    assert read(masked(BINARY, stored, reserved=RSV1), max_bytes=1000) == [Message(noise, False)]
    assert read(masked(BINARY, stored, reserved=RSV1), max_bytes=999) == [TOO_BIG]
    assert read(masked(BINARY, noise), max_bytes=999) == [TOO_BIG]


def test_compressed_fragments_are_refused_before_they_are_longer_than_any_message() -> None:
    part = masked(CONTINUATION, b"\x00" * 500, final=False)
    data = masked(BINARY, b"\x00" * 500, reserved=RSV1, final=False) + part * 3

    assert read(data, max_bytes=1000) == [TOO_BIG]


def test_an_idle_reader_keeps_no_inflater_and_no_buffer() -> None:
    reader = FrameReader(LIMIT, inflated)
    fresh = gc.get_referents(reader)
    reader.receive(masked(TEXT, packed(LONG), reserved=RSV1))

    assert [type(each) for each in gc.get_referents(reader)] == [type(each) for each in fresh]
    assert not any(isinstance(each, bytes | bytearray | list) for each in fresh)


@st.composite
def conversations(draw: st.DrawFn) -> bytes:
    """Messages, compressed or not, in pieces; sometimes with a byte changed."""
    frames: list[bytes] = []
    for _ in range(draw(st.integers(1, 4))):
        payload = draw(st.binary(max_size=300) | st.just(LONG))
        is_packed = draw(st.booleans())
        if is_packed:
            payload = packed(payload, draw(st.integers(0, 9)))
        cuts = sorted(draw(st.lists(st.integers(0, len(payload)), max_size=3)))
        edges = [0, *cuts, len(payload)]
        for at, (start, stop) in enumerate(pairwise(edges)):
            frames.append(
                masked(
                    CONTINUATION if at else BINARY,
                    payload[start:stop],
                    final=at == len(edges) - 2,
                    reserved=RSV1 if is_packed and at == 0 else 0,
                )
            )
    data = bytearray(b"".join(frames))
    if draw(st.booleans()):
        data[draw(st.integers(0, len(data) - 1))] = draw(st.integers(0, 255))
    return bytes(data)


@given(data=conversations(), cuts=st.lists(st.integers(0, 4000), max_size=20))
def test_any_split_gives_the_same_events(data: bytes, cuts: list[int]) -> None:
    edges = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    whole = read(data, max_bytes=2000)

    assert read(*(data[a:b] for a, b in pairwise(edges)), max_bytes=2000) == whole
    assert read(*byte_by_byte(data), max_bytes=2000) == whole
    assert not any(isinstance(event, int) for event in whole[:-1])


# Negotiation

BOTH = f"{NAME}; server_no_context_takeover; client_no_context_takeover"


def offer(**parameters: str | None) -> Extension:
    return Extension(NAME, tuple(parameters.items()))


@pytest.mark.parametrize(
    ("offered", "agreement"),
    [
        pytest.param([offer()], Agreement(12, BOTH), id="as it is"),
        pytest.param(
            [offer(server_no_context_takeover=None, client_no_context_takeover=None)],
            Agreement(12, BOTH),
            id="without context",
        ),
        pytest.param(
            [offer(client_max_window_bits=None)], Agreement(12, BOTH), id="a browser's offer"
        ),
        pytest.param([offer(client_max_window_bits="8")], Agreement(12, BOTH), id="its window"),
        *(
            pytest.param(
                [offer(server_max_window_bits=str(bits))],
                Agreement(min(bits, 12), f"{BOTH}; server_max_window_bits={min(bits, 12)}"),
                id=f"our window of {bits}",
            )
            for bits in range(9, 16)
        ),
        pytest.param(
            [Extension("x-webkit-deflate-frame"), offer(mystery="1"), offer(), offer()],
            Agreement(12, BOTH),
            id="the first that is known",
        ),
        pytest.param(
            [
                offer(server_max_window_bits="8"),
                offer(server_max_window_bits="10"),
                offer(),
            ],
            Agreement(10, f"{BOTH}; server_max_window_bits=10"),
            id="the first that is possible",
        ),
    ],
)
def test_agrees_to_the_first_acceptable_offer(
    offered: list[Extension], agreement: Agreement
) -> None:
    assert agree(offered) == agreement


@pytest.mark.parametrize(
    "declined",
    [
        pytest.param(Extension("permessage-bzip2"), id="another extension"),
        pytest.param(offer(mystery=None), id="7.1: unknown parameter"),
        pytest.param(offer(server_no_context_takeover="1"), id="7.1.1.1: a value"),
        pytest.param(offer(client_no_context_takeover="true"), id="7.1.1.2: a value"),
        *(
            pytest.param(offer(server_max_window_bits=bits), id=f"7.1.2.1: {bits!r}")
            for bits in (None, "7", "16", "09", "-9", "9.0", "", "nine")
        ),
        *(
            pytest.param(offer(client_max_window_bits=bits), id=f"7.1.2.2: {bits!r}")
            for bits in ("7", "16", "08", "", "x")
        ),
        pytest.param(offer(server_max_window_bits="8"), id="a window that zlib has not"),
        pytest.param(
            Extension(NAME, (("client_max_window_bits", None), ("client_max_window_bits", "9"))),
            id="7.1: twice",
        ),
    ],
)
def test_declines(declined: Extension) -> None:
    assert agree([declined]) is None
    assert agree([declined, offer()]) == Agreement(12, BOTH)


# With the websockets library at the other end

bits_or_none = st.none() | st.integers(9, 15)


@given(
    server_no=st.booleans(),
    client_no=st.booleans(),
    server_bits=bits_or_none,
    client_bits=bits_or_none | st.just(True),
    payload=st.text(min_size=MIN_BYTES, max_size=1000).map(str.encode),
)
def test_a_peer_agrees_and_both_read_each_other(
    server_no: bool,
    client_no: bool,
    server_bits: int | None,
    client_bits: int | bool | None,
    payload: bytes,
) -> None:
    factory = ClientPerMessageDeflateFactory(
        server_no_context_takeover=server_no,
        client_no_context_takeover=client_no,
        server_max_window_bits=server_bits,
        client_max_window_bits=client_bits,
    )
    agreement = agree([Extension(NAME, tuple(factory.get_request_params()))])
    assert agreement is not None
    answered = [
        (name, value or None)
        for name, _, value in (each.partition("=") for each in agreement.header.split("; ")[1:])
    ]
    peer = factory.process_response_params(answered, [])
    assert isinstance(peer, PerMessageDeflate)

    for _ in range(2):
        frame = peer.encode(Frame(Opcode.TEXT, payload))
        assert inflated(bytes(frame.data), LIMIT) == payload
        sent = deflated_frame(TEXT, agreement.window_bits, payload)
        head = 2 if sent[1] < 126 else 4
        heard = peer.decode(Frame(Opcode.TEXT, sent[head:], rsv1=bool(sent[0] & RSV1)))
        assert bytes(heard.data) == payload
