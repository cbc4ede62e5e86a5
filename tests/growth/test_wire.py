"""Bytes, however they are split: frames, heads, HTTP/2, what nodes and code workers say."""

import struct

import pytest

from catenary.adapters.nats import wire
from catenary.codeworkers import messages as code_workers
from catenary.messages.environment import Environment
from catenary.messages.names import Identifier, Sid
from catenary.wire import deflate, http2
from catenary.wire.frames import FrameReader, unmask
from catenary.wire.handshake import offered_extensions
from catenary.wire.hpack import BlockReader, BlockWriter, literal
from catenary.wire.http1 import read_request
from catenary.wire.http2_frames import DATA, END_HEADERS, END_STREAM, HEADERS, SETTINGS, frame
from tests.growth.measure import Case, Work, assert_near_linear, for_each
from tests.parts.raw_socket import masked


def in_pieces(data: bytes, size: int = 1) -> list[bytes]:
    return [data[at : at + size] for at in range(0, len(data), size)]


# WebSocket frames


def a_message_byte_by_byte(size: int) -> Work:
    reader, pieces = FrameReader(10_000_000), in_pieces(masked(b"x" * size))
    return for_each(pieces, reader.receive)


def many_messages_in_one_read(size: int) -> Work:
    reader, data = FrameReader(1000), masked(b"{}") * size
    return lambda: reader.receive(data)


def many_messages_byte_by_byte(size: int) -> Work:
    reader, pieces = FrameReader(1000), in_pieces(masked(b"{}") * size)
    return for_each(pieces, reader.receive)


def a_message_in_fragments(size: int) -> Work:
    reader = FrameReader(10_000_000)
    first, more, last = (masked("é".encode(), each) for each in (0x01, 0x00, 0x80))
    return lambda: reader.receive(first + more * size + last)


def a_large_message(size: int) -> Work:
    reader, data = FrameReader(100_000_000), masked(b"x" * size * 100)
    return lambda: reader.receive(data)


def unmasking(size: int) -> Work:
    """At most 2 MB: more than a processor's caches hold takes longer per byte."""
    data = b"x" * size * 100
    return lambda: unmask(data, b"abcd")


def a_compressed_message(size: int) -> Work:
    text = b"".join(b"%d," % number for number in range(size))
    return lambda: deflate.inflated(deflate.deflated(text, 12), len(text))


# Heads


def a_long_header(size: int) -> Work:
    head = b"GET /cable HTTP/1.1\r\nHost: x\r\nX-Long: " + b"x" * size * 100
    return lambda: read_request(head)


def a_header_that_is_repeated(size: int) -> Work:
    lines = b"".join(b"\r\nX-Header: %030d" % number for number in range(size))
    return lambda: read_request(b"GET /cable HTTP/1.1\r\nHost: x" + lines, max_headers=size + 1)


def an_offer_with_much_space(size: int) -> Work:
    head = b"GET / HTTP/1.1\r\nSec-WebSocket-Extensions: " + b"a;\t=" + b" " * size * 10
    request = read_request(head + b"b")

    def work() -> None:
        with pytest.raises(Exception, match="expected"):
            offered_extensions(request)

    return work


# HTTP/2


def opened() -> http2.Http2Connection:
    connection = http2.Http2Connection(((b":scheme", b"http"),), 100_000_000)
    connection.receive(frame(SETTINGS, 0, 0, b""))
    return connection


def response(stream_id: int, body: bytes) -> bytes:
    head = frame(HEADERS, END_HEADERS, stream_id, literal(b":status", b"200"))
    parts = [frame(DATA, 0, stream_id, each) for each in in_pieces(body, 16_384)]
    trailers = frame(HEADERS, END_HEADERS | END_STREAM, stream_id, literal(b"grpc-status", b"0"))
    return head + b"".join(parts) + trailers


def an_answer_byte_by_byte(size: int) -> Work:
    connection = opened()
    pieces = in_pieces(response(connection.request(b"/", b"", b"x"), b"x" * size))
    return for_each(pieces, connection.receive)


def many_answers(size: int) -> Work:
    connection = opened()
    answers = b"".join(response(connection.request(b"/", b"", b"x"), b"x") for _ in range(size))
    return lambda: connection.receive(answers)


def a_large_answer(size: int) -> Work:
    connection = opened()
    data = response(connection.request(b"/", b"", b"x"), b"x" * size * 100)
    return for_each(in_pieces(data, 1000), connection.receive)


def a_large_request(size: int) -> Work:
    connection = opened()
    more = struct.pack(">L", 1_000_000_000)
    connection.receive(frame(0x8, 0, 0, more))
    number = connection.request(b"/", b"", b"x" * size * 1000)
    return lambda: connection.receive(frame(0x8, 0, number, more))


def requests_wait_for_the_window(size: int) -> Work:
    connection = opened()

    def work() -> None:
        for _ in range(size):
            connection.request(b"/", b"", b"x" * 1000)
            connection.receive(frame(0x8, 0, 0, struct.pack(">L", 1000)))
            connection.data_to_send()

    return work


def requests_that_wait_for_the_window_of_the_connection(size: int) -> Work:
    connection = opened()
    connection.request(b"/", b"", b"x" * 65_535)
    for _ in range(size):
        connection.request(b"/", b"", b"x")
    one = frame(0x8, 0, 0, struct.pack(">L", 1))
    return for_each([one] * size, connection.receive)


def requests_that_wait_for_windows_of_their_own(size: int) -> Work:
    connection = opened()
    connection.receive(frame(SETTINGS, 0, 0, struct.pack(">HL", 0x4, 1)))
    numbers = [connection.request(b"/", b"", b"xx") for _ in range(size)]
    one = struct.pack(">L", 1)
    return for_each([frame(0x8, 0, each, one) for each in numbers], connection.receive)


def requests_that_are_given_up_while_they_wait(size: int) -> Work:
    connection = opened()
    connection.request(b"/", b"", b"x" * 65_535)
    numbers = [connection.request(b"/", b"", b"x") for _ in range(size)]

    def work() -> None:
        for each in numbers:
            connection.cancel(each)
        connection.receive(frame(0x8, 0, 0, struct.pack(">L", 1)))

    return work


def a_block_with_many_fields(size: int) -> Work:
    block = b"".join(literal(b"x-%d" % number, b"x") for number in range(size))
    return lambda: BlockReader(100_000_000).read(block)


def fields_of_many_requests(size: int) -> Work:
    writer = BlockWriter()
    return lambda: [writer.write(((b"x", b"%d" % number),)) for number in range(size)]


# NATS


def reader_of_nats() -> wire.NatsReader:
    return wire.NatsReader(lambda *_: None, lambda *_: None)


def read_nats(pieces: list[bytes]) -> Work:
    reader = reader_of_nats()

    def read(piece: bytes) -> None:
        reader.feed(piece)
        while reader.read():
            pass

    return for_each(pieces, read)


def a_line_of_nats_byte_by_byte(size: int) -> Work:
    return read_nats(in_pieces(b"INFO {" + b" " * size + b"}\r\n"))


def a_message_of_nats_byte_by_byte(size: int) -> Work:
    return read_nats(in_pieces(b"MSG s 1 %d\r\n%b\r\n" % (size, b"x" * size)))


def many_messages_of_nats(size: int) -> Work:
    return read_nats([b"MSG s 1 2\r\n{}\r\n" * size])


def many_messages_of_nats_byte_by_byte(size: int) -> Work:
    return read_nats(in_pieces(b"MSG s 1 2\r\n{}\r\n" * size))


# Code workers


def a_message_of_a_code_worker_in_pieces(size: int) -> Work:
    out = bytearray()
    code_workers.write(code_workers.PublishRequest(1, b"x" * size * 100), out)
    frames, pieces = code_workers.MessageSplitter(), in_pieces(bytes(out), 100)
    return lambda: [list(frames.feed(each)) for each in pieces]


def many_messages_of_a_code_worker(size: int) -> Work:
    out = bytearray()
    for number in range(size):
        code_workers.write(code_workers.CancelCall(number), out)
    frames, data = code_workers.MessageSplitter(), bytes(out)
    return lambda: [code_workers.read_to_worker(each) for each in frames.feed(data)]


def calls_of_a_code_worker(size: int) -> Work:
    environment = Environment(Sid("s"), "", {})
    out = bytearray()

    def work() -> None:
        for number in range(size):
            request = code_workers.call_request(
                number,
                code_workers.PERFORM,
                environment,
                Identifier("i"),
                data="",
                subscriptions=(),
            )
            code_workers.write(request, out)

    return work


@pytest.mark.parametrize(
    "case",
    [
        a_message_byte_by_byte,
        many_messages_in_one_read,
        many_messages_byte_by_byte,
        a_message_in_fragments,
        a_large_message,
        unmasking,
        a_compressed_message,
        a_long_header,
        a_header_that_is_repeated,
        an_offer_with_much_space,
        an_answer_byte_by_byte,
        many_answers,
        a_large_answer,
        a_large_request,
        requests_wait_for_the_window,
        requests_that_wait_for_the_window_of_the_connection,
        requests_that_wait_for_windows_of_their_own,
        requests_that_are_given_up_while_they_wait,
        a_block_with_many_fields,
        fields_of_many_requests,
        a_line_of_nats_byte_by_byte,
        a_message_of_nats_byte_by_byte,
        many_messages_of_nats,
        many_messages_of_nats_byte_by_byte,
        a_message_of_a_code_worker_in_pieces,
        many_messages_of_a_code_worker,
        calls_of_a_code_worker,
    ],
)
def test_work_on_the_wire_is_near_linear(case: Case) -> None:
    assert_near_linear(case)
