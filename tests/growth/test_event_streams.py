"""Event streams: what grows with their number, and with what their requests and publications contain."""

import json
from collections.abc import Callable

import pytest

from catenary.adapters.memory.history import LocalHistory
from catenary.messages.names import Identifier, Stream
from catenary.messages.publications import Position, Publication
from catenary.messages.replies import Delivery
from catenary.node.turns import CLIENTS_BUDGET_US
from catenary.protocols.event_stream import MESSAGES, commands_of, read_subscription
from catenary.transports.event_stream import StreamServices
from tests.growth.measure import (
    Case,
    Work,
    assert_near_linear,
    assert_turns_bounded,
    count,
    for_each,
)
from tests.growth.test_node import idle
from tests.growth.test_turns import until_idle
from tests.growth.test_wire import in_pieces
from tests.parts.event_stream import OpenEventStream, get, post, stream_services
from tests.parts.heart import Heart, room
from tests.parts.memory_socket import OpenWebSocket

ROOM = room("r")
BY_GET = f"identifier={ROOM}"


def opened(services: StreamServices) -> OpenEventStream:
    client = OpenEventStream(services, get(BY_GET))
    assert ROOM in client.session.subscriptions
    return client


def posted(services: StreamServices, body: bytes) -> OpenEventStream:
    return OpenEventStream(services, post(len(body)), body)


def subscribe(size: int) -> bytes:
    lines = (
        json.dumps({"command": "subscribe", "identifier": room(str(number))})
        for number in range(size)
    )
    return "\n".join(lines).encode()


# Requests


def clients_come_and_go(size: int) -> Work:
    services = stream_services(Heart())

    def work() -> None:
        for each in [opened(services) for _ in range(size)]:
            each.leave()

    return work


def a_body_byte_by_byte(size: int) -> Work:
    body = b" " * size
    client = OpenEventStream(stream_services(Heart()), post(size))
    return for_each(in_pieces(body), client.stream.receive)


def commands_in_a_body(size: int) -> Work:
    services, body = stream_services(Heart()), subscribe(size)
    return until_idle(lambda: posted(services, body))


def blank_lines_in_a_body(size: int) -> Work:
    services, body = stream_services(Heart()), b"\n" * size
    return until_idle(lambda: posted(services, body))


def a_line_without_an_end(size: int) -> Work:
    return lambda: list(commands_of(b" " * size * 100))


def a_long_last_event_id(size: int) -> Work:
    last = f"1/{'%C3%A9/' * size * 10}/e"
    return lambda: read_subscription("channel=C", last)


def fields_of_a_query(size: int) -> Work:
    """Up to the limit, and one long one."""
    query = f"channel=C&x={'%41' * size * 10}"
    return lambda: read_subscription(query, "")


# Deliveries


def messages_to_event_streams(size: int) -> Work:
    heart = Heart()
    services = stream_services(heart)
    for _ in range(10):
        opened(services)

    async def work() -> None:
        for number in range(size):
            heart.publish("r", number)
        await idle()

    return work


def a_message_to_event_streams(size: int) -> Work:
    heart = Heart()
    services = stream_services(heart)
    for _ in range(size):
        opened(services)
    return until_idle(lambda: heart.publish("r", 1))


def a_history_for_an_event_stream(size: int) -> Work:
    history = LocalHistory(limit=size, ttl_s=60, epoch="e", clock=lambda: 1)
    for number in range(size):
        history.append(Publication(Stream("r"), str(number)))
    services = stream_services(Heart(history=history))
    return until_idle(lambda: OpenEventStream(services, get(f"{BY_GET}&history_since=1")))


def lines_of_a_text(size: int) -> Work:
    text = json.dumps("line\r\n" * size * 10).encode()
    return lambda: MESSAGES.codec().encode_delivery(Delivery(Identifier("i"), text))


def a_long_name_in_an_id(size: int) -> Work:
    delivery = Delivery(Identifier("i"), b"1", "", Stream("é" * size * 10), Position("e", 1))
    return lambda: MESSAGES.codec().encode_delivery(delivery)


@pytest.mark.parametrize(
    "case",
    [
        clients_come_and_go,
        a_body_byte_by_byte,
        commands_in_a_body,
        blank_lines_in_a_body,
        a_line_without_an_end,
        a_long_last_event_id,
        fields_of_a_query,
        messages_to_event_streams,
        a_message_to_event_streams,
        a_history_for_an_event_stream,
        lines_of_a_text,
        a_long_name_in_an_id,
    ],
)
def test_work_for_event_streams_is_near_linear(case: Case) -> None:
    assert_near_linear(case)


# Turns of the event loop


def commands_of_a_request(size: int) -> Work:
    services = stream_services(Heart(), budget=CLIENTS_BUDGET_US // 10)
    body = subscribe(size)
    return until_idle(lambda: posted(services, body))


def lines_of_a_request(size: int) -> Work:
    services = stream_services(Heart(), budget=CLIENTS_BUDGET_US // 10)
    return until_idle(lambda: posted(services, b"\n" * size))


def a_history_of_a_request(size: int) -> Work:
    history = LocalHistory(limit=size, ttl_s=60, epoch="e", clock=lambda: 1)
    for number in range(size):
        history.append(Publication(Stream("r"), str(number)))
    services = stream_services(Heart(history=history), budget=CLIENTS_BUDGET_US // 10)
    return until_idle(lambda: OpenEventStream(services, get(f"{BY_GET}&history_since=1")))


@pytest.mark.parametrize(
    "case", [commands_of_a_request, lines_of_a_request, a_history_of_a_request]
)
def test_no_turn_grows_with_a_request(case: Case) -> None:
    assert_turns_bounded(case)


# Beside a WebSocket


def a_message_to_websockets(size: int) -> Work:
    heart = Heart()
    for number in range(size):
        client = OpenWebSocket(heart, sid=str(number))
        heart.node.receive(
            client.session, json.dumps({"command": "subscribe", "identifier": ROOM}).encode()
        )
    return until_idle(lambda: heart.publish("r", 1))


def steps_of_each(case: Callable[[int], Work]) -> float:
    """What one more client adds, without what is done once."""
    return (count(case, 900).steps - count(case, 100).steps) / 800


def test_a_delivery_takes_the_steps_of_one_to_a_websocket() -> None:
    steps = steps_of_each(a_message_to_event_streams)
    assert steps == pytest.approx(steps_of_each(a_message_to_websockets), rel=0.01)
