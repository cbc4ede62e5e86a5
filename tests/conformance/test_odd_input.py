"""Wrong input of a client: it costs that message, and nothing else.

Each test ends with proof that the connection is still usable, as far as it should be.
"""

import json

import pytest

from tests.conformance.conftest import Connect
from tests.parts.cable_client import CableClient, confirmed, delivered, identifier
from tests.parts.conformance_app import ChannelAnswer, ConformanceApp
from tests.parts.redis import RedisPublisher


def echo(answer: ChannelAnswer) -> None:
    answer.transmit(answer.call.payload)


@pytest.fixture
def channel(app: ConformanceApp) -> str:
    return identifier(app.define(echo=echo))


def assert_usable(client: CableClient, app: ConformanceApp) -> None:
    """It gets no answer to its earlier messages, and can subscribe."""
    client.expect_nothing()
    fresh = identifier(app.define())
    assert client.subscribe(fresh) == confirmed(fresh)


# Messages that are no commands


@pytest.mark.parametrize(
    "payload",
    ["null", "{}", '{"identifier":"x"}', '{"command":"unheard-of"}', '{"command":""}'],
)
def test_unknown_command_is_ignored(client: CableClient, app: ConformanceApp, payload: str) -> None:
    client.send_raw(payload)

    assert_usable(client, app)


@pytest.mark.parametrize("name", ["history", "presence", "join", "leave", "whisper"])
def test_commands_of_the_extended_protocol_need_a_subscription(
    client: CableClient, app: ConformanceApp, channel: str, name: str
) -> None:
    client.send(name, identifier=channel, data={"a": 1}, history={"since": 1})

    assert_usable(client, app)


@pytest.mark.reference_fault("it reads nothing more, and keeps the connection: a zombie")
@pytest.mark.parametrize(
    "payload",
    [
        "{broken",
        "",
        "[1]",
        '"text"',
        "12",
        '{"command":5}',
        '{"command":"subscribe","identifier":{"channel":"x"}}',
        b"\x00\xff",
        b"{broken",
    ],
    ids=repr,
)
def test_malformed_message_is_ignored(
    connect: Connect, app: ConformanceApp, payload: str | bytes
) -> None:
    client = connect(deadline_s=1)
    client.receive_welcome()

    client.send_raw(payload)

    assert_usable(client, app)


def test_malformed_message_costs_no_subscription(
    client: CableClient, app: ConformanceApp, publisher: RedisPublisher, stream: str
) -> None:
    channel = identifier(app.define(subscribed=lambda answer: answer.stream_from(stream)))
    client.subscribe(channel)
    client.send_raw("{broken")

    publisher.broadcast(stream, "still here")

    assert client.receive() == delivered(channel, "still here")


def test_session_with_a_malformed_message_is_reported(
    connect: Connect, app: ConformanceApp, sid: str
) -> None:
    client = connect(headers={"X-Request-ID": sid})
    client.receive_welcome()
    client.send_raw("{broken")
    client.close()

    assert len(app.calls.wait_for(sid, "disconnect")) == 1


def test_binary_frame_is_read_like_text(client: CableClient, channel: str) -> None:
    client.send_raw(json.dumps({"command": "subscribe", "identifier": channel}).encode())

    assert client.receive() == confirmed(channel)


def test_unknown_fields_of_a_command_are_ignored(client: CableClient, channel: str) -> None:
    client.send("subscribe", identifier=channel, more={"a": [1]}, data=5)

    assert client.receive() == confirmed(channel)


# Commands at the wrong time


def test_second_subscription_does_not_reach_the_application(
    connect: Connect, app: ConformanceApp, channel: str, sid: str, command: str
) -> None:
    client = connect(headers={"X-Request-ID": sid})
    client.receive_welcome()
    client.subscribe(channel)

    client.send("subscribe", identifier=channel)
    if command == "ours":
        # Rails' client repeats the command until it is confirmed (rails/rails#57504).
        assert client.receive() == confirmed(channel)
    client.expect_nothing()

    client.perform(channel, "echo")
    assert client.receive() == delivered(channel, {"action": "echo"})
    assert len(app.calls.of(sid, "subscribe")) == 1


@pytest.mark.parametrize("name", ["unsubscribe", "message"])
def test_command_without_subscription_is_ignored(
    connect: Connect, app: ConformanceApp, channel: str, sid: str, name: str
) -> None:
    client = connect(headers={"X-Request-ID": sid})
    client.receive_welcome()

    client.send(name, identifier=channel, data='{"action":"echo"}')

    assert_usable(client, app)
    assert app.calls.of(sid, name) == []


def test_command_after_unsubscribing_is_ignored(
    connect: Connect, app: ConformanceApp, channel: str, sid: str
) -> None:
    client = connect(headers={"X-Request-ID": sid})
    client.receive_welcome()
    client.subscribe(channel)
    for _ in range(2):
        client.send("unsubscribe", identifier=channel)
    client.perform(channel, "echo")

    assert_usable(client, app)
    kinds = [call.kind for call in app.calls.of(sid)]
    assert kinds == ["connect", "subscribe", "unsubscribe", "subscribe"]


# Commands with the wrong content


@pytest.mark.parametrize("data", [{"action": "echo"}, None, 1, ["echo"], True], ids=repr)
def test_perform_with_data_that_is_no_string_is_ignored(
    connect: Connect, app: ConformanceApp, channel: str, sid: str, data: object
) -> None:
    client = connect(headers={"X-Request-ID": sid})
    client.receive_welcome()
    client.subscribe(channel)

    client.send("message", identifier=channel, data=data)
    client.expect_nothing()

    client.perform(channel, "echo")
    assert client.receive() == delivered(channel, {"action": "echo"})
    assert len(app.calls.of(sid, "message")) == 1


@pytest.mark.parametrize("name", ["", "no JSON", "[]", '{"channel":"Unknown"}'])
def test_identifier_is_the_application_s_to_judge(
    connect: Connect, app: ConformanceApp, sid: str, name: str
) -> None:
    client = connect(headers={"X-Request-ID": sid})
    client.receive_welcome()

    client.send("subscribe", identifier=name)

    assert_usable(client, app)
    assert app.calls.of(sid, "subscribe")[0].identifier == name


def test_unknown_action_is_the_application_s_to_judge(
    client: CableClient, app: ConformanceApp, channel: str
) -> None:
    client.subscribe(channel)
    client.perform(channel, "unheard_of")

    assert_usable(client, app)


def test_large_messages_are_taken_up_to_the_limit(client: CableClient, channel: str) -> None:
    """The limit, max_message_size, counts 65,536 bytes by default."""
    client.subscribe(channel)
    client.perform(channel, "echo", text="x" * 60_000)

    assert client.receive()["message"]["text"] == "x" * 60_000


def test_message_over_the_limit_closes_the_connection(client: CableClient) -> None:
    client.send_raw("x" * 70_000)

    assert client.wait_for_close()[0] == 1009


# Handshakes that ask for something else


@pytest.mark.parametrize(
    ("asked", "chosen"),
    [
        ((), None),
        (("foo",), None),
        pytest.param(
            ("actioncable-unsupported",),
            "actioncable-unsupported",
            marks=pytest.mark.reference_fault("names none, where Rails tells the client so"),
        ),
        (("actioncable-v1-json",), "actioncable-v1-json"),
        (("actioncable-v1-json", "actioncable-unsupported"), "actioncable-v1-json"),
        (("actioncable-unsupported", "actioncable-v1-json"), "actioncable-v1-json"),
        (("foo", "actioncable-v1-json"), "actioncable-v1-json"),
    ],
)
def test_subprotocol_is_chosen_or_left_out(
    connect: Connect, channel: str, asked: tuple[str, ...], chosen: str | None
) -> None:
    """Without one in common the client is served all the same."""
    client = connect(subprotocols=asked)

    assert client.connection.subprotocol == chosen
    client.receive_welcome()
    assert client.subscribe(channel) == confirmed(channel)


def test_two_sessions_with_one_request_id_are_two_sessions(
    connect: Connect, app: ConformanceApp, publisher: RedisPublisher, stream: str, sid: str
) -> None:
    channel = identifier(app.define(subscribed=lambda answer: answer.stream_from(stream)))
    clients = [connect(headers={"X-Request-ID": sid}) for _ in range(2)]
    for client in clients:
        client.receive_welcome()
        assert client.subscribe(channel) == confirmed(channel)

    publisher.broadcast(stream, "X")

    for client in clients:
        assert client.receive() == delivered(channel, "X")
        client.close()
    app.calls.wait_for(sid, "disconnect", count=2)
