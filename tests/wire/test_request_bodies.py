import contextlib
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from catenary.errors import RequestRefused
from catenary.wire.http1 import RequestHead
from catenary.wire.request_bodies import (
    CHUNK_BYTES,
    MAX_LINE_BYTES,
    MAX_SMALL_CHUNKS,
    BodyReader,
    ChunkedBody,
    SizedBody,
    body_of,
)


def request(**headers: str) -> RequestHead:
    return RequestHead("POST", "/", {key.replace("_", "-"): each for key, each in headers.items()})


def read(reader: BodyReader, pieces: list[bytes]) -> tuple[bytes, bytes]:
    body, rest = b"", b""
    for piece in pieces:
        if reader.is_complete:
            rest += piece
        else:
            part, after = reader.receive(piece)
            body += part
            rest += after
    return body, rest


def cut(data: bytes, seed: int) -> list[bytes]:
    """The data in pieces of random sizes."""
    source = random.Random(seed)
    pieces = []
    while data:
        size = source.choice((1, 2, 7, 1000))
        pieces.append(data[:size])
        data = data[size:]
    return pieces


@given(st.lists(st.binary(min_size=1, max_size=300), max_size=5), st.integers(), st.binary())
def test_chunks_give_the_body_however_they_are_cut(
    chunks: list[bytes], seed: int, following: bytes
) -> None:
    written = b"".join(b"%x;name=value\r\n%b\r\n" % (len(each), each) for each in chunks)
    reader = ChunkedBody()
    data = written + b"0\r\nTrailer: ignored\r\n\r\n" + following
    assert read(reader, cut(data, seed)) == (b"".join(chunks), following)
    assert reader.is_complete


def test_a_body_with_a_size_ends_there() -> None:
    reader = SizedBody(4)
    assert read(reader, [b"ab", b"cdGET"]) == (b"abcd", b"GET")
    assert reader.is_complete


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        (b"x\r\n", "the size of a chunk"),
        (b"-1\r\n", "the size of a chunk"),
        (b"\r\n", "the size of a chunk"),
        (b"4\n", "the size of a chunk"),
        (b"1" + b"0" * 15 + b"\r\n", "the size of a chunk"),
        (b"1\r\nabc\r\n", "the end of a chunk"),
        (b"1\r\na0\r\n\r\n", "the end of a chunk"),
        (b"1;" + b"x" * MAX_LINE_BYTES, "shorter lines"),
        (b"0\r\n" + b"A: b\r\n" * MAX_LINE_BYTES, "fewer trailer fields"),
    ],
)
def test_malformed_chunks_are_refused(written: bytes, expected: str) -> None:
    with pytest.raises(RequestRefused, match=f"expected {expected} in a chunked body") as error:
        read(ChunkedBody(), [written])
    assert error.value.status == 400


@pytest.mark.parametrize("pieces", [[b"1\r\na\r\n"], [b"1\r", b"\na\r", b"\n"]])
def test_a_body_has_a_limited_number_of_small_chunks(pieces: list[bytes]) -> None:
    reader = ChunkedBody()
    for _ in range(MAX_SMALL_CHUNKS):
        assert read(reader, pieces) == (b"a", b"")
    with pytest.raises(RequestRefused, match="up to 512 chunks, and one for each 128") as error:
        read(reader, pieces * (2 * MAX_SMALL_CHUNKS // CHUNK_BYTES))
    assert error.value.status == 413


def test_a_body_has_any_number_of_larger_chunks() -> None:
    chunk = b"%x\r\n%b\r\n" % (CHUNK_BYTES, b"a" * CHUNK_BYTES)
    reader = ChunkedBody()
    for _ in range(100):
        assert len(reader.receive(chunk * 1000)[0]) == 1000 * CHUNK_BYTES


@given(st.binary(), st.integers())
def test_no_bytes_raise_anything_else(data: bytes, seed: int) -> None:
    with contextlib.suppress(RequestRefused):
        read(ChunkedBody(), cut(data, seed))


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"content_length": "x"}, 400),
        ({"content_length": "-1"}, 400),
        ({"content_length": "11"}, 413),
        ({"content_length": "1" * 30}, 413),
        ({"transfer_encoding": "gzip, chunked"}, 501),
        ({"transfer_encoding": "chunked", "content_length": "1"}, 400),
    ],
)
def test_bodies_that_are_refused(headers: dict[str, str], status: int) -> None:
    with pytest.raises(RequestRefused) as error:
        body_of(request(**headers), 10)
    assert error.value.status == status


def test_http_1_0_has_no_chunks() -> None:
    head = RequestHead("POST", "/", {"transfer-encoding": "chunked"}, is_http_1_0=True)
    with pytest.raises(RequestRefused):
        body_of(head, 10)


def test_a_request_without_a_body_is_complete() -> None:
    assert body_of(request(), 10).is_complete
