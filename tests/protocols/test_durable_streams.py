"""Offsets, cursors and queries of durable streams, and how messages are written for each kind of content."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from catenary.errors import RequestRefused
from catenary.messages.publications import Position
from catenary.protocols.durable_streams import (
    CURSOR_EPOCH_S,
    Chunk,
    Content,
    Live,
    ReadRequest,
    content_of,
    cursor_at,
    entity_tag,
    matches_tag,
    message_of,
    offset_of,
    position_of,
    read_request,
)
from tests.parts.events import events_of

epochs = st.from_regex(r"[A-Za-z0-9.-]{1,64}", fullmatch=True)
offsets = st.integers(0, 10**18)


@given(epochs, offsets)
def test_an_offset_is_read_as_the_position_that_was_written(epoch: str, offset: int) -> None:
    assert position_of(offset_of(Position(epoch, offset))) == Position(epoch, offset)
    assert position_of(f"{offset}::{epoch}") == Position(epoch, offset), "as in anycable-go"


@given(offsets, offsets)
def test_offsets_of_an_epoch_are_sorted_as_text(one: int, other: int) -> None:
    texts = offset_of(Position("e", one)), offset_of(Position("e", other))
    assert (texts[0] < texts[1]) == (one < other)
    assert offset_of(None) < texts[0]


@pytest.mark.parametrize(
    "offset", ["", "1", "1_", "_e", "-2", "1,2", "1 2", "٣_e", "1_e\n", "9" * 21 + "_e"]
)
def test_other_offsets_are_refused(offset: str) -> None:
    with pytest.raises(RequestRefused):
        position_of(offset)


def test_a_query_is_read() -> None:
    assert read_request("") == ReadRequest()
    assert read_request("offset=-1") == read_request("offset=0") == ReadRequest()
    asked = read_request("cursor=7&live=long-poll&offset=now&signed=a--b&x=1")
    assert asked == ReadRequest(is_now=True, live=Live.LONG_POLL, cursor="7", signed="a--b")


def test_a_cursor_is_an_interval_and_later_than_that_of_the_request() -> None:
    now = CURSOR_EPOCH_S + 20 * 1000 + 19
    assert cursor_at(now) == cursor_at(now, "999") == cursor_at(now, "x" * 99) == "1000"
    assert cursor_at(now, "1000", 7) == "1007"
    assert cursor_at(now, "2000", 1) == "2001"


def test_a_tag_changes_with_the_end() -> None:
    start, end = Position("e", 1), Position("e", 2)
    tag = entity_tag(start, end, is_closed=False)
    assert tag != entity_tag(start, end, is_closed=True)
    assert matches_tag(f'"x", W/{tag}', tag)
    assert not matches_tag('"x"', tag)
    assert not matches_tag("", tag)


def test_the_content_follows_from_the_type() -> None:
    assert content_of("Application/JSON; charset=utf-8") is Content.JSON
    assert content_of("text/plain") is Content.TEXT
    assert content_of("application/octet-stream") is content_of("") is Content.BINARY


@pytest.mark.parametrize(
    ("message", "as_bytes"),
    [
        (b'"a\\nb"', b"a\nb"),
        (b'{"base64":"AQID"}', b"\x01\x02\x03"),
        (b'{"base64":"?"}', b'{"base64":"?"}'),
        (b'{"base64":"AQID","x":1}', b'{"base64":"AQID","x":1}'),
        (b"[1]", b"[1]"),
    ],
)
def test_a_message_of_a_stream_of_bytes(message: bytes, as_bytes: bytes) -> None:
    assert message_of(Content.JSON, message) == message
    assert message_of(Content.TEXT, message) == message_of(Content.BINARY, message) == as_bytes


@given(st.text())
def test_text_in_events_keeps_its_characters_but_for_line_breaks(text: str) -> None:
    message = json.dumps(text).encode()
    chunk = Chunk(Content.TEXT, (message,), Position("e", 1), is_up_to_date=False)
    data, control = events_of(chunk.events(lambda event: event + b"\n\n", "5"))
    assert data.data == text.replace("\r\n", "\n").replace("\r", "\n")
    assert json.loads(control.data) == {
        "streamNextOffset": offset_of(Position("e", 1)),
        "streamCursor": "5",
    }


def test_events_are_encoded_once_for_each_framing_and_cursor() -> None:
    chunk = Chunk(Content.JSON, (b"1", b"2"), None, is_up_to_date=True)

    def one(event: bytes) -> bytes:
        return b"<" + event + b">"

    assert chunk.body == b"[1,2]"
    assert chunk.events(one, "1") is chunk.events(one, "1")
    assert chunk.events(one, "1") != chunk.events(one, "2")


def test_the_last_control_event_says_that_the_stream_is_closed() -> None:
    chunk = Chunk(Content.JSON, (), None, is_up_to_date=True, is_closed=True)
    (control,) = events_of(chunk.events(lambda event: event + b"\n\n", "5"))
    assert json.loads(control.data) == {
        "streamNextOffset": "0",
        "streamClosed": True,
        "upToDate": True,
    }
