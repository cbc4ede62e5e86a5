"""Frames as RFC 6455 has them: tables for both directions, and properties of any sequence of bytes.

The peer of the last part is the sans-I/O core of the ``websockets`` library.
"""

import gc
from itertools import pairwise
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.client import ClientProtocol
from websockets.frames import Close as PeerClose
from websockets.frames import Frame, Opcode
from websockets.protocol import State
from websockets.server import ServerProtocol
from websockets.uri import parse_uri

from catenary.errors import FrameError
from catenary.wire.frames import (
    BINARY,
    CLOSE,
    CONTINUATION,
    INVALID_PAYLOAD,
    NO_STATUS,
    PING,
    PONG,
    PROTOCOL_ERROR,
    TEXT,
    TOO_BIG,
    Close,
    Event,
    FrameReader,
    Message,
    PingFrame,
    PongFrame,
    close_frame,
    frame,
    text_frame,
    unmask,
)

MAX_BYTES = 100_000
MASK = bytes.fromhex("37fa213d")
END_OF_TEXT = "é".encode()


def masked(
    opcode: int,
    payload: bytes = b"",
    *,
    final: bool = True,
    reserved: int = 0,
    length_bytes: int | None = None,
    mask: bytes = MASK,
) -> bytes:
    """A client's frame; ``length_bytes`` (0, 2, 8) overrides the shortest form of its length."""
    size = len(payload)
    if length_bytes is None:
        length_bytes = 0 if size < 126 else 2 if size < 65536 else 8
    first = (0x80 if final else 0) | reserved | opcode
    second = {0: size, 2: 126, 8: 127}[length_bytes]
    body = bytes(byte ^ mask[at % 4] for at, byte in enumerate(payload))
    return bytes((first, 0x80 | second)) + size.to_bytes(8, "big")[8 - length_bytes :] + mask + body


def announced(opcode: int, size: int) -> bytes:
    """The head of a client's frame whose body never comes."""
    return bytes((0x80 | opcode, 0xFF)) + size.to_bytes(8, "big") + MASK


Described = Message | PingFrame | PongFrame | Close | int
"""An event; of an error its close code, because exceptions are not equal to each other."""


def described(events: list[Event]) -> list[Described]:
    return [event.close_code if isinstance(event, FrameError) else event for event in events]


def read(*chunks: bytes, max_bytes: int = MAX_BYTES) -> list[Described]:
    """The events of a new reader for bytes in these chunks."""
    reader = FrameReader(max_bytes)
    return [event for chunk in chunks for event in described(reader.receive(chunk))]


def byte_by_byte(data: bytes) -> list[bytes]:
    return [data[at : at + 1] for at in range(len(data))]


# Whole frames, in both directions


class Case(NamedTuple):
    """One frame: what it means, and how the client and the server write it."""

    event: Event
    opcode: int
    payload: bytes
    client: bytes
    server: bytes


def sized(size: int, head: str) -> Case:
    payload = bytes(at % 251 for at in range(size))
    return Case(
        Message(payload, is_text=False),
        BINARY,
        payload,
        masked(BINARY, payload),
        bytes.fromhex(head) + payload,
    )


def case(event: Event, opcode: int, payload: bytes, client: str, server: str) -> Case:
    return Case(event, opcode, payload, bytes.fromhex(client), bytes.fromhex(server))


CASES = {
    # Section 5.7 has these, except where the RFC gives one direction only.
    "text": case(
        Message(b"Hello", is_text=True),
        TEXT,
        b"Hello",
        "8185 37fa213d 7f9f4d5158",
        "8105 48656c6c6f",
    ),
    "ping": case(
        PingFrame(b"Hello"), PING, b"Hello", "8985 37fa213d 7f9f4d5158", "8905 48656c6c6f"
    ),
    "pong": case(
        PongFrame(b"Hello"), PONG, b"Hello", "8a85 37fa213d 7f9f4d5158", "8a05 48656c6c6f"
    ),
    "empty text": case(Message(b"", is_text=True), TEXT, b"", "8180 37fa213d", "8100"),
    "empty ping": case(PingFrame(b""), PING, b"", "8980 37fa213d", "8900"),
    "empty pong": case(PongFrame(b""), PONG, b"", "8a80 37fa213d", "8a00"),
    "close without a code": case(Close(1005, ""), CLOSE, b"", "8880 37fa213d", "8800"),
    "close": case(Close(1000, ""), CLOSE, b"\x03\xe8", "8882 37fa213d 3412", "8802 03e8"),
    "close with a reason": case(
        Close(1001, "bye"),
        CLOSE,
        b"\x03\xe9bye",
        "8885 37fa213d 3413434452",
        "8805 03e9 627965",
    ),
    "mask of zeros": case(
        Message(b"\xff\x00", is_text=False), BINARY, b"\xff\x00", "8282 00000000 ff00", "8202 ff00"
    ),
    "mask that begins with a zero": case(
        Message(b"abcd", is_text=True), TEXT, b"abcd", "8184 00000001 61626365", "8104 61626364"
    ),
    "text that is not ASCII": case(
        Message("é€😀".encode(), is_text=True),
        TEXT,
        "é€😀".encode(),
        "8189 00000000 c3a9 e282ac f09f9880",
        "8109 c3a9 e282ac f09f9880",
    ),
    "1 byte": sized(1, "8201"),
    "125 bytes": sized(125, "827d"),
    "126 bytes": sized(126, "827e 007e"),
    "127 bytes": sized(127, "827e 007f"),
    "256 bytes": sized(256, "827e 0100"),
    "65535 bytes": sized(65535, "827e ffff"),
    "65536 bytes": sized(65536, "827f 0000000000010000"),
}
each_case = pytest.mark.parametrize("case", CASES.values(), ids=CASES)


@each_case
def test_reads_a_frame(case: Case) -> None:
    assert read(case.client) == [case.event]


@each_case
def test_reads_a_frame_byte_by_byte(case: Case) -> None:
    reader = FrameReader(MAX_BYTES)
    *first, last = byte_by_byte(case.client)

    assert [event for byte in first for event in reader.receive(byte)] == []
    assert reader.receive(last) == [case.event]


@each_case
def test_writes_a_frame(case: Case) -> None:
    assert frame(case.opcode, case.payload) == case.server


def test_text_frame_is_a_frame_of_text() -> None:
    assert text_frame(b"Hello") == bytes.fromhex("8105 48656c6c6f")


def test_reads_several_frames_of_one_chunk_in_order() -> None:
    data = b"".join(case.client for case in CASES.values() if not isinstance(case.event, Close))

    assert read(data) == [c.event for c in CASES.values() if not isinstance(c.event, Close)]


@pytest.mark.parametrize(
    ("size", "length_bytes"), [(0, 2), (5, 2), (125, 2), (0, 8), (125, 8), (126, 8), (65535, 8)]
)
def test_a_length_in_more_bytes_than_it_needs_is_refused_from_the_head(
    size: int, length_bytes: int
) -> None:
    """Section 5.2: the minimal number of bytes MUST be used. So there is one way to read a frame."""
    whole = masked(BINARY, b"x" * size, length_bytes=length_bytes)

    assert read(whole) == [PROTOCOL_ERROR]
    assert read(whole[: 2 + length_bytes]) == [PROTOCOL_ERROR]
    assert read(*byte_by_byte(whole[: 2 + length_bytes])) == [PROTOCOL_ERROR]


# Fragments


@pytest.mark.parametrize(
    ("frames", "events"),
    [
        pytest.param(
            [(TEXT, b"Hel", False), (CONTINUATION, b"lo", True)],
            [Message(b"Hello", is_text=True)],
            id="two",
        ),
        pytest.param(
            [(BINARY, b"\xff", False), (CONTINUATION, b"", False), (CONTINUATION, b"\xfe", True)],
            [Message(b"\xff\xfe", is_text=False)],
            id="three, binary, one of them empty",
        ),
        pytest.param(
            [(TEXT, b"", False), (CONTINUATION, b"", True)],
            [Message(b"", is_text=True)],
            id="all of them empty",
        ),
        pytest.param(
            [(TEXT, END_OF_TEXT[:1], False), (CONTINUATION, END_OF_TEXT[1:], True)],
            [Message(END_OF_TEXT, is_text=True)],
            id="cut inside a character",
        ),
        pytest.param(
            [
                (TEXT, b"a", False),
                (PING, b"p", True),
                (PONG, b"q", True),
                (CONTINUATION, b"b", True),
                (TEXT, b"c", True),
            ],
            [
                PingFrame(b"p"),
                PongFrame(b"q"),
                Message(b"ab", is_text=True),
                Message(b"c", is_text=True),
            ],
            id="control frames between, a message after",
        ),
        pytest.param(
            [(TEXT, b"a", False), (CLOSE, b"", True), (CONTINUATION, b"b", True)],
            [Close(1005, "")],
            id="close between",
        ),
        pytest.param(
            [
                (BINARY, b"\xff", False),
                (CONTINUATION, b"", True),
                (TEXT, b"a", False),
                (CONTINUATION, b"b", True),
            ],
            [Message(b"\xff", is_text=False), Message(b"ab", is_text=True)],
            id="two messages",
        ),
    ],
)
def test_joins_fragments(frames: list[tuple[int, bytes, bool]], events: list[Event]) -> None:
    data = b"".join(masked(opcode, payload, final=final) for opcode, payload, final in frames)

    assert read(data) == events
    assert read(*byte_by_byte(data)) == events


def test_many_empty_fragments_take_no_room() -> None:
    reader = FrameReader(MAX_BYTES)
    reader.receive(masked(TEXT, b"a", final=False))
    reader.receive(masked(CONTINUATION, b"", final=False) * 5000)

    assert buffers_of(reader) == [b"a"]
    assert reader.receive(masked(CONTINUATION, b"b")) == [Message(b"ab", is_text=True)]


# Rules


def close_with(code: int) -> bytes:
    return masked(CLOSE, code.to_bytes(2, "big"))


@pytest.mark.parametrize(
    ("data", "code"),
    [
        *(
            pytest.param(masked(TEXT, b"a", reserved=bit), PROTOCOL_ERROR, id=f"5.2: bit {bit:#x}")
            for bit in (0x40, 0x20, 0x10)
        ),
        pytest.param(masked(PING, reserved=0x40), PROTOCOL_ERROR, id="5.2: bit of a control frame"),
        *(
            pytest.param(masked(opcode), PROTOCOL_ERROR, id=f"5.2: opcode {opcode:#x}")
            for opcode in (3, 4, 5, 6, 7, 0xB, 0xC, 0xD, 0xE, 0xF)
        ),
        pytest.param(frame(TEXT, b"a"), PROTOCOL_ERROR, id="5.1: text without a mask"),
        pytest.param(frame(PING, b""), PROTOCOL_ERROR, id="5.1: ping without a mask"),
        pytest.param(frame(CLOSE, b""), PROTOCOL_ERROR, id="5.1: close without a mask"),
        *(
            pytest.param(
                masked(opcode, final=False), PROTOCOL_ERROR, id=f"5.5: part of {opcode:#x}"
            )
            for opcode in (CLOSE, PING, PONG)
        ),
        *(
            pytest.param(masked(opcode, b"x" * 126), PROTOCOL_ERROR, id=f"5.5: 126 in {opcode:#x}")
            for opcode in (CLOSE, PING, PONG)
        ),
        pytest.param(
            masked(PING, b"x", length_bytes=2), PROTOCOL_ERROR, id="5.5: extended length of a ping"
        ),
        pytest.param(announced(PING, 1), PROTOCOL_ERROR, id="5.5: 64-bit length of a ping"),
        pytest.param(masked(CONTINUATION, b"a"), PROTOCOL_ERROR, id="5.4: continuation of nothing"),
        pytest.param(
            masked(CONTINUATION, b"a", final=False),
            PROTOCOL_ERROR,
            id="5.4: continuation of nothing, to be continued",
        ),
        *(
            pytest.param(
                masked(TEXT, b"a", final=False) + masked(opcode, b"b", final=final),
                PROTOCOL_ERROR,
                id=f"5.4: opcode {opcode} inside a message, final={final}",
            )
            for opcode in (TEXT, BINARY)
            for final in (True, False)
        ),
        pytest.param(masked(CLOSE, b"\x03"), PROTOCOL_ERROR, id="5.5.1: half a close code"),
        *(
            pytest.param(close_with(code), PROTOCOL_ERROR, id=f"7.4: close code {code}")
            for code in (0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535)
        ),
        pytest.param(
            masked(CLOSE, b"\x03\xe8\xff"), INVALID_PAYLOAD, id="5.5.1: reason not in UTF-8"
        ),
        pytest.param(
            masked(CLOSE, b"\x03\xe8" + END_OF_TEXT[:1]), INVALID_PAYLOAD, id="5.5.1: cut reason"
        ),
        *(
            pytest.param(masked(TEXT, text), INVALID_PAYLOAD, id=f"8.1: {what}")
            for what, text in {
                "no such byte": b"\xff",
                "continuation byte first": b"a\x80",
                "cut character": END_OF_TEXT[:1],
                "overlong": b"\xc0\xaf",
                "surrogate": b"\xed\xa0\x80",
                "above U+10FFFF": b"\xf4\x90\x80\x80",
            }.items()
        ),
        pytest.param(
            masked(TEXT, END_OF_TEXT[:1], final=False) + masked(CONTINUATION, b"a"),
            INVALID_PAYLOAD,
            id="8.1: over fragments",
        ),
        pytest.param(
            announced(BINARY, 1 << 63), PROTOCOL_ERROR, id="5.2: highest bit of the length"
        ),
        pytest.param(announced(TEXT, MAX_BYTES + 1), TOO_BIG, id="10.4: too long, announced"),
    ],
)
def test_breaking_a_rule_ends_with_its_code(data: bytes, code: int) -> None:
    good = masked(TEXT, b"before")
    events = read(good + data + good)

    assert events == [Message(b"before", is_text=True), code]
    assert read(*byte_by_byte(good + data + good)) == events


@pytest.mark.parametrize(
    "code", [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 3000, 3999,
             4000, 4999],
)  # fmt: skip
def test_takes_close_codes_that_may_be_sent(code: int) -> None:
    assert read(close_with(code)) == [Close(code, "")]


def test_binary_may_be_any_bytes() -> None:
    assert read(masked(BINARY, b"\xff\xc0")) == [Message(b"\xff\xc0", is_text=False)]


def test_control_frames_may_have_125_bytes() -> None:
    full = b"x" * 125

    assert read(masked(PING, full), masked(PONG, full)) == [PingFrame(full), PongFrame(full)]
    assert read(masked(CLOSE, b"\x03\xe8" + full[2:])) == [Close(1000, "x" * 123)]


def test_a_message_that_is_complete_can_not_be_continued() -> None:
    message = masked(TEXT, b"a", final=False) + masked(CONTINUATION, b"b")

    assert read(message + masked(CONTINUATION)) == [Message(b"ab", is_text=True), PROTOCOL_ERROR]


@pytest.mark.parametrize(
    "head",
    [
        pytest.param("c1 85", id="reserved bit"),
        pytest.param("81 05", id="no mask"),
        pytest.param("89 fe", id="length of a ping"),
        pytest.param("83 85", id="opcode"),
        pytest.param("80 85", id="continuation of nothing"),
    ],
)
def test_a_bad_head_is_refused_before_its_body(head: str) -> None:
    assert read(bytes.fromhex(head)) == [PROTOCOL_ERROR]


# Sizes


@pytest.mark.parametrize("size", [9, 10, 11, 200])
def test_limit_of_one_frame(size: int) -> None:
    expected = Message(b"x" * size, is_text=True) if size <= 10 else TOO_BIG

    assert read(masked(TEXT, b"x" * size), max_bytes=10) == [expected]


@pytest.mark.parametrize(
    ("sizes", "fits"),
    [
        pytest.param((5, 5), True, id="just"),
        pytest.param((10, 0, 0), True, id="empty ones after the last byte"),
        pytest.param((5, 6), False, id="by one"),
        pytest.param((4, 4, 4), False, id="by three"),
        pytest.param((10, 1), False, id="a full one first"),
        pytest.param((0, 11), False, id="an empty one first"),
    ],
)
def test_limit_counts_all_fragments(sizes: tuple[int, ...], fits: bool) -> None:
    last = len(sizes) - 1
    data = b"".join(
        masked(CONTINUATION if at else BINARY, b"x" * size, final=at == last)
        for at, size in enumerate(sizes)
    )

    assert read(data, max_bytes=10) == [Message(b"x" * sum(sizes), False) if fits else TOO_BIG]


def test_limit_does_not_count_control_frames() -> None:
    big = b"y" * 125
    data = masked(TEXT, b"x" * 9, final=False) + masked(PING, big) + masked(CONTINUATION, b"x")

    assert read(data, max_bytes=10) == [PingFrame(big), Message(b"x" * 10, is_text=True)]
    assert read(masked(PONG, big), max_bytes=10) == [PongFrame(big)]


def test_limit_is_of_one_message_not_of_all() -> None:
    pair = masked(TEXT, b"x" * 5, final=False) + masked(CONTINUATION, b"x" * 5)

    assert (
        read((pair + masked(TEXT, b"y" * 10)) * 3, max_bytes=10)
        == [
            Message(b"x" * 10, is_text=True),
            Message(b"y" * 10, is_text=True),
        ]
        * 3
    )


def test_too_long_is_refused_from_its_head() -> None:
    for head in (announced(TEXT, 65536)[:10], bytes.fromhex("81fe007e")):
        assert read(head, max_bytes=10) == [TOO_BIG]
        assert read(*byte_by_byte(head), max_bytes=10) == [TOO_BIG]


# After the end, and while idle


@pytest.mark.parametrize("end", [masked(CLOSE), masked(3)], ids=["close", "error"])
def test_nothing_is_read_after_the_end(end: bytes) -> None:
    reader = FrameReader(MAX_BYTES)
    good = masked(TEXT, b"x")
    first = reader.receive(good + end + good + good[:3])

    assert len(first) == 2
    assert reader.finished
    assert reader.receive(good) == []
    assert reader.receive(b"\xff" * 100) == []
    assert buffers_of(reader) == []


def kept_by(reader: FrameReader) -> list[object]:
    return gc.get_referents(reader)


def buffers_of(reader: FrameReader) -> list[object]:
    return [kept for kept in kept_by(reader) if isinstance(kept, bytes | bytearray | list)]


def test_idle_reader_keeps_no_buffer() -> None:
    reader = FrameReader(MAX_BYTES)
    assert buffers_of(reader) == []

    data = masked(TEXT, b"a" * 1000, final=False) + masked(PING) + masked(CONTINUATION, b"b")
    reader.receive(data[:700])
    assert buffers_of(reader) != []
    reader.receive(data[700:])

    assert buffers_of(reader) == []


# Properties of any bytes


@st.composite
def conversations(draw: st.DrawFn) -> bytes:
    """Frames of a client that keeps the rules: messages in pieces, control frames between them."""
    masks = st.binary(min_size=4, max_size=4)
    control = st.builds(
        lambda opcode, payload, mask: masked(opcode, payload, mask=mask),
        st.sampled_from([PING, PONG]),
        st.binary(max_size=125),
        masks,
    )
    texts = st.text(max_size=100).map(str.encode)
    frames: list[bytes] = []
    for _ in range(draw(st.integers(0, 5))):
        is_text = draw(st.booleans())
        payload = draw(texts if is_text else st.binary(max_size=300))
        cuts = sorted(draw(st.lists(st.integers(0, len(payload)), max_size=3)))
        edges = [0, *cuts, len(payload)]
        for at, (start, stop) in enumerate(pairwise(edges)):
            opcode = CONTINUATION if at else TEXT if is_text else BINARY
            is_last = at == len(edges) - 2
            frames.append(masked(opcode, payload[start:stop], final=is_last, mask=draw(masks)))
            frames += draw(st.lists(control, max_size=1))
    if draw(st.booleans()):
        frames.append(close_with(draw(st.sampled_from([1000, 1001, 4000, 1005]))))
    return b"".join(frames)


@st.composite
def spoilt(draw: st.DrawFn) -> bytes:
    """A conversation with one byte changed."""
    data = bytearray(draw(conversations().filter(bool)))
    data[draw(st.integers(0, len(data) - 1))] = draw(st.integers(0, 255))
    return bytes(data)


any_bytes = st.one_of(conversations(), spoilt(), st.binary(max_size=200))


@given(data=any_bytes, cuts=st.lists(st.integers(0, 2000), max_size=20))
def test_any_split_gives_the_same_events(data: bytes, cuts: list[int]) -> None:
    edges = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    whole = read(data)

    assert read(*(data[start:stop] for start, stop in pairwise(edges))) == whole
    assert read(*byte_by_byte(data)) == whole


@pytest.mark.parametrize("size", [0, 1, 124, 125, 126, 127, 128, 130, 255, 256, 300])
@pytest.mark.parametrize("mask", [b"\0\0\0\0", b"mask"])
def test_one_text_is_read_wherever_it_is_cut_in_two(size: int, mask: bytes) -> None:
    frame = masked(TEXT, b"x" * size, mask=mask)
    for cut in range(len(frame)):
        assert read(frame[:cut], frame[cut:]) == [Message(b"x" * size, True)], cut


@given(data=any_bytes, more=any_bytes)
def test_any_bytes_give_events_and_an_error_only_at_the_end(data: bytes, more: bytes) -> None:
    reader = FrameReader(300)
    events = reader.receive(data)

    ends = [isinstance(event, FrameError | Close) for event in events]
    assert not any(ends[:-1])
    assert reader.finished == any(ends)
    if reader.finished:
        assert reader.receive(more) == []


@given(payload=st.binary(max_size=1000), mask=st.binary(min_size=4, max_size=4))
def test_unmask_is_the_loop_of_the_rfc_and_its_own_inverse(payload: bytes, mask: bytes) -> None:
    once = unmask(payload, mask)

    assert once == bytes(byte ^ mask[at % 4] for at, byte in enumerate(payload))
    assert unmask(once, mask) == payload


# Goodbyes


@pytest.mark.parametrize(
    ("reason", "kept"),
    [
        ("", ""),
        ("Auth Failed", "Auth Failed"),
        ("x" * 123, "x" * 123),
        ("x" * 124, "x" * 123),
        ("x" * 122 + "é", "x" * 122),
        ("x" * 121 + "é", "x" * 121 + "é"),
        ("😀" * 31, "😀" * 30),
    ],
    ids=["empty", "short", "123", "124", "across the end", "up to the end", "wide"],
)
def test_close_reason_is_cut_between_characters(reason: str, kept: str) -> None:
    assert close_frame(1000, reason) == frame(CLOSE, b"\x03\xe8" + kept.encode())


def test_close_without_a_code_has_no_payload() -> None:
    assert close_frame(NO_STATUS, "not sent") == bytes.fromhex("8800")


@given(reason=st.text(max_size=200))
def test_any_close_reason_fits_and_is_read_by_a_peer(reason: str) -> None:
    payload = close_frame(4000, reason)[2:]
    said = PeerClose.parse(payload)

    assert said.code == 4000
    assert reason.startswith(said.reason)
    assert len(payload) <= 125
    assert said.reason == reason or len(payload) > 125 - 4


# With the websockets library at the other end


def peer_client() -> ClientProtocol:
    return ClientProtocol(parse_uri("ws://localhost/"), state=State.OPEN, max_size=None)


@given(data=st.data())
def test_reads_frames_of_another_library(data: st.DataObject) -> None:
    peer = peer_client()
    expected: list[Event] = []
    for _ in range(data.draw(st.integers(1, 6))):
        payload = data.draw(st.binary(max_size=125) | st.sampled_from([b"x" * 126, b"x" * 65536]))
        text = data.draw(st.text(max_size=50)).encode()
        match data.draw(st.sampled_from(["text", "binary", "parts", "ping", "pong"])):
            case "text":
                peer.send_text(text)
                expected.append(Message(text, is_text=True))
            case "binary":
                peer.send_binary(payload)
                expected.append(Message(payload, is_text=False))
            case "parts":
                peer.send_binary(payload, fin=False)
                peer.send_continuation(text, fin=True)
                expected.append(Message(payload + text, is_text=False))
            case "ping":
                peer.send_ping(payload[:125])
                expected.append(PingFrame(payload[:125]))
            case _:
                peer.send_pong(payload[:125])
                expected.append(PongFrame(payload[:125]))
    peer.send_close(1001, "away")

    assert read(*peer.data_to_send()) == [*expected, Close(1001, "away")]


@given(
    sent=st.lists(
        st.tuples(
            st.sampled_from([TEXT, BINARY, PING, PONG]),
            st.binary(max_size=125) | st.sampled_from([b"x" * 126, b"x" * 65535, b"x" * 65536]),
        ),
        max_size=6,
    )
)
def test_another_library_reads_the_frames(sent: list[tuple[int, bytes]]) -> None:
    sent = [(op, payload if op in (TEXT, BINARY) else payload[:125]) for op, payload in sent]
    peer = peer_client()
    data = b"".join(frame(op, payload) for op, payload in sent)
    peer.receive_data(data + close_frame(1009, "é"))
    heard = peer.events_received()

    assert peer.state is not State.OPEN
    assert [(each.opcode, bytes(each.data)) for each in heard if isinstance(each, Frame)] == [
        *sent,
        (Opcode.CLOSE, b"\x03\xf1\xc3\xa9"),
    ]


@st.composite
def odd_frames(draw: st.DrawFn) -> bytes:
    """A whole frame with any two first bytes, and a body as long as it says."""
    first = draw(st.sampled_from([0x80, 0x00])) | draw(st.integers(0, 0x7F))
    if draw(st.booleans()):
        first &= 0x8F
    size = draw(st.integers(0, 127))
    length = b""
    if size >= 126:
        # In the fewest bytes: what says less in more is refused by us and taken by the peer.
        body = b"a" * (draw(st.integers(126, 300)) if size == 126 else 65536)
        length = len(body).to_bytes(2 if size == 126 else 8, "big")
    elif first & 0x0F == CLOSE and size >= 2:
        body = draw(st.integers(0, 6000)).to_bytes(2, "big") + b"a" * (size - 2)
    else:
        body = b"a" * size
    if draw(st.sampled_from([True, True, True, False])):
        return bytes((first, 0x80 | size)) + length + bytes(4) + body
    return bytes((first, size)) + length + body


@given(frames=st.lists(odd_frames(), min_size=1, max_size=4))
def test_judges_odd_frames_as_a_peer_does(frames: list[bytes]) -> None:
    data = b"".join(frames)
    peer = ServerProtocol(state=State.OPEN, max_size=None)
    peer.receive_data(data)
    judged = read(data)

    refused_by_peer = peer.parser_exc is not None
    assert (bool(judged) and isinstance(judged[-1], int)) == refused_by_peer
    if refused_by_peer:
        assert peer.close_sent is not None
        assert peer.close_sent.code == judged[-1]


def test_a_finished_reader_drops_incomplete_messages() -> None:
    reader = FrameReader(1000)
    assert reader.receive(b"\x81\xfe\x01\x00") == []
    assert reader.is_midway
    reader.finish()
    assert reader.receive(b"more of it") == []
    assert not reader.is_midway
