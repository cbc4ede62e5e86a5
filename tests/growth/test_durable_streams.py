"""Durable Streams: what grows with the number of readers that wait, and with what is read and written."""

import json

import pytest

from catenary.protocols.durable_stream_writes import (
    Record,
    WriteRequest,
    decide_append,
    messages_of,
)
from catenary.protocols.durable_streams import Chunk, Content
from tests.growth.measure import Case, Work, assert_near_linear
from tests.transports.test_stream_tails import House, Waiting, at


def readers_at_one_position(size: int) -> Work:
    house = House()
    readers = [Waiting(house.tail, at(0)) for _ in range(size)]

    def work() -> None:
        house.publish(1)
        while any(not each.chunks for each in readers[-1:]):
            house.settle()

    return work


def readers_at_positions_of_their_own(size: int) -> Work:
    house = House()
    readers = [Waiting(house.tail, at(number)) for number in range(size)]

    def work() -> None:
        house.publish(size)
        while any(not each.chunks for each in readers[-1:]):
            house.settle()

    return work


def readers_come_and_go(size: int) -> Work:
    house = House()

    def work() -> None:
        for each in [Waiting(house.tail, at(0)) for _ in range(size)]:
            house.tail.stop_waiting(each)

    return work


def messages_of_one_chunk(size: int) -> Work:
    messages = [b'{"text":"Hi"}'] * size
    return lambda: Chunk(Content.JSON, messages, None, is_up_to_date=True).events(bytes, "1")


def lines_of_one_event(size: int) -> Work:
    text = json.dumps("a line\n" * size).encode()
    return lambda: Chunk(Content.TEXT, [text], None, is_up_to_date=True).events(bytes, "1")


def messages_of_one_request(size: int) -> Work:
    body = json.dumps([{"text": "Hi"}] * (size // 2)).encode()
    record, request = Record("application/json"), WriteRequest(content_type="application/json")
    return lambda: decide_append(record, request, body)


def bytes_of_one_request(size: int) -> Work:
    body = b"\xff" * size * 100
    return lambda: messages_of(Content.BINARY, body)


@pytest.mark.parametrize(
    "case",
    [
        readers_at_one_position,
        readers_at_positions_of_their_own,
        readers_come_and_go,
        messages_of_one_chunk,
        lines_of_one_event,
        messages_of_one_request,
        bytes_of_one_request,
    ],
)
def test_work_grows_with_its_input_only(case: Case) -> None:
    assert_near_linear(case)
