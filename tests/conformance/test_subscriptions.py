"""Subscribe, unsubscribe and perform: acknowledgements, verdicts, order, state."""

import threading
from contextlib import suppress

import pytest
from websockets.exceptions import ConnectionClosedOK

from catenary.protocols import rpc_pb2 as pb
from tests.conformance.conftest import Connect
from tests.parts.cable_client import CableClient, confirmed, delivered, identifier, rejected
from tests.parts.conformance_app import (
    DEADLINE_S,
    ChannelAnswer,
    ChannelFunction,
    ConformanceApp,
    ConnectAnswer,
)
from tests.parts.redis import RedisPublisher


def crash(_answer: ChannelAnswer) -> None:
    raise RuntimeError("out of order")


def accept(_answer: ChannelAnswer) -> None:
    """Says nothing against it."""


def one_after_the_other(*functions: ChannelFunction) -> ChannelFunction:
    """Another function at each call."""
    remaining = iter(functions)

    def run(answer: ChannelAnswer) -> None:
        next(remaining)(answer)

    return run


def report_state(answer: ChannelAnswer) -> None:
    answer.transmit({"istate": answer.call.istate, "cstate": answer.call.cstate})


# Acknowledgements and transmissions


def test_client_receives_a_confirmation(client: CableClient, app: ConformanceApp) -> None:
    channel = identifier(app.define())

    assert client.subscribe(channel) == confirmed(channel)


def test_client_receives_a_rejection(client: CableClient, app: ConformanceApp) -> None:
    channel = identifier(app.define(subscribed=ChannelAnswer.reject))

    assert client.subscribe(channel) == rejected(channel)


def test_rejected_subscription_can_be_asked_for_again(
    client: CableClient, app: ConformanceApp
) -> None:
    channel = identifier(app.define(subscribed=one_after_the_other(ChannelAnswer.reject, accept)))

    assert client.subscribe(channel) == rejected(channel)
    assert client.subscribe(channel) == confirmed(channel)


def test_one_channel_with_different_params(client: CableClient, app: ConformanceApp) -> None:
    channel = app.define()

    for number in (1, 2):
        with_params = identifier(channel, id=number)
        assert client.subscribe(with_params) == confirmed(with_params)


def test_transmissions_come_in_the_order_of_the_application(
    client: CableClient, app: ConformanceApp
) -> None:
    def subscribed(answer: ChannelAnswer) -> None:
        answer.transmit("hello")
        answer.transmit("world")

    channel = identifier(app.define(subscribed=subscribed))

    assert client.subscribe(channel) == delivered(channel, "hello")
    assert client.receive() == delivered(channel, "world")
    assert client.receive() == confirmed(channel)


def test_transmissions_are_sent_byte_for_byte(client: CableClient, app: ConformanceApp) -> None:
    text = '{ "any" : "thing" ,"<é>":1.0}'

    def say(answer: ChannelAnswer) -> None:
        answer.response.transmissions.append(text)

    channel = identifier(app.define(say=say))
    client.subscribe(channel)
    client.perform(channel, "say")

    assert client.receive_text() == text


def test_identifier_is_kept_byte_for_byte(client: CableClient, app: ConformanceApp) -> None:
    channel = app.define()
    odd = f'{{ "b":1 ,"channel":"{channel}", "é":"<&>" }}'

    assert client.subscribe(odd) == confirmed(odd)


# Perform


def test_perform_without_arguments(client: CableClient, app: ConformanceApp) -> None:
    channel = identifier(app.define(tick=lambda answer: answer.transmit("tock")))
    assert client.subscribe(channel) == confirmed(channel)

    client.perform(channel, "tick")

    assert client.receive() == delivered(channel, "tock")


def test_perform_with_arguments(client: CableClient, app: ConformanceApp) -> None:
    def echo(answer: ChannelAnswer) -> None:
        answer.transmit({"response": answer.call.payload["text"]})

    channel = identifier(app.define(echo=echo))
    assert client.subscribe(channel) == confirmed(channel)

    client.perform(channel, "echo", text="hello")

    assert client.receive() == delivered(channel, {"response": "hello"})


def test_perform_passes_data_byte_for_byte(connect: Connect, app: ConformanceApp, sid: str) -> None:
    channel = identifier(app.define())
    client = connect(headers={"X-Request-ID": sid})
    client.receive_welcome()
    client.subscribe(channel)

    for data in ('{ "action" : "é\\u00e9" }', "no JSON"):
        client.send("message", identifier=channel, data=data)
    client.expect_nothing()

    calls = app.calls.of(sid, "message")
    assert [call.data for call in calls] == ['{ "action" : "é\\u00e9" }', "no JSON"]


# Failures of the application


def test_subscription_that_breaks_is_not_answered_and_can_be_asked_for_again(
    client: CableClient, app: ConformanceApp
) -> None:
    channel = identifier(app.define(subscribed=one_after_the_other(crash, accept)))

    client.send("subscribe", identifier=channel)
    client.expect_nothing()

    assert client.subscribe(channel) == confirmed(channel)


def test_action_that_breaks_is_not_answered(client: CableClient, app: ConformanceApp) -> None:
    channel = identifier(app.define(fail=crash, tick=lambda answer: answer.transmit("tock")))
    client.subscribe(channel)

    client.perform(channel, "fail")
    client.expect_nothing()
    client.perform(channel, "tick")

    assert client.receive() == delivered(channel, "tock")


def test_answer_of_an_action_that_fails_is_applied(
    client: CableClient, app: ConformanceApp, publisher: RedisPublisher, stream: str
) -> None:
    def fail(answer: ChannelAnswer) -> None:
        answer.response.status = pb.FAILURE
        answer.transmit("failed")
        answer.stream_from(stream)
        answer.set_istate(a="1")
        answer.set_cstate(c="2")

    channel = identifier(app.define(fail=fail, report=report_state))
    client.subscribe(channel)
    client.perform(channel, "fail")
    assert client.receive() == delivered(channel, "failed")
    client.perform(channel, "report")
    assert client.receive() == delivered(channel, {"istate": {"a": "1"}, "cstate": {"c": "2"}})

    publisher.broadcast(stream, "still here")

    assert client.receive() == delivered(channel, "still here")


def test_unsubscription_that_fails_ends_the_subscription(
    client: CableClient,
    connect: Connect,
    app: ConformanceApp,
    publisher: RedisPublisher,
    stream: str,
) -> None:
    def fail(answer: ChannelAnswer) -> None:
        answer.response.status = pb.FAILURE
        answer.transmit("not yet")

    channel = identifier(
        app.define(subscribed=lambda answer: answer.stream_from(stream), unsubscribed=fail)
    )
    witness = connect()
    witness.receive_welcome()
    witness.subscribe(channel)
    client.subscribe(channel)
    client.send("unsubscribe", identifier=channel)
    assert client.receive() == delivered(channel, "not yet")

    publisher.broadcast(stream, "unheard")
    assert witness.receive() == delivered(channel, "unheard")
    client.expect_nothing()
    assert client.subscribe(channel) == confirmed(channel)


def test_unsubscription_that_breaks_keeps_the_subscription(
    client: CableClient, app: ConformanceApp, publisher: RedisPublisher, stream: str
) -> None:
    """The application did not end it, so it goes on, as anycable-go has it."""
    channel = identifier(
        app.define(subscribed=lambda answer: answer.stream_from(stream), unsubscribed=crash)
    )
    client.subscribe(channel)
    client.send("unsubscribe", identifier=channel)
    client.expect_nothing()

    publisher.broadcast(stream, "still here")

    assert client.receive() == delivered(channel, "still here")


def test_disconnect_flag_closes_after_the_transmissions(
    connect: Connect, app: ConformanceApp
) -> None:
    def leave(answer: ChannelAnswer) -> None:
        answer.transmit("bye")
        answer.disconnect()

    channel = identifier(app.define(leave=leave))
    client = connect()
    sid = client.receive_welcome()["sid"]
    client.subscribe(channel)
    client.perform(channel, "leave")

    assert client.receive() == delivered(channel, "bye")
    (call,) = app.calls.wait_for(sid, "disconnect")
    assert call.subscriptions == (channel,)


@pytest.mark.reference_fault("it puts the code 1006 on the wire, which RFC 6455 forbids")
@pytest.mark.parametrize("event", ["subscribed", "leave", "unsubscribed"])
def test_disconnect_flag_ends_with_a_close_frame(
    client: CableClient, app: ConformanceApp, event: str
) -> None:
    channel = identifier(app.define(**{event: ChannelAnswer.disconnect}))
    with suppress(ConnectionClosedOK):  # which may happen after each of them
        client.send("subscribe", identifier=channel)
        client.perform(channel, "leave")
        client.send("unsubscribe", identifier=channel)

    assert client.wait_for_close() == (1000, "Command Failed")


# Order


def test_commands_behind_a_slow_subscribe_run_in_order(
    connect: Connect, app: ConformanceApp, sid: str
) -> None:
    may_go_on = threading.Event()

    def subscribed(_answer: ChannelAnswer) -> None:
        assert may_go_on.wait(DEADLINE_S)

    def count(answer: ChannelAnswer) -> None:
        answer.transmit(answer.call.payload["number"])

    channel = identifier(app.define(subscribed=subscribed, count=count))
    client = connect(headers={"X-Request-ID": sid})
    client.receive_welcome()
    client.send("subscribe", identifier=channel)
    for number in range(20):
        client.perform(channel, "count", number=number)
    client.send("unsubscribe", identifier=channel)
    client.perform(channel, "count", number=99)
    app.calls.wait_for(sid, "subscribe")
    assert app.calls.of(sid, "message") == []
    may_go_on.set()

    assert client.receive() == confirmed(channel)
    for number in range(20):
        assert client.receive() == delivered(channel, number)
    client.expect_nothing()
    kinds = [call.kind for call in app.calls.of(sid)]
    assert kinds == ["connect", "subscribe", *["message"] * 20, "unsubscribe"]


def test_commands_sent_before_the_welcome_wait_for_it(
    connect: Connect, app: ConformanceApp, sid: str
) -> None:
    may_go_on = threading.Event()

    def connected(_answer: ConnectAnswer) -> None:
        assert may_go_on.wait(DEADLINE_S)

    channel = identifier(app.define())
    client = connect(f"test={app.define_connect(connected)}", headers={"X-Request-ID": sid})
    client.send("subscribe", identifier=channel)
    app.calls.wait_for(sid, "connect")
    may_go_on.set()

    assert client.receive()["type"] == "welcome"
    assert client.receive() == confirmed(channel)


def test_slow_commands_of_one_client_do_not_hold_up_another(
    connect: Connect, app: ConformanceApp
) -> None:
    may_go_on = threading.Event()

    def subscribed(_answer: ChannelAnswer) -> None:
        assert may_go_on.wait(DEADLINE_S)

    slow, quick = identifier(app.define(subscribed=subscribed)), identifier(app.define())
    waiting, other = connect(), connect()
    waiting.receive_welcome()
    other.receive_welcome()
    waiting.send("subscribe", identifier=slow)

    assert other.subscribe(quick) == confirmed(quick)
    may_go_on.set()
    assert waiting.receive() == confirmed(slow)


# State


def test_states_are_merged_over_calls(client: CableClient, app: ConformanceApp) -> None:
    """An empty value takes its key away."""

    def subscribed(answer: ChannelAnswer) -> None:
        answer.set_istate(a="1", b="2")
        answer.set_cstate(x="1", y="2")

    def change(answer: ChannelAnswer) -> None:
        answer.set_istate(b="", c="3")
        answer.set_cstate(x="", z="3")

    channel = identifier(app.define(subscribed=subscribed, change=change, report=report_state))
    client.subscribe(channel)
    client.perform(channel, "report")
    assert client.receive() == delivered(
        channel, {"istate": {"a": "1", "b": "2"}, "cstate": {"x": "1", "y": "2"}}
    )
    client.perform(channel, "change")
    client.perform(channel, "report")
    assert client.receive() == delivered(
        channel, {"istate": {"a": "1", "c": "3"}, "cstate": {"y": "2", "z": "3"}}
    )


def test_each_subscription_has_its_own_state(client: CableClient, app: ConformanceApp) -> None:
    def subscribed(answer: ChannelAnswer) -> None:
        answer.set_istate(room=str(answer.call.params["room"]))
        answer.set_cstate(last=str(answer.call.params["room"]))

    channel = app.define(subscribed=subscribed, report=report_state)
    first, second = identifier(channel, room=1), identifier(channel, room=2)
    client.subscribe(first)
    client.subscribe(second)
    client.perform(first, "report")

    assert client.receive() == delivered(first, {"istate": {"room": "1"}, "cstate": {"last": "2"}})


def test_state_of_a_subscription_ends_with_it(client: CableClient, app: ConformanceApp) -> None:
    def subscribed(answer: ChannelAnswer) -> None:
        report_state(answer)
        answer.set_istate(a="1")

    channel = identifier(app.define(subscribed=subscribed))
    empty = delivered(channel, {"istate": {}, "cstate": {}})

    for _ in range(2):
        assert client.subscribe(channel) == empty
        assert client.receive() == confirmed(channel)
        client.send("unsubscribe", identifier=channel)
