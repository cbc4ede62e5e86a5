"""The heads of responses to reads of a durable stream: what a client needs to go on, and what caches may keep."""

from typing import cast

import msgspec
import pytest

from catenary.edge.admission import Admitted
from catenary.messages.names import Stream
from catenary.messages.publications import Position
from catenary.protocols.durable_stream_writes import Record
from catenary.protocols.durable_streams import Chunk, Content, ReadRequest, offset_of
from catenary.transports import durable_stream_responses as responses
from catenary.transports.durable_stream_requests import OpenedRead

END = Position("e", 2)
CLOSED = Record("text/plain", is_closed=True)
# A read asks nothing of the admission here.
REQUEST = OpenedRead(
    Stream("s"),
    ReadRequest(),
    cast("Admitted", None),
    (),
    is_head=False,
    is_shared=True,
    if_none_match="",
    is_http_1_0=False,
)


def chunk(*, is_closed: bool = False) -> Chunk:
    return Chunk(Content.JSON, [b"1"], END, is_up_to_date=True, is_closed=is_closed)


@pytest.mark.parametrize(("is_shared", "who"), [(True, "public"), (False, "private")])
def test_messages_may_be_cached_by_those_who_may_read_them(is_shared: bool, who: str) -> None:
    request = msgspec.structs.replace(REQUEST, is_shared=is_shared)
    status, headers = responses.of_messages(request, None, chunk(), "7")
    found = dict(headers)
    assert (status, found["Cache-Control"].split(",")[0]) == (200, who)
    assert found["Stream-Next-Offset"] == offset_of(END)
    assert (found["Stream-Cursor"], found["Stream-Up-To-Date"]) == ("7", "true")
    assert "Stream-Closed" not in found


def test_messages_that_the_client_has_are_not_sent_again() -> None:
    _, headers = responses.of_messages(REQUEST, None, chunk(), "7")
    again = msgspec.structs.replace(REQUEST, if_none_match=dict(headers)["ETag"])
    assert responses.of_messages(again, None, chunk(), "8").status == 304
    # The end of the stream is news.
    assert responses.of_messages(again, CLOSED, chunk(is_closed=True), "8").status == 200


def test_the_end_of_a_stream_is_told_without_messages_too() -> None:
    status, headers = responses.of_no_messages(CLOSED, END, "7")
    found = dict(headers)
    assert (status, found["Stream-Closed"], found["Cache-Control"]) == (204, "true", "no-store")
    assert "Stream-Closed" not in dict(responses.of_no_messages(None, END, "7").headers)


def test_a_head_request_is_told_the_content_type_and_the_end() -> None:
    found = dict(responses.of_head(CLOSED, END).headers)
    assert (found["Content-Type"], found["Stream-Closed"]) == ("text/plain", "true")
    assert found["Stream-Next-Offset"] == offset_of(END)


def test_events_of_binary_streams_name_their_encoding() -> None:
    cors = (("Vary", "Origin"),)
    found = responses.of_events(Content.BINARY, cors)
    assert (found["Stream-SSE-Data-Encoding"], found["Vary"]) == ("base64", "Origin")
    assert "Stream-SSE-Data-Encoding" not in responses.of_events(Content.JSON, cors)


def test_the_next_cursor_is_not_that_of_the_request() -> None:
    asked = responses.next_cursor(1_800_000_000, "")
    assert responses.next_cursor(1_800_000_000, asked) != asked
