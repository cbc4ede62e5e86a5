"""Charging stations: many calls, many remote commands, and large messages."""

import json

import pytest

from catenary.messages.names import Identifier
from catenary.messages.replies import Delivery
from catenary.protocols.ocpp import OcppCodec
from catenary.protocols.ocpp_messages import V16
from tests.growth.measure import Case, Work, assert_near_linear, for_each
from tests.parts.stations import rules, station


def calls_of_a_station(size: int) -> Work:
    there = station()
    there.boot()
    calls = [f'[2,"{number}","StatusNotification",{{}}]' for number in range(size)]
    return for_each(calls, there.say_raw)


def commands_and_their_answers(size: int) -> Work:
    there = station()
    there.boot()

    def work() -> None:
        for number in range(size):
            there.publish(command="Reset", id=str(number), payload={})
            there.say(3, str(number), {})

    return work


def commands_that_are_never_answered(size: int) -> Work:
    there = station()
    there.boot()
    return for_each(range(size), lambda _: there.publish(command="Reset", payload={}))


def a_large_payload(size: int) -> Work:
    text = json.dumps([2, "1", "DataTransfer", {"data": ["x" * 10] * size}]).encode()
    codec = OcppCodec(V16, rules(), "cs-1")
    return lambda: codec.decode(text)


def a_long_array(size: int) -> Work:
    text = json.dumps([2, "1", *["x"] * size * 10]).encode()
    codec = OcppCodec(V16, rules(), "cs-1")
    return lambda: codec.decode(text)


def a_large_command(size: int) -> Work:
    message = {"command": "DataTransfer", "payload": {"data": ["x" * 10] * size}}
    delivery = Delivery(Identifier("i"), json.dumps(message).encode())
    codec = OcppCodec(V16, rules(), "cs-1")
    return lambda: codec.encode_delivery(delivery)


@pytest.mark.parametrize(
    "case",
    [
        calls_of_a_station,
        commands_and_their_answers,
        commands_that_are_never_answered,
        a_large_payload,
        a_long_array,
        a_large_command,
    ],
)
def test_work_for_stations_is_near_linear(case: Case) -> None:
    assert_near_linear(case)
