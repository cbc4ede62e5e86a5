"""Decisions of the application: how each is applied to a session, and what the client receives."""

import json
import logging
from typing import Literal

import pytest

from catenary.errors import AppFailed, AppUnavailable
from catenary.logs.formats import TextFormatter
from catenary.messages.decisions import Decision, Verdict
from catenary.messages.environment import Environment
from catenary.messages.names import Stream
from catenary.messages.reasons import Reason
from catenary.messages.replies import Failed, Reply
from catenary.node.encoder import Encoder
from catenary.protocols.actioncable_json import ActionCableJson
from catenary.wire.framing import WEBSOCKET_TEXT
from tests.parts.heart import Heart, confirming, in_loop, room, settle

FAILURE = Decision(verdict=Verdict.FAILURE, transmissions=('{"no":1}',))
ERROR = Decision(
    verdict=Verdict.ERROR, transmissions=('{"never":1}',), error="broken", streams=(Stream("x"),)
)


@in_loop
async def test_a_refused_client_receives_the_reason_and_is_closed() -> None:
    heart = Heart()
    heart.application.prepare("connect", FAILURE)
    client = heart.connect()
    assert client.heard == [{"no": 1}]
    assert client.outbound.ended_for is Reason.AUTH_FAILED
    assert heart.counters.failed_auths_total == 1
    client.leave()
    await heart.disconnector.drain(1)
    assert heart.application.ended == []
    assert heart.counters.clients_num == 0


@in_loop
async def test_without_a_decision_a_connecting_client_is_closed() -> None:
    heart = Heart()
    later = heart.application.later("connect")
    heart.application.prepare("connect", AppUnavailable("away"), ERROR)
    clients = [heart.connect() for _ in range(3)]
    later.set_exception(AppFailed("broken"))
    await settle()
    for client in clients:
        assert client.heard == []
        assert client.outbound.ended_for is Reason.AUTH_ERROR
        client.leave()
    await heart.disconnector.drain(1)
    assert heart.application.ended == []


@in_loop
async def test_a_rejected_subscription_is_not_kept() -> None:
    heart = Heart()
    client = heart.member()
    heart.application.prepare("subscribe", FAILURE)
    client.say("subscribe", room("1"))
    assert client.outbound.take() == [{"no": 1}]
    assert client.session.subscriptions == {}
    client.subscribe(room("1"))


class FailureCodec(ActionCableJson):
    """A codec that has a message for a command without a decision."""

    def encode(self, reply: Reply) -> bytes | None:
        if isinstance(reply, Failed):
            return json.dumps({"failed": reply.command.identifier}).encode()
        return super().encode(reply)


@in_loop
async def test_a_protocol_is_notified_of_commands_that_failed_or_were_refused() -> None:
    heart = Heart()
    client = heart.connect(encoder=Encoder(FailureCodec(), WEBSOCKET_TEXT))
    client.subscribe(room("1"))
    heart.application.prepare("perform", FAILURE, ERROR, AppUnavailable("away"), Decision())
    for _ in range(4):
        client.say("message", room("1"), data="{}")
    failed = {"failed": room("1")}
    assert client.outbound.take() == [{"no": 1}, failed, failed, failed]
    heart.application.prepare("subscribe", ERROR, FAILURE)
    client.say("subscribe", room("2"))
    client.say("subscribe", room("2"))
    assert client.outbound.take() == [{"failed": room("2")}, {"no": 1}]


@pytest.mark.parametrize("how", ["raised", "awaited", "verdict", "bug"])
@pytest.mark.parametrize("command", ["subscribe", "unsubscribe", "perform"])
@in_loop
async def test_without_a_decision_a_command_has_no_effect(
    command: str, how: str, caplog: pytest.LogCaptureFixture
) -> None:
    heart = Heart()
    client = heart.member() if command == "subscribe" else heart.member("1")
    before = list(client.session.subscriptions)
    match how:
        case "raised":
            heart.application.prepare(command, AppUnavailable("broken"))
        case "verdict":
            heart.application.prepare(command, ERROR)
        case "awaited":
            heart.application.later(command).set_exception(AppFailed("broken"))
        case _:
            heart.application.later(command).set_exception(ZeroDivisionError("broken"))
    with caplog.at_level(logging.WARNING, "catenary.node"):
        said = "message" if command == "perform" else command
        client.say(said, room("1"), **({"data": "{}"} if command == "perform" else {}))
        await settle()
    # Whoever decided so has logged why.
    lines = 0 if how == "verdict" else 1
    assert len(caplog.messages) == lines
    for record in caplog.records:
        written = TextFormatter().format(record)
        assert f"sid={client.session.sid}" in written
        assert "broken" in written
    assert client.heard == []
    assert client.outbound.goodbye is None
    assert list(client.session.subscriptions) == before
    assert heart.counters.failed_client_msg_total == 1
    # The next command is as good as ever.
    client.subscribe(room("next"))


@in_loop
async def test_a_failed_action_may_answer_and_change_streams() -> None:
    heart = Heart()
    client = heart.member("1")
    heart.application.prepare(
        "perform",
        Decision(
            verdict=Verdict.FAILURE, transmissions=('{"sorry":1}',), streams=(Stream("extra"),)
        ),
    )
    client.say("message", room("1"), data="{}")
    assert client.outbound.take() == [{"sorry": 1}]
    assert heart.hub.streams_num == 2


@in_loop
async def test_a_refused_unsubscription_ends_the_streams() -> None:
    heart = Heart()
    client = heart.member("1")
    heart.application.prepare("unsubscribe", FAILURE)
    client.say("unsubscribe", room("1"))
    assert heart.hub.streams_num == 0
    assert client.session.subscriptions == {}


@in_loop
async def test_streams_are_stopped_before_others_start() -> None:
    heart = Heart()
    client = heart.member()
    heart.application.prepare("subscribe", confirming(room("1"), "a", "b", "c"))
    client.subscribe(room("1"))
    subscription = client.session.subscriptions[room("1")]
    for decision, streams in (
        (Decision(stopped_streams=(Stream("b"), Stream("unknown"))), ("a", "c")),
        (Decision(streams=(Stream("d"), Stream("a"))), ("a", "c", "d")),
        (Decision(stopped_streams=(Stream("a"),), streams=(Stream("a"),)), ("a", "c", "d")),
        (Decision(stop_all_streams=True, streams=(Stream("e"),)), ("e",)),
        (Decision(stop_all_streams=True), ()),
    ):
        heart.application.prepare("perform", decision)
        client.say("message", room("1"), data="{}")
        assert subscription.streams == streams
        assert heart.hub.streams_num == len(streams)


@in_loop
async def test_replies_come_before_transmissions() -> None:
    heart = Heart()
    client = heart.member()
    decision = confirming(room("1"))
    heart.application.prepare(
        "subscribe", Decision(replies=decision.replies, transmissions=("1", "2"))
    )
    client.say("subscribe", room("1"))
    assert client.heard == [{"type": "confirm_subscription", "identifier": room("1")}, 1, 2]


@in_loop
async def test_a_decision_may_end_the_session() -> None:
    heart = Heart()
    client = heart.member("1")
    heart.application.prepare("perform", Decision(transmissions=('"bye"',), disconnect=True))
    client.say("message", room("1"), data="{}")
    client.say("message", room("1"), data="{}")
    assert client.heard == ["bye"]
    assert client.outbound.ended_for is Reason.COMMAND_FAILED
    assert [call[0] for call in heart.application.calls].count("perform") == 1


@in_loop
async def test_states_are_merged_and_empty_values_remove_keys() -> None:
    heart = Heart()
    client = heart.member("1", "2")
    environment = client.session.environment
    for cstate, istate in (
        ({"a": "1", "b": "2"}, {"x": "1"}),
        ({"b": ""}, {"y": "2"}),
        (None, {"x": ""}),
    ):
        heart.application.prepare("perform", Decision(cstate=cstate, istate=istate))
        client.say("message", room("1"), data="{}")
    assert environment.cstate == {"a": "1"}
    assert environment.istate_of(room("1")) == {"y": "2"}
    assert environment.istate_of(room("2")) == {}
    client.say("unsubscribe", room("1"))
    assert environment.istate is None


@in_loop
async def test_the_disconnect_call_has_the_latest_state() -> None:
    heart = Heart()
    client = heart.member("1")
    heart.application.prepare("perform", Decision(cstate={"c": "1"}, istate={"i": "1"}))
    client.say("message", room("1"), data="{}")
    client.leave()
    await heart.disconnector.drain(1)
    ((environment, subscriptions),) = heart.application.ended
    assert environment.cstate == {"c": "1"}
    assert environment.istate_of(room("1")) == {"i": "1"}
    assert subscriptions == (room("1"),)


@in_loop
async def test_a_client_accepted_after_it_has_left_is_ended_once() -> None:
    heart = Heart()

    async def stubborn(environment: Environment) -> Decision:
        """As a call that was sent already and is not taken back."""
        try:
            await settle(1000)
        except BaseException:  # noqa: BLE001
            return Decision(identifiers='{"user":1}', cstate={"a": "1"})
        raise AssertionError("expected to be cancelled")

    heart.application.prepare("connect", stubborn(Environment(None, "", {})))  # type: ignore[arg-type]
    client = heart.connect("ann")
    await settle()
    client.leave()
    await settle()
    await heart.disconnector.drain(1)
    ((environment, subscriptions),) = heart.application.ended
    assert (environment.sid, environment.identifiers) == ("ann", '{"user":1}')
    assert environment.cstate == {"a": "1"}
    assert subscriptions == ()
    assert client.heard == []
    assert heart.counters.clients_num == heart.hub.sessions.identifiers_num == 0


@pytest.mark.parametrize("command", ["subscribe", "perform", "unsubscribe"])
@in_loop
async def test_the_decision_about_a_client_that_has_left_is_not_applied(command: str) -> None:
    heart = Heart()
    client = heart.member() if command == "subscribe" else heart.member("1")
    was_subscribed = tuple(client.session.subscriptions)
    later = heart.application.later(command)
    said = "message" if command == "perform" else command
    client.say(said, room("1"), **({"data": "{}"} if command == "perform" else {}))
    client.say("subscribe", room("behind"))
    await settle()
    client.leave()
    await settle()
    assert later.cancelled()
    assert client.heard == []
    assert heart.hub.streams_num == 0
    assert ("subscribe", room("behind")) not in heart.application.calls
    await heart.disconnector.drain(1)
    assert [subscriptions for _, subscriptions in heart.application.ended] == [was_subscribed]


@in_loop
async def test_a_decision_for_a_session_that_is_closed_is_not_applied() -> None:
    heart = Heart()
    client = heart.member()
    later = heart.application.later("subscribe")
    client.say("subscribe", room("1"))
    identifiers = client.session.environment.identifiers
    heart.node.publications.publish(
        json.dumps({"command": "disconnect", "payload": {"identifier": identifiers}})
    )
    assert client.outbound.ended_for is Reason.REMOTE
    later.set_result(confirming(room("1")))
    await settle()
    assert heart.hub.streams_num == 0
    client.leave()
    await heart.disconnector.drain(1)
    assert len(heart.application.ended) == 1


@pytest.mark.parametrize(
    ("mode", "on_connect", "on_subscribe", "is_told"),
    [
        ("auto", None, None, True),
        ("auto", True, False, True),
        ("auto", False, True, True),
        ("auto", False, None, True),
        ("auto", False, False, False),
        ("always", False, False, True),
        ("never", True, True, False),
    ],
)
@in_loop
async def test_ends_are_reported_if_the_application_wants_them(
    mode: Literal["auto", "always", "never"],
    on_connect: bool | None,
    on_subscribe: bool | None,
    is_told: bool,
) -> None:
    heart = Heart(mode=mode)
    heart.application.prepare("connect", Decision(disconnect_wanted=on_connect))
    client = heart.connect()
    heart.application.prepare("subscribe", Decision(disconnect_wanted=on_subscribe))
    client.say("subscribe", room("1"))
    client.leave()
    await heart.disconnector.drain(1)
    assert len(heart.application.ended) == is_told


@in_loop
async def test_the_state_of_a_subscription_names_the_whisper_stream() -> None:
    heart = Heart()
    ann, bob = heart.member("1"), heart.member("1")
    heart.application.prepare("perform", Decision(istate={"$w": "1"}), Decision(istate={"$w": ""}))
    ann.say("message", room("1"), data="{}")
    ann.say("whisper", room("1"), data=1)
    ann.say("message", room("1"), data="{}")
    ann.say("whisper", room("1"), data=2)
    await settle()
    assert bob.messages == [1]
