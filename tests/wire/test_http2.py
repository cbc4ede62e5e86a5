"""The client side of HTTP/2: requests, responses, and violations by a server.

The peer's frames are written here; its header blocks are the library ``hpack``'s.
"""

import struct

import hpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from catenary.wire.hpack import literal
from catenary.wire.http2 import (
    CONNECTION_WINDOW_BYTES,
    MAX_IDLE_FRAMES,
    PREFACE,
    STREAM_WINDOW_BYTES,
    Http2Connection,
)
from catenary.wire.http2_events import Event, GoingAway, Opened, Oversized, Reset, Response
from catenary.wire.http2_frames import Http2Error
from catenary.wire.http2_headers import MAX_BLOCK_BYTES

DATA, HEADERS, PRIORITY, RST, SETTINGS, PUSH, PING, GOAWAY, WINDOW, CONTINUATION = range(10)
END_STREAM, ACK, END_HEADERS, PADDED, PRIORITIZED = 1, 1, 4, 8, 32
NO_ERROR, PROTOCOL, FLOW, SIZE, REFUSED, CANCEL, COMPRESSION, CALM = 0, 1, 3, 6, 7, 8, 9, 11

HEAD = ((b":status", b"200"), (b"content-type", b"application/grpc"))
TRAILERS = ((b"grpc-status", b"0"),)
FIELDS = ((b":authority", b"app.test"), (b":scheme", b"http"), (b"te", b"trailers"))
MAX_BODY = 3 * 2**20


def frame(kind: int, flags: int = 0, stream: int = 0, payload: bytes = b"") -> bytes:
    return len(payload).to_bytes(3, "big") + struct.pack(">BBL", kind, flags, stream) + payload


def settings(**values: int) -> bytes:
    names = {"table": 1, "push": 2, "streams": 3, "window": 4, "frame": 5, "list": 6, "odd": 99}
    pairs = (struct.pack(">HL", names[name], value) for name, value in values.items())
    return frame(SETTINGS, payload=b"".join(pairs))


def word(number: int) -> bytes:
    return struct.pack(">L", number)


def block(*fields: tuple[bytes, bytes]) -> bytes:
    """A header block that touches no table."""
    return hpack.Encoder().encode([(*field, True) for field in fields])


def head(stream: int = 1, flags: int = END_HEADERS) -> bytes:
    return frame(HEADERS, flags, stream, block(*HEAD))


def trailers(stream: int = 1) -> bytes:
    return frame(HEADERS, END_HEADERS | END_STREAM, stream, block(*TRAILERS))


def answer(stream: int = 1, body: bytes = b"hello") -> bytes:
    return head(stream) + frame(DATA, 0, stream, body) + trailers(stream)


def split(data: bytes) -> list[tuple[int, int, int, bytes]]:
    """Frames, as type, flags, stream and payload."""
    found = []
    while data:
        size = int.from_bytes(data[:3], "big")
        kind, flags, stream = struct.unpack_from(">BBL", data, 3)
        found.append((kind, flags, stream, data[9 : 9 + size]))
        data = data[9 + size :]
    return found


def sent(connection: Http2Connection) -> list[tuple[int, int, int, bytes]]:
    return split(connection.data_to_send())


def opened(data: bytes = settings(), calls: int = 1, body: bytes = b"request") -> Http2Connection:
    """A connection with requests under way, all of it sent."""
    connection = Http2Connection(FIELDS, MAX_BODY)
    connection.receive(data)
    for _ in range(calls):
        connection.request(b"/path", b"", body)
    connection.data_to_send()
    return connection


def described(events: list[Event]) -> list[object]:
    """Events that can be compared: of an error its code."""
    return [event.code if isinstance(event, Http2Error) else event for event in events]


RESPONSE = Response(1, dict(HEAD), b"hello", dict(TRAILERS))


# Requests


def test_it_begins_with_the_preface_and_settings() -> None:
    connection = Http2Connection(FIELDS, MAX_BODY)
    data = connection.data_to_send()
    assert data.startswith(PREFACE)
    (kind, flags, stream, payload), window = split(data.removeprefix(PREFACE))
    assert (kind, flags, stream) == (SETTINGS, 0, 0)
    assert dict(struct.iter_unpack(">HL", payload)) == {
        2: 0,
        4: STREAM_WINDOW_BYTES,
        6: MAX_BLOCK_BYTES,
    }
    assert window == (WINDOW, 0, 0, word(CONNECTION_WINDOW_BYTES - 65_535))
    assert not connection.has_room
    assert connection.receive(settings()) == [Opened()]
    assert connection.has_room
    assert sent(connection) == [(SETTINGS, ACK, 0, b"")]


def test_a_request_is_a_head_and_a_body() -> None:
    connection = opened(calls=0)
    decoder = hpack.Decoder()
    # A path that is new moves the indexes of all others.
    for number, path in enumerate((b"/a", b"/a", b"/a", b"/b", b"/a", b"/b", b"/c", b"/a", b"/b")):
        stream = 2 * number + 1
        assert connection.request(path, literal(b"sid", path), b"body") == stream
        (first, second) = sent(connection)
        assert first[:3] == (HEADERS, END_HEADERS, stream)
        assert list(decoder.decode(first[3], raw=True)) == [
            (b":method", b"POST"),
            (b":path", path),
            *FIELDS,
            (b"sid", path),
        ]
        assert second == (DATA, END_STREAM, stream, b"body")
    assert len(first[3]) < 20, "what is the same each time goes into the table"


def test_a_server_may_shrink_the_table() -> None:
    connection = opened(calls=0)
    decoder = hpack.Decoder()
    for table in (None, None, None, 0, None, 4_096, None):
        if table is not None:
            connection.receive(settings(table=table))
            connection.data_to_send()
            if table == 0:
                decoder.max_allowed_table_size = 0
        connection.request(b"/path", b"", b"")
        read = decoder.decode(sent(connection)[0][3], raw=True)
        assert list(read) == [(b":method", b"POST"), (b":path", b"/path"), *FIELDS]


@pytest.mark.parametrize("body", [b"", b"body"])
def test_a_long_head_is_continued(body: bytes) -> None:
    connection = opened(calls=0)
    connection.request(b"/path", literal(b"sid", b"x" * 40_000), body)
    frames = sent(connection)
    assert [each[:3] for each in frames] == [
        (HEADERS, 0, 1),
        (CONTINUATION, 0, 1),
        (CONTINUATION, END_HEADERS, 1),
        (DATA, END_STREAM, 1),
    ]
    assert max(len(each[3]) for each in frames) == 16_384
    assert frames[3][3] == body
    whole = b"".join(each[3] for each in frames[:3])
    assert list(hpack.Decoder().decode(whole, raw=True))[-1] == (b"sid", b"x" * 40_000)


def test_a_cancelled_request_is_reset_and_its_answer_passed_over() -> None:
    connection = opened()
    connection.cancel(1)
    connection.cancel(1)
    assert sent(connection) == [(RST, 0, 1, word(CANCEL))]
    assert connection.receive(answer()) == []
    assert connection.receive(frame(RST, 0, 1, word(NO_ERROR))) == []
    assert connection.receive(frame(WINDOW, 0, 1, word(1))) == []


# Windows, outwards


def uploaded(connection: Http2Connection) -> list[int]:
    """The sizes of the DATA frames that go out."""
    return [len(each[3]) for each in sent(connection) if each[0] == DATA]


def test_a_body_goes_as_far_as_the_windows_let_it() -> None:
    connection = opened(settings(window=20_000), calls=0)
    connection.request(b"/path", b"", b"x" * 100_000)
    assert uploaded(connection) == [16_384, 3_616]
    connection.receive(frame(WINDOW, 0, 1, word(100_000)))
    assert uploaded(connection) == [16_384, 16_384, 12_767]  # 65,535 for the whole connection
    connection.receive(frame(WINDOW, 0, 0, word(100_000)))
    *_, last = sent(connection)
    assert last[:3] == (DATA, END_STREAM, 1)
    connection.request(b"/path", b"", b"y")
    assert uploaded(connection) == [1]


def test_a_new_initial_window_applies_to_requests_in_flight() -> None:
    connection = opened(settings(window=10), calls=0)
    connection.request(b"/path", b"", b"x" * 100)
    assert uploaded(connection) == [10]
    connection.receive(settings(window=5))  # five less than nothing
    connection.receive(frame(WINDOW, 0, 1, word(5)))
    assert uploaded(connection) == []
    connection.receive(settings(window=25))
    assert uploaded(connection) == [20]
    connection.receive(settings(window=1_000))
    assert uploaded(connection) == [70]


def test_larger_frames_are_used_where_they_are_welcome() -> None:
    connection = opened(settings(frame=60_000), calls=0)
    connection.request(b"/path", b"", b"x" * 50_000)
    assert uploaded(connection) == [50_000]


def test_requests_wait_for_the_connection_s_window_in_order() -> None:
    connection = opened(settings(window=50_000), calls=0)
    for _ in range(2):
        connection.request(b"/path", b"", b"x" * 50_000)
    sizes = [(each[2], len(each[3])) for each in sent(connection) if each[0] == DATA]
    assert sum(size for stream, size in sizes if stream == 1) == 50_000
    assert sum(size for stream, size in sizes if stream == 3) == 15_535
    connection.cancel(3)
    connection.data_to_send()
    connection.receive(frame(WINDOW, 0, 0, word(50_000)))
    assert uploaded(connection) == []


def test_an_answer_may_be_complete_before_the_request_is() -> None:
    connection = opened(settings(window=10), body=b"x" * 100)
    assert connection.receive(answer()) == [RESPONSE]
    assert sent(connection) == [(RST, 0, 1, word(CANCEL))]
    connection.receive(frame(WINDOW, 0, 1, word(100)))
    assert uploaded(connection) == []
    connection.request(b"/path", b"", b"x" * 100)
    connection.data_to_send()
    assert len(connection.receive(answer(3))) == 1
    assert sent(connection) == [(RST, 0, 3, word(CANCEL))]


# Answers


def test_an_answer_comes_whole() -> None:
    assert opened().receive(answer()) == [RESPONSE]


def test_a_usual_answer_is_read_the_same_the_second_time() -> None:
    connection = opened(calls=3)
    assert connection.receive(answer(1)) == [RESPONSE]
    again = connection.receive(answer(5, b"other") + answer(3))
    assert [(each.stream_id, each.body) for each in again if isinstance(each, Response)] == [
        (5, b"other"),
        (3, b"hello"),
    ]


def test_blocks_of_a_table_that_changes_are_read_anew() -> None:
    encoder = hpack.Encoder()
    connection = opened(calls=40)
    for number in range(40):
        stream = 2 * number + 1
        fields = [HEAD[0], (b"date", b"%d" % (number // 4))]
        data = frame(HEADERS, END_HEADERS, stream, encoder.encode(fields))
        data += frame(DATA, 0, stream, b"hello")
        data += frame(HEADERS, END_HEADERS | END_STREAM, stream, encoder.encode(TRAILERS))
        assert connection.receive(data) == [
            Response(stream, dict(fields), b"hello", dict(TRAILERS))
        ]


def test_half_a_block_is_not_taken_for_another_that_is_known() -> None:
    connection = opened(calls=2)
    connection.receive(answer())
    longer = block(*TRAILERS, (b"grpc-message", b"no"))
    assert longer.startswith(block(*TRAILERS))
    data = head(3) + frame(DATA, 0, 3, b"hello") + frame(HEADERS, 5, 3, longer)
    missing = len(longer) - len(block(*TRAILERS))
    assert connection.receive(data[:-missing]) == []
    (event,) = connection.receive(data[-missing:])
    assert isinstance(event, Response)
    assert event.trailers[b"grpc-message"] == b"no"


def test_trailers_alone_are_an_answer() -> None:
    data = frame(HEADERS, END_HEADERS | END_STREAM, 1, block(*HEAD, *TRAILERS))
    assert opened().receive(data) == [
        Response(1, dict(HEAD + TRAILERS), b"", dict(HEAD + TRAILERS))
    ]


def test_an_answer_without_trailers() -> None:
    data = head() + frame(DATA, END_STREAM, 1, b"hello")
    assert opened().receive(data) == [Response(1, dict(HEAD), b"hello", {})]


def test_an_answer_in_many_pieces() -> None:
    pieces = b"".join(frame(DATA, 0, 1, bytes((piece,))) for piece in b"hello")
    assert opened().receive(head() + pieces + trailers()) == [RESPONSE]


def test_padding_priority_continuations_and_interim_answers() -> None:
    whole = block(*HEAD)
    data = (
        frame(HEADERS, END_HEADERS, 1, block((b":status", b"103"), (b"link", b"x")))
        + frame(HEADERS, PADDED | PRIORITIZED, 1, b"\x04" + bytes(5) + whole[:3] + b"pad!")
        + frame(CONTINUATION, 0, 1, b"")
        + frame(CONTINUATION, END_HEADERS, 1, whole[3:])
        + frame(PRIORITY, 0, 1, bytes(5))
        + frame(0xFA, 0xFF, 77, b"unknown")
        + frame(DATA, PADDED, 1, b"\x03hellopad")
        + frame(DATA, 0, 1, b"")
        + trailers()
    )
    assert opened().receive(data) == [RESPONSE]


def test_an_answer_that_is_too_large_is_not_read_on() -> None:
    connection = opened(calls=2)
    connection.receive(head())
    events: list[Event] = []
    for _ in range(MAX_BODY // 16_384 + 1):
        events += connection.receive(frame(DATA, 0, 1, b"x" * 16_384))
    assert events == [Oversized(1)]
    assert (RST, 0, 1, word(CANCEL)) in sent(connection)
    assert len(connection.receive(answer(3))) == 1


def test_windows_are_filled_up_while_an_answer_comes() -> None:
    connection = opened()
    connection.receive(head())
    given_back = {0: 0, 1: 0}
    for _ in range(128):
        connection.receive(frame(DATA, 0, 1, b"x" * 16_384))
        for kind, _, stream, payload in sent(connection):
            assert kind == WINDOW
            given_back[stream] += int.from_bytes(payload, "big")
    # The server must at no time have less than half a window.
    assert 128 * 16_384 - given_back[1] <= STREAM_WINDOW_BYTES // 2
    assert 128 * 16_384 - given_back[0] <= CONNECTION_WINDOW_BYTES // 2


def test_data_of_cancelled_requests_counts_for_the_connection_s_window() -> None:
    connection = opened(calls=600)
    given_back = 0
    for stream in range(1, 1_200, 2):
        connection.cancel(stream)
        connection.receive(frame(DATA, 0, stream, b"x" * 16_384))
        given_back += sum(
            int.from_bytes(each[3], "big") for each in sent(connection) if each[0] == WINDOW
        )
    assert 600 * 16_384 - given_back <= CONNECTION_WINDOW_BYTES // 2


MALFORMED = {
    "another head": head() + head(),
    "an end that is interim": frame(HEADERS, 5, 1, block((b":status", b"100"))),
    "no status": frame(HEADERS, END_HEADERS, 1, block(*TRAILERS)),
    "two": frame(HEADERS, END_HEADERS, 1, block((b":status", b"200"), (b":status", b"200"))),
    "no number": frame(HEADERS, END_HEADERS, 1, block((b":status", b"2x0"))),
    "a late status": frame(HEADERS, END_HEADERS, 1, block((b"a", b"b"), (b":status", b"200"))),
    "a capital": frame(HEADERS, END_HEADERS, 1, block((b":status", b"200"), (b"Upper", b"x"))),
    "a request's": frame(HEADERS, END_HEADERS, 1, block((b":path", b"/"))),
    "a line break": frame(HEADERS, END_HEADERS, 1, block((b":status", b"200"), (b"a", b"b\nc"))),
    "data first": frame(DATA, 0, 1, b"hello"),
    "a status in trailers": head() + frame(HEADERS, 5, 1, block((b":status", b"200"))),
    "too many fields": frame(
        HEADERS, 4, 1, b"\x40\x01a\x7f\xa1\x1e" + b"x" * 4_000 + b"\xbe" * 1_000
    ),
}


@pytest.mark.parametrize("case", MALFORMED)
def test_a_malformed_answer_ends_its_own_call_only(case: str) -> None:
    connection = opened(calls=2)
    (event,) = connection.receive(MALFORMED[case])
    assert isinstance(event, Reset)
    assert (event.stream_id, event.code) == (1, PROTOCOL)
    assert "expected" in event.malformed
    assert sent(connection) == [(RST, 0, 1, word(PROTOCOL))]
    assert connection.receive(answer(3)) == [Response(3, dict(HEAD), b"hello", dict(TRAILERS))]


# The connection


def test_a_reset_is_an_event_with_its_code() -> None:
    connection = opened()
    assert connection.receive(frame(RST, 0, 1, word(REFUSED))) == [Reset(1, REFUSED)]
    assert connection.receive(frame(RST, 0, 1, word(REFUSED))) == []


def test_goaway_refuses_requests_after_its_last_stream() -> None:
    connection = opened(calls=3)
    goodbye = frame(GOAWAY, 0, 0, word(3) + word(NO_ERROR) + b"bye")
    assert connection.receive(goodbye) == [Reset(5, REFUSED), GoingAway(NO_ERROR, b"bye")]
    assert connection.is_going_away
    assert not connection.has_room
    connection.receive(settings(streams=100))
    assert not connection.has_room
    assert len(connection.receive(answer(1) + answer(3))) == 2


def test_the_number_of_streams_is_limited_by_the_server() -> None:
    connection = opened(settings(streams=2), calls=2)
    assert not connection.has_room
    connection.receive(answer(3))
    assert connection.has_room
    connection.receive(settings(streams=1))
    assert not connection.has_room
    connection.receive(settings(streams=5))
    assert connection.has_room


def test_when_the_numbers_of_streams_are_used_up_it_is_going_away() -> None:
    connection = opened(calls=0)
    connection._next_id = 2**31 - 3
    connection.request(b"/path", b"", b"")
    assert connection.has_room
    assert connection.request(b"/path", b"", b"") == 2**31 - 1
    assert connection.is_going_away
    assert not connection.has_room
    assert len(connection.receive(answer(2**31 - 1))) == 1


def test_pings_are_answered_and_sent() -> None:
    connection = opened()
    assert connection.receive(frame(PING, 0, 0, b"12345678")) == []
    assert sent(connection) == [(PING, ACK, 0, b"12345678")]
    connection.ping()
    assert sent(connection) == [(PING, 0, 0, bytes(8))]
    assert connection.receive(frame(PING, ACK, 0, bytes(8))) == []
    assert sent(connection) == []


def test_after_the_goodbye_nothing_is_read() -> None:
    connection = opened()
    connection.close()
    connection.close()
    assert sent(connection) == [(GOAWAY, 0, 0, word(0) + word(NO_ERROR))]
    assert connection.receive(answer()) == []


BROKEN = {
    "a frame that is too long": (SIZE, frame(DATA, 0, 1, b"x" * 16_385)),
    "a stream that never was": (PROTOCOL, head(99)),
    "a stream of the server's": (PROTOCOL, head(2)),
    "a head of the connection": (PROTOCOL, head(0)),
    "data of a stream that never was": (PROTOCOL, frame(DATA, 0, 99, b"x")),
    "data of the connection": (PROTOCOL, frame(DATA, 0, 0, b"x")),
    "padding without an end": (PROTOCOL, head() + frame(DATA, PADDED, 1, b"\x09x")),
    "padding of nothing": (PROTOCOL, head() + frame(DATA, PADDED, 1, b"")),
    "half a priority": (SIZE, frame(HEADERS, PRIORITIZED | END_HEADERS, 1, b"x")),
    "a block that is none": (COMPRESSION, frame(HEADERS, END_HEADERS, 1, b"\xbe")),
    "an interrupted block": (PROTOCOL, frame(HEADERS, 0, 1, b"") + frame(PING, 0, 0, bytes(8))),
    "an unknown frame in a block": (PROTOCOL, frame(HEADERS, 0, 1, b"") + frame(0xFA)),
    "another's continuation": (PROTOCOL, frame(HEADERS, 0, 1) + frame(CONTINUATION, 4, 3)),
    "a continuation of none": (PROTOCOL, frame(CONTINUATION, END_HEADERS, 1, b"")),
    "a short reset": (SIZE, frame(RST, 0, 1, b"x")),
    "a reset of the connection": (PROTOCOL, frame(RST, 0, 0, word(1))),
    "a reset of the future": (PROTOCOL, frame(RST, 0, 99, word(1))),
    "settings of a stream": (PROTOCOL, frame(SETTINGS, 0, 1)),
    "half a setting": (SIZE, frame(SETTINGS, 0, 0, b"12345")),
    "settings in an acknowledgement": (SIZE, frame(SETTINGS, ACK, 0, bytes(6))),
    "push": (PROTOCOL, settings(push=1)),
    "a window too large": (FLOW, settings(window=2**31)),
    "a small frame size": (PROTOCOL, settings(frame=16_383)),
    "a large frame size": (PROTOCOL, settings(frame=2**24)),
    "a pushed request": (PROTOCOL, frame(PUSH, END_HEADERS, 1, word(2))),
    "a ping of a stream": (PROTOCOL, frame(PING, 0, 1, bytes(8))),
    "a short ping": (SIZE, frame(PING, 0, 0, b"x")),
    "GOAWAY of a stream": (PROTOCOL, frame(GOAWAY, 0, 1, bytes(8))),
    "a short goodbye": (SIZE, frame(GOAWAY, 0, 0, b"x")),
    "no increment": (PROTOCOL, frame(WINDOW, 0, 0, word(0))),
    "half an increment": (SIZE, frame(WINDOW, 0, 0, b"x")),
    "a window that overflows": (FLOW, frame(WINDOW, 0, 0, word(2**31 - 1))),
    "a window of the future": (PROTOCOL, frame(WINDOW, 0, 99, word(1))),
    "a priority of the connection": (PROTOCOL, frame(PRIORITY, 0, 0, bytes(5))),
    "a short priority": (SIZE, frame(PRIORITY, 0, 1, b"x")),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_rule_ends_the_connection(case: str) -> None:
    code, data = BROKEN[case]
    connection = opened()
    (error,) = connection.receive(data)
    assert isinstance(error, Http2Error)
    assert error.code == code
    assert str(error).startswith("expected")
    assert (GOAWAY, 0, 0, word(0) + word(code)) in sent(connection)
    assert connection.receive(answer()) == []
    assert not connection.has_room


@pytest.mark.parametrize(
    "beginning",
    [
        b"HTTP/1.1 400 Bad Request\r\n",
        b"\x15\x03\x03\x00\x02\x02\x46 a TLS alert",
        frame(SETTINGS, ACK),
        frame(PING, 0, 0, bytes(8)),
    ],
)
def test_a_server_that_does_not_begin_with_settings_is_refused(beginning: bytes) -> None:
    connection = Http2Connection(FIELDS, MAX_BODY)
    (error,) = connection.receive(beginning)
    assert isinstance(error, Http2Error)
    assert error.code == PROTOCOL
    assert "settings" in str(error)


def test_an_upload_s_window_may_not_overflow() -> None:
    connection = opened(settings(window=10), body=b"x" * 100_000)
    (error,) = connection.receive(frame(WINDOW, 0, 1, word(2**31 - 1)) * 2)
    assert isinstance(error, Http2Error)
    assert error.code == FLOW


def test_a_server_that_ignores_the_window_is_refused() -> None:
    # The windows are filled up as data comes, so only the bookkeeping can be asked.
    connection = opened()
    connection.receive(head())
    answered = connection._streams[1]
    assert answered is not None
    answered.credit = 10
    (error,) = connection.receive(frame(DATA, 0, 1, b"x" * 11))
    assert isinstance(error, Http2Error)
    assert error.code == FLOW
    connection = opened()
    connection._credit = 10
    (error,) = connection.receive(frame(DATA, 0, 1, b"x" * 11))
    assert isinstance(error, Http2Error)
    assert error.code == FLOW


FLOODS = {
    "pings": frame(PING, 0, 0, bytes(8)),
    "settings": settings(),
    "acknowledgements": frame(SETTINGS, ACK),
    "empty data": frame(DATA, 0, 1, b""),
    "padding": frame(DATA, PADDED, 1, b"\x03pad"),
    "increments": frame(WINDOW, 0, 0, word(1)),
    "priorities": frame(PRIORITY, 0, 1, bytes(5)),
    "unknown frames": frame(0xFA),
    "interim answers": frame(HEADERS, END_HEADERS, 3, block((b":status", b"103"))),
    "resets of what ended": frame(RST, 0, 5, word(1)),
    "answers to nobody": answer(5),
    "malformed answers to nobody": frame(HEADERS, END_HEADERS, 5, block((b"A", b"b"))),
    "goodbyes": frame(GOAWAY, 0, 0, word(99) + word(0)),
}


@pytest.mark.parametrize("case", FLOODS)
def test_a_flood_is_not_answered_for_ever(case: str) -> None:
    connection = opened(calls=3)
    connection.receive(head() + frame(RST, 0, 5, word(1)))
    most = MAX_IDLE_FRAMES + 10
    events: list[Event] = []
    for _ in range(most // 100 + 1):
        events += connection.receive(FLOODS[case] * 100)
    assert isinstance(events[-1], Http2Error)
    assert events[-1].code == CALM
    assert len(connection.data_to_send()) < 25 * most


def test_unsent_acknowledgements_do_not_grow_with_each_call() -> None:
    connection = opened(calls=0)
    events: list[Event] = []
    for _ in range(3):
        connection.request(b"/path", b"", b"")
        events += connection.receive(frame(PING, 0, 0, bytes(8)) * (MAX_IDLE_FRAMES // 2))
    assert described(events) == [CALM]


def test_an_endless_head_is_not_kept() -> None:
    connection = opened()
    connection.receive(frame(HEADERS, 0, 1, b""))
    events: list[Event] = []
    for _ in range(MAX_BLOCK_BYTES // 16_384 + 1):
        events += connection.receive(frame(CONTINUATION, 0, 1, b"x" * 16_384))
    assert described(events) == [CALM]


def test_pings_between_calls_are_no_flood() -> None:
    connection = opened()
    for _ in range(3):
        assert connection.receive(frame(PING, 0, 0, bytes(8)) * (MAX_IDLE_FRAMES - 10)) == []
        connection.data_to_send()
        stream = connection.request(b"/path", b"", b"")
        assert len(connection.receive(answer(stream))) == 1


# Properties

SESSION = (
    answer(1)
    + frame(PING, 0, 0, bytes(8))
    + settings(window=100_000, streams=50)
    + answer(3, b"")
    + frame(RST, 0, 5, word(REFUSED))
    + frame(DATA, 0, 5, b"late")
    + answer(9, b"x" * 3_000)
    + answer(7)
    + frame(GOAWAY, 0, 0, word(11) + word(0))
    + answer(11)
    + frame(DATA, 0, 0, b"broken")
)


@given(st.lists(st.integers(1, 400), max_size=60), st.booleans())
def test_however_bytes_are_split_the_events_are_the_same(sizes: list[int], singly: bool) -> None:
    whole = opened(calls=8)
    expected = described(whole.receive(SESSION))
    connection = opened(calls=8)
    events: list[Event] = []
    at = 0
    for size in [1] * len(SESSION) if singly else [*sizes, len(SESSION)]:
        events += connection.receive(SESSION[at : at + size])
        at += size
    assert described(events) == expected
    assert connection.data_to_send() == whole.data_to_send()
    assert len(expected) == 10


frames = st.builds(
    frame,
    st.integers(0, 10),
    st.integers(0, 255),
    st.sampled_from([0, 1, 2, 3, 5, 99]),
    st.one_of(
        st.binary(max_size=40),
        st.sampled_from([b"", bytes(4), bytes(8), block(*HEAD), block(*TRAILERS), word(2**31 - 1)]),
    ),
)
valid = st.sampled_from([head(), head(3), trailers(), trailers(3), answer(), answer(3), settings()])


@given(st.lists(st.one_of(frames, valid, st.binary(max_size=30)), max_size=30))
def test_whatever_a_server_sends_it_is_an_event(pieces: list[bytes]) -> None:
    connection = opened(calls=3)
    ended: list[int] = []
    for piece in pieces:
        for event in connection.receive(piece):
            assert not isinstance(event, Opened)
            if isinstance(event, Response | Reset | Oversized):
                ended.append(event.stream_id)
        connection.data_to_send()
    assert len(set(ended)) == len(ended), "each call ends once"


@given(st.lists(st.one_of(frames, valid), max_size=20), st.integers(1, 50))
def test_random_frames_split_anywhere_give_the_same_events(pieces: list[bytes], size: int) -> None:
    data = b"".join(pieces)
    expected = described(opened(calls=3).receive(data))
    connection = opened(calls=3)
    events: list[Event] = []
    for at in range(0, len(data), size):
        events += connection.receive(data[at : at + size])
    assert described(events) == expected
