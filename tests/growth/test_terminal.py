"""The clients of the shell tools: what they receive, count and print."""

import io
from array import array

import pytest

from catenary.terminal.argument_values import fields
from catenary.terminal.cable_socket import HandshakeRequest, address
from catenary.terminal.console import Console, printable
from catenary.terminal.counting import CountingClient, Tally, mark
from catenary.terminal.subscription_client import SubscriptionClient, SubscriptionPlan
from tests.growth.measure import Case, Work, assert_near_linear, for_each
from tests.growth.test_wire import in_pieces
from tests.terminal.test_counting import OPENING, RecordingTransport, spoken, switched


class Terminal(io.StringIO):
    """An output stream that claims to be a terminal."""

    def isatty(self) -> bool:
        return True


def counting(size: int) -> CountingClient:
    """A client of a stream of ``size`` messages."""
    transport = RecordingTransport()
    client = CountingClient(Tally(), array("d", [0.0] * size), OPENING, "{}")
    client.connection_made(transport)
    client.data_received(switched(transport))
    return client


def messages(numbers: "range | list[int]") -> bytes:
    return b"".join(spoken(mark(number)) for number in numbers)


def many_messages_in_one_read(size: int) -> Work:
    client, data = counting(size), messages(range(size))
    return lambda: client.data_received(data)


def many_messages_byte_by_byte(size: int) -> Work:
    return for_each(in_pieces(messages(range(size))), counting(size).data_received)


def many_messages_in_reverse_order(size: int) -> Work:
    """All but one are missing at first."""
    client, data = counting(size), messages(range(size)[::-1])
    return lambda: client.data_received(data)


def a_large_message_in_pieces(size: int) -> Work:
    payload = b"x" * (100 * size)
    data = b"\x81\x7f" + len(payload).to_bytes(8, "big") + payload
    return for_each(
        [data[at : at + 100] for at in range(0, len(data), 100)], counting(1).data_received
    )


def a_message_in_many_fragments(size: int) -> Work:
    first, middle, last = b"\x01\x01x", b"\x00\x01x", b"\x80\x01x"
    client, data = counting(1), first + middle * size + last
    return lambda: client.data_received(data)


def subscribed(*, is_terminal: bool) -> SubscriptionClient:
    opening = HandshakeRequest(address=address("ws://cable.example/cable"), subprotocols=("a",))
    out = Console(Terminal() if is_terminal else io.StringIO(), {})
    plan = SubscriptionPlan(identifier="{}", count=10**9, presence=True)
    return SubscriptionClient(opening, plan, out, Console(io.StringIO(), {}))


def many_messages_that_are_printed(size: int) -> Work:
    client = subscribed(is_terminal=False)
    payloads = [
        b'{"identifier":"{}","message":{"n":%d},"stream_id":"s","epoch":"e","offset":%d}' % (n, n)
        for n in range(size)
    ]
    return for_each(payloads, client.message_received)


def a_large_message_on_a_terminal(size: int) -> Work:
    client = subscribed(is_terminal=True)
    payload = b'{"identifier":"{}","message":[%s]}' % b",".join(
        [b'{"key":"\\"text",\n"n":-1.5}'] * size
    )
    return lambda: client.message_received(payload)


def a_large_presence_list_on_a_terminal(size: int) -> Work:
    client = subscribed(is_terminal=True)
    records = b",".join(b'{"id":"%d","info":{"name":"x"}}' % n for n in range(size))
    payload = b'{"type":"presence","message":{"type":"info","records":[%s]}}' % records
    return lambda: client.message_received(payload)


def text_without_an_end_in_colours(size: int) -> Work:
    console = Console(Terminal(), {})
    text = '"' + '\\"' * size
    return lambda: console.json(text)


def foreign_text_on_a_terminal(size: int) -> Work:
    text = "\x1b[2J" * size
    return lambda: printable(text)


def many_arguments(size: int) -> Work:
    words = [f"name{number}=[{number}]" for number in range(size)]
    return lambda: fields(words)


@pytest.mark.parametrize(
    "case",
    [
        many_messages_in_one_read,
        many_messages_byte_by_byte,
        many_messages_in_reverse_order,
        a_large_message_in_pieces,
        a_message_in_many_fragments,
        many_messages_that_are_printed,
        a_large_message_on_a_terminal,
        a_large_presence_list_on_a_terminal,
        text_without_an_end_in_colours,
        foreign_text_on_a_terminal,
        many_arguments,
    ],
)
def test_work_of_the_shell_tools_is_near_linear(case: Case) -> None:
    assert_near_linear(case)
