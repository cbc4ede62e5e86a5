"""Framings: a batch is a concatenation, and its payloads come out of it as they went in."""

import functools
from collections.abc import Callable, Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from catenary.wire.deflate import WINDOWS, inflated
from catenary.wire.event_stream import CHUNKED, UNTIL_CLOSED
from catenary.wire.frames import FrameReader, Message, unmask
from catenary.wire.framing import (
    PREFIXED,
    Framing,
    payloads,
    separated_framing,
    websocket_framing,
)
from tests.parts.events import chunks_of


def _as_a_client_sends(frames: bytes) -> bytes:
    """The frames of a server, masked, so that our own reader takes them."""
    masked, at = b"", 0
    while at < len(frames):
        size, body = frames[at + 1], at + 2
        if size >= 126:
            width = 2 if size == 126 else 8
            size, body = int.from_bytes(frames[body : body + width], "big"), body + width
        head = bytearray(frames[at:body])
        head[1] |= 0x80
        masked += bytes(head) + b"mask" + unmask(frames[body : body + size], b"mask")
        at = body + size
    return masked


def _read_websocket(batch: bytes, *, is_text: bool) -> list[bytes]:
    events = FrameReader(2**20, inflated).receive(_as_a_client_sends(batch))
    found = [each for each in events if isinstance(each, Message)]
    assert len(found) == len(events)
    assert all(each.is_text is is_text for each in found)
    return [each.payload for each in found]


def _read_events(events: bytes) -> list[bytes]:
    *found, rest = events.split(b"\n\n")
    assert rest == b"", "whole events only"
    return found


def _read_chunks(batch: bytes) -> list[bytes]:
    chunks = chunks_of(batch)
    assert all(chunks), "an empty chunk would end the response"
    return _read_events(b"".join(chunks))


Read = Callable[[bytes], list[bytes]]
FRAMINGS: dict[str, tuple[Framing, Read, bool]] = {
    "prefixed": (PREFIXED, lambda batch: list(payloads(batch)), True),
    **{
        f"websocket {'binary' if is_binary else 'text'} {bits}": (
            websocket_framing(is_binary=is_binary, window_bits=bits),
            functools.partial(_read_websocket, is_text=not is_binary),
            is_binary,
        )
        for is_binary in (False, True)
        for bits in (0, *WINDOWS)
    },
    "separated": (
        separated_framing(PREFIXED, b"\x1e"),
        lambda batch: list(payloads(batch)),
        False,
    ),
    "event stream in chunks": (CHUNKED.framing, _read_chunks, False),
    "event stream until closed": (UNTIL_CLOSED.framing, _read_events, False),
}

# The payload of an event is its lines, none of them empty.
_LINE = st.text(st.characters(exclude_characters="\r\n\x1e", codec="utf-8"), max_size=300)


@pytest.mark.parametrize("name", FRAMINGS)
@given(data=st.data())
def test_a_batch_is_the_concatenation_of_its_frames(name: str, data: st.DataObject) -> None:
    framing, read, takes_bytes = FRAMINGS[name]
    one = _LINE.map(str.encode) | st.just(b"long " * 30_000)
    if takes_bytes:
        one |= st.binary(max_size=300)
    sent = data.draw(st.lists(one, max_size=4))

    assert read(b"".join(framing.frame(each) for each in sent)) == sent


def test_connections_with_the_same_parameters_share_a_framing() -> None:
    for is_binary in (False, True):
        for bits in (0, *WINDOWS):
            once = websocket_framing(is_binary=is_binary, window_bits=bits)
            assert once is websocket_framing(is_binary=is_binary, window_bits=bits)
            assert once.ping == b"\x89\x00"
    assert PREFIXED.ping == b""


@pytest.mark.parametrize("name", FRAMINGS)
@pytest.mark.parametrize(
    "pieces",
    [[b"a"], [b"", b"a", b""], ["é€".encode()[:3], "é€".encode()[3:]], [b"long " * 9000] * 9],
)
def test_a_payload_in_pieces_is_one_message(name: str, pieces: list[bytes]) -> None:
    framing, read, _ = FRAMINGS[name]
    before, after = framing.frame(b"before"), framing.frame(b"after")
    batches = list(framing.frame_pieces(iter(pieces)))
    assert read(before + b"".join(batches) + after) == [b"before", b"".join(pieces), b"after"]


@pytest.mark.parametrize("name", FRAMINGS)
def test_a_piece_is_asked_for_with_the_batch_that_it_is_in(name: str) -> None:
    asked = []

    def pieces() -> Iterator[bytes]:
        for number in range(10):
            asked.append(number)
            yield f"{number}".encode() * 50_000

    batches = FRAMINGS[name][0].frame_pieces(pieces())
    for number in range(10):
        next(batches)
        assert len(asked) <= number + 2


@pytest.mark.parametrize("framing", [PREFIXED, websocket_framing(is_binary=False)])
def test_messages_that_are_written_at_once_are_framed_one_by_one(framing: Framing) -> None:
    separated = separated_framing(framing, b"\x1e")
    assert separated is separated_framing(framing, b"\x1e"), "one for all sessions"
    assert separated.frame(b"a\x1e\xc3\xa9") == framing.frame(b"a") + framing.frame(b"\xc3\xa9")
    assert separated.ping == framing.ping
