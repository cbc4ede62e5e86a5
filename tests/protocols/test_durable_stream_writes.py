"""Requests that write durable streams: what they do to a record, and which messages they append."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from catenary.errors import BackendError, RequestRefused
from catenary.messages.publications import BATCH_LIMIT, Position
from catenary.protocols.durable_stream_writes import (
    MAX_PRODUCERS,
    Answer,
    Change,
    Producer,
    ProducerId,
    Record,
    WriteRequest,
    decide_append,
    decide_create,
    messages_of,
    metadata,
    packed,
    record_of,
    write_request,
)
from catenary.protocols.durable_streams import Content, message_of

TEXT = Record("text/plain")
JSON = Record("application/json")
POST = WriteRequest(content_type="text/plain")


def status(decided: Answer | Change) -> int:
    return decided.answer.status if isinstance(decided, Change) else decided.status


def by(name: str, epoch: int, seq: int, **fields: object) -> WriteRequest:
    return WriteRequest(
        content_type="text/plain",
        producer=ProducerId(name, epoch, seq),
        **fields,  # type: ignore[arg-type]
    )


def changed(decided: Answer | Change) -> Record:
    assert isinstance(decided, Change)
    assert decided.record is not None
    return decided.record


# Headers


@pytest.mark.parametrize(
    "headers",
    [
        {"stream-ttl": "01"},
        {"stream-ttl": "+1"},
        {"stream-ttl": "1.0"},
        {"stream-ttl": "-1"},
        {"stream-ttl": str(2**60)},
        {"stream-ttl": "1", "stream-expires-at": "2030-01-01T00:00:00Z"},
        {"stream-expires-at": "tomorrow"},
        {"stream-expires-at": "2030-01-01T00:00:00"},
        {"stream-expires-at": "2030-01-01"},
        {"content-type": "text"},
        {"content-type": "text/" + "x" * 300},
        {"stream-seq": "x" * 300},
        {"stream-fork-sub-offset": "0"},
    ],
)
def test_headers_that_mean_nothing_are_refused(headers: dict[str, str]) -> None:
    with pytest.raises(RequestRefused) as refused:
        write_request(headers, creates=True)
    assert refused.value.status == 400


@pytest.mark.parametrize(
    "headers",
    [
        {"producer-id": "a"},
        {"producer-epoch": "0", "producer-seq": "0"},
        {"producer-id": "", "producer-epoch": "0", "producer-seq": "0"},
        {"producer-id": "a", "producer-epoch": "0", "producer-seq": "x"},
        {"producer-id": "a", "producer-epoch": "0", "producer-seq": str(2**53)},
        {"producer-id": "a" * 300, "producer-epoch": "0", "producer-seq": "0"},
    ],
)
def test_a_producer_is_named_completely(headers: dict[str, str]) -> None:
    with pytest.raises(RequestRefused) as refused:
        write_request(headers, creates=False)
    assert refused.value.status == 400


def test_forks_are_not_served() -> None:
    with pytest.raises(RequestRefused) as refused:
        write_request({"stream-forked-from": "/ds/a"}, creates=True)
    assert refused.value.status == 501


def test_headers_are_read() -> None:
    headers = {"content-type": "text/plain", "stream-closed": "TRUE", "stream-seq": "7"}
    assert write_request(headers, creates=False) == WriteRequest(
        content_type="text/plain", closes=True, seq="7"
    )
    assert not write_request({"stream-closed": "yes"}, creates=False).closes
    timed = write_request({"stream-expires-at": "2030-01-01T00:00:00+01:00"}, creates=True)
    assert timed.expires_at == "2030-01-01T00:00:00+01:00"


# Bodies


@pytest.mark.parametrize(
    ("body", "messages"),
    [
        (b'{"a": 1}', ('{"a": 1}',)),
        (b' [1, [2, 3],\n"x", null] ', ("1", "[2, 3]", '"x"', "null")),
        (b"[[[1]]]", ("[[1]]",)),
        (b"[]", ()),
        (b'"\\ud83c"', ('"\\ufffd"',)),
    ],
)
def test_json_is_one_message_for_each_element(body: bytes, messages: tuple[str, ...]) -> None:
    assert messages_of(Content.JSON, body) == messages


@pytest.mark.parametrize("body", [b"{", b"[1,", b"[1] 2", b"\xff", b'["\xff"]', b"nul"])
def test_what_is_no_json_is_refused(body: bytes) -> None:
    with pytest.raises(RequestRefused) as refused:
        messages_of(Content.JSON, body)
    assert refused.value.status == 400


def test_a_request_has_a_limited_number_of_messages() -> None:
    with pytest.raises(RequestRefused) as refused:
        messages_of(Content.JSON, b"[" + b"1," * BATCH_LIMIT + b"1]")
    assert refused.value.status == 413


@given(st.binary(min_size=1), st.sampled_from([Content.TEXT, Content.BINARY]))
def test_bytes_come_back_as_they_were_written(body: bytes, content: Content) -> None:
    (message,) = messages_of(content, body)
    json.loads(message)
    assert message_of(content, message.encode()) == body


def test_subscribers_see_text_as_a_string_and_bytes_in_base64() -> None:
    assert messages_of(Content.TEXT, "é".encode()) == ('"é"',)
    assert messages_of(Content.TEXT, b"\xff") == ('{"base64":"/w=="}',)
    assert messages_of(Content.BINARY, b"ab") == ('{"base64":"YWI="}',)


# Creating


def test_a_stream_is_created_once() -> None:
    start = Position("e", 7)
    put = WriteRequest(content_type="Text/Plain", ttl_s=60)
    created = decide_create(None, put, b"one", start)
    record = changed(created)
    assert isinstance(created, Change)
    assert (created.messages, record.start, record.ttl_s) == (('"one"',), start, 60)
    assert status(created) == 201
    assert (
        status(decide_create(record, WriteRequest(content_type="text/plain", ttl_s=60), b"", None))
        == 200
    )
    for other in (
        WriteRequest(content_type="text/plain", ttl_s=61),
        WriteRequest(content_type="text/html", ttl_s=60),
        WriteRequest(content_type="text/plain", ttl_s=60, closes=True),
    ):
        assert status(decide_create(record, other, b"", None)) == 409
    assert changed(decide_create(None, WriteRequest(), b"", None)).content is Content.BINARY
    empty = decide_create(None, WriteRequest(content_type="application/json"), b"[]", None)
    assert isinstance(empty, Change)
    assert empty.messages == ()


@given(
    st.builds(
        Record,
        st.text(),
        ttl_s=st.none() | st.integers(0, 2**53),
        start=st.none() | st.builds(Position, st.text(), st.integers(0, 2**53)),
        is_closed=st.booleans(),
        closed_by=st.none()
        | st.builds(ProducerId, st.text(), st.integers(0, 9), st.integers(0, 9)),
        seq=st.none() | st.text(),
        producers=st.dictionaries(st.text(), st.builds(Producer, st.integers(0), st.integers(0))),
    ).filter(lambda each: all(p.epoch < 2**63 and p.seq < 2**63 for p in each.producers.values()))
)
def test_a_record_is_read_as_it_was_written(record: Record) -> None:
    assert record_of(packed(record)) == record


def test_what_is_no_record_is_a_fault_of_the_store() -> None:
    assert record_of(None) is record_of(b"") is None
    with pytest.raises(BackendError):
        record_of(b"no record")


def test_a_record_says_how_long_it_lasts() -> None:
    assert TEXT.remaining_s(0) is None
    assert Record("a/b", ttl_s=7).remaining_s(1e9) == 7
    timed = Record("a/b", expires_at="1970-01-01T00:01:00Z")
    assert (timed.remaining_s(50), timed.remaining_s(70)) == (10, 0)
    assert dict(metadata(timed)) == {
        "Content-Type": "a/b",
        "Stream-Expires-At": "1970-01-01T00:01:00Z",
    }


# Appending


@pytest.mark.parametrize(
    ("record", "request_", "body", "expected"),
    [
        (None, POST, b"x", 404),
        (TEXT, POST, b"x", 204),
        (TEXT, WriteRequest(content_type="TEXT/plain; charset=utf-8"), b"x", 204),
        (TEXT, WriteRequest(content_type="text/html"), b"x", 409),
        (TEXT, WriteRequest(content_type="text/html", closes=True), b"", 204),
        (TEXT, WriteRequest(content_type="text/plain", seq="10"), b"x", 204),
        (
            Record("text/plain", seq="2"),
            WriteRequest(content_type="text/plain", seq="10"),
            b"x",
            409,
        ),
        (
            Record("text/plain", seq="2"),
            WriteRequest(content_type="text/plain", seq="2"),
            b"x",
            409,
        ),
        (Record("text/plain", is_closed=True), POST, b"x", 409),
        (Record("text/plain", is_closed=True), WriteRequest(closes=True), b"", 204),
        (
            Record("text/plain", is_closed=True),
            WriteRequest(content_type="text/plain", closes=True),
            b"x",
            409,
        ),
    ],
)
def test_an_append_is_decided(
    record: Record | None, request_: WriteRequest, body: bytes, expected: int
) -> None:
    assert status(decide_append(record, request_, body)) == expected


@pytest.mark.parametrize(
    ("record", "request_", "body"),
    [
        (TEXT, POST, b""),
        (TEXT, WriteRequest(), b"x"),
        (JSON, WriteRequest(content_type="application/json"), b"[]"),
    ],
)
def test_an_append_without_a_message_is_refused(
    record: Record, request_: WriteRequest, body: bytes
) -> None:
    with pytest.raises(RequestRefused) as refused:
        decide_append(record, request_, body)
    assert refused.value.status == 400


def test_a_producer_appends_each_request_once_and_in_order() -> None:
    record = changed(decide_append(TEXT, by("a", 0, 0), b"x"))
    record = changed(decide_append(record, by("a", 0, 1), b"x"))
    repeated = decide_append(record, by("a", 0, 0), b"x")
    assert isinstance(repeated, Answer)
    assert (repeated.status, dict(repeated.headers)["Producer-Seq"]) == (204, "1")
    gap = decide_append(record, by("a", 0, 3), b"x")
    assert isinstance(gap, Answer)
    assert gap.status == 409
    assert dict(gap.headers) == {"Producer-Expected-Seq": "2", "Producer-Received-Seq": "3"}
    assert status(decide_append(record, by("b", 5, 0), b"x")) == 200
    record = changed(decide_append(record, by("a", 1, 0), b"x"))
    stale = decide_append(record, by("a", 0, 2), b"x")
    assert isinstance(stale, Answer)
    assert (stale.status, dict(stale.headers)["Producer-Epoch"]) == (403, "1")
    with pytest.raises(RequestRefused):
        decide_append(record, by("a", 2, 1), b"x")


def test_the_append_that_closed_a_stream_may_be_repeated() -> None:
    closed = decide_append(TEXT, by("a", 0, 0, closes=True), b"x")
    assert isinstance(closed, Change)
    assert closed.ends_reads
    record = changed(closed)
    assert status(decide_append(record, by("a", 0, 0, closes=True), b"x")) == 204
    assert status(decide_append(record, by("a", 0, 1, closes=True), b"x")) == 409
    assert status(decide_append(record, by("b", 0, 0, closes=True), b"x")) == 409


def test_producers_are_remembered_up_to_a_limit() -> None:
    record = TEXT
    for number in range(MAX_PRODUCERS):
        record = changed(decide_append(record, by(f"p{number}", 0, 0), b"x"))
    record = changed(decide_append(record, by("p0", 0, 1), b"x"))
    record = changed(decide_append(record, by("last", 0, 0), b"x"))
    assert len(record.producers) == MAX_PRODUCERS
    assert "p0" in record.producers
    assert "p1" not in record.producers
