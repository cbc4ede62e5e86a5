"""One command of a client at a time, in order, and a limit for those that wait."""

import json
from typing import Any

import pytest

from catenary.messages.commands import Checkpoint, CloseConnection, Command, DirectReply, Perform
from catenary.messages.decisions import Decision
from catenary.messages.reasons import Reason
from catenary.node.encoder import Encoder
from catenary.node.inboxes import INBOX_LIMIT
from catenary.node.session import Subscription
from catenary.ports import Goodbye
from catenary.protocols.actioncable_json import ActionCableJson
from catenary.wire.framing import WEBSOCKET_TEXT
from tests.parts.heart import Heart, confirming, in_loop, room, settle


@in_loop
async def test_commands_wait_for_a_slow_decision_in_order() -> None:
    heart = Heart()
    client = heart.member()
    first = heart.application.later("subscribe")
    client.say("subscribe", room("1"))
    client.say("ping")
    client.say("message", room("1"), data="1")
    client.say("subscribe", room("2"))
    client.say("message", room("2"), data="2")
    client.say("unsubscribe", room("1"))
    await settle()
    assert client.heard == []
    second = heart.application.later("perform")
    first.set_result(confirming(room("1")))
    await settle()
    assert [each["type"] for each in client.outbound.take()] == ["confirm_subscription", "pong"]
    assert heart.application.calls[-1] == ("perform", room("1"), "1")
    second.set_result(Decision(transmissions=("1",)))
    await settle()
    assert client.heard == [1, {"type": "confirm_subscription", "identifier": room("2")}]
    assert heart.application.calls[-2:] == [
        ("perform", room("2"), "2"),
        ("unsubscribe", room("1")),
    ]


@in_loop
async def test_a_slow_command_does_not_delay_other_clients() -> None:
    heart = Heart()
    slow, quick = heart.member(), heart.member()
    heart.application.later("subscribe")
    slow.say("subscribe", room("1"))
    quick.subscribe(room("1"))
    assert slow.heard == []


@in_loop
async def test_a_fault_in_the_middle_costs_its_own_command_only() -> None:
    heart = Heart()
    client = heart.member("1")
    first = heart.application.later("perform")
    second = heart.application.later("perform")
    for number in range(3):
        client.say("message", room("1"), data=str(number))
    first.set_exception(ZeroDivisionError("a fault of our own"))
    await settle()
    second.set_result(Decision(transmissions=('"second"',)))
    await settle()
    assert client.heard == ["second"]
    assert heart.counters.failed_client_msg_total == 1
    assert [call[0] for call in heart.application.calls].count("perform") == 3


@in_loop
async def test_a_wait_that_was_cancelled_elsewhere_costs_its_own_command_only() -> None:
    heart = Heart()
    client = heart.member("1")
    first = heart.application.later("perform")
    client.say("message", room("1"), data="first")
    client.say("message", room("1"), data="second")
    first.cancel()
    await settle()
    assert [call[0] for call in heart.application.calls].count("perform") == 2


@in_loop
async def test_a_client_with_too_many_commands_under_way_is_not_read() -> None:
    heart = Heart()
    client = heart.member("1")
    first = heart.application.later("perform")
    client.say("message", room("1"), data="first")
    for number in range(INBOX_LIMIT - 1):
        client.say("message", room("1"), data=str(number))
    assert client.outbound.held == []
    # What was read already is not lost, and it is held once.
    for number in range(INBOX_LIMIT - 1, INBOX_LIMIT + 5):
        client.say("message", room("1"), data=str(number))
    assert client.outbound.held == [True]
    assert heart.counters.held_clients_total == 1
    first.set_result(Decision())
    await settle()
    assert client.outbound.held == [True, False]
    performed = [call[2] for call in heart.application.calls if call[0] == "perform"]
    assert performed == ["first", *map(str, range(INBOX_LIMIT + 5))]
    # And again.
    again = heart.application.later("perform")
    for _ in range(INBOX_LIMIT + 1):
        client.say("message", room("1"), data="again")
    assert client.outbound.held == [True, False, True]
    again.set_result(Decision())
    await settle()
    assert client.outbound.held == [True, False, True, False]


@in_loop
async def test_after_the_last_answer_nothing_is_kept() -> None:
    heart = Heart()
    client = heart.member()
    later = heart.application.later("subscribe")
    client.say("subscribe", room("1"))
    assert client.session.inbox is not None
    later.set_result(confirming(room("1")))
    await settle()
    assert client.session.inbox is None
    client.outbound.take()
    client.subscribe(room("2"))  # at once, without a task
    assert client.session.inbox is None


@pytest.mark.parametrize("turns", range(6))
@in_loop
async def test_nothing_is_kept_of_a_client_that_leaves_at_any_moment(turns: int) -> None:
    heart = Heart()
    client = heart.member()
    later = heart.application.later("subscribe")
    client.say("subscribe", room("1"))
    client.say("subscribe", room("2"))
    later.set_result(confirming(room("1")))
    await settle(turns)
    heard = len(client.heard)
    client.leave()
    await settle()
    assert len(client.heard) == heard
    assert heart.hub.streams_num == heart.hub.sessions.identifiers_num == 0
    assert client.session.inbox is None
    await heart.disconnector.drain(1)
    ((_, subscriptions),) = heart.application.ended
    # What the client was told of is what the application is told of.
    assert len(subscriptions) == heard
    assert json.dumps(room("2")) not in subscriptions


class Chatty(ActionCableJson):
    """A codec that reads several commands from one message, and answers some of them by itself."""

    def decode(self, payload: bytes) -> Any:
        return tuple(map(self._command, payload.split()))

    def _command(self, word: bytes) -> Command:
        if word.startswith(b"!"):
            return DirectReply(b'"%b"' % word[1:])
        if word.startswith(b"#"):
            return CloseConnection(4000, word[1:].decode())
        return Perform(room("1"), word.decode())


@in_loop
async def test_direct_replies_of_a_codec_keep_their_place_among_the_commands() -> None:
    heart = Heart()
    client = heart.connect(encoder=Encoder(Chatty(), WEBSOCKET_TEXT))
    client.session.subscriptions[room("1")] = Subscription(client.session, room("1"))
    client.outbound.take()
    heart.application.prepare("perform", Decision(transmissions=('"a"',)))
    slow = heart.application.later("perform")
    client.say_raw("!first a !second b !third")
    assert client.outbound.take() == ["first", "a", "second"]
    slow.set_result(Decision(transmissions=('"b"',)))
    await settle()
    assert client.outbound.take() == ["b", "third"]
    assert heart.counters.client_msg_total == 1, "a message, whatever it asks for"


@pytest.mark.parametrize("is_slow", [False, True], ids=["at once", "later"])
@in_loop
async def test_nothing_is_done_after_a_message_that_ends_the_connection(is_slow: bool) -> None:
    heart = Heart()
    client = heart.connect(encoder=Encoder(Chatty(), WEBSOCKET_TEXT))
    client.session.subscriptions[room("1")] = Subscription(client.session, room("1"))
    client.outbound.take()
    answer = Decision(transmissions=('"a"',))
    if not is_slow:
        heart.application.prepare("perform", answer)
        client.say_raw("a !b #bye !c d #again")
    else:
        later = heart.application.later("perform")
        client.say_raw("a !b #bye !c d #again")
        client.say_raw("e")
        later.set_result(answer)
    await settle()
    assert client.outbound.take() == ["a", "b"]
    assert client.outbound.goodbye == Goodbye(Reason.INVALID_MESSAGE, 4000, "bye")
    assert [each[2] for each in heart.application.calls if each[0] == "perform"] == ["a"]


@in_loop
async def test_a_checkpoint_is_reached_when_everything_before_it_is_done() -> None:
    heart = Heart()
    client = heart.member()
    heard_then: list[object] = []
    slow = heart.application.later("subscribe")
    client.say("subscribe", room("1"))
    heart.node.execute(client.session, Checkpoint(lambda: heard_then.extend(client.heard)))
    await settle()
    assert heard_then == []
    slow.set_result(confirming(room("1")))
    await settle()
    assert heard_then == [{"type": "confirm_subscription", "identifier": room("1")}]


@pytest.mark.parametrize("is_slow", [False, True])
@in_loop
async def test_commands_of_a_checkpoint_are_executed_before_later_ones(is_slow: bool) -> None:
    heart = Heart()
    client = heart.member("1")
    slow = heart.application.later("perform") if is_slow else None
    client.say("message", room("1"), data="first")
    then = Perform(room("1"), "second"), Checkpoint(lambda: Perform(room("1"), "third"))
    heart.node.execute(client.session, Checkpoint(lambda: then))
    client.say("message", room("1"), data="last")
    if slow is not None:
        slow.set_result(Decision())
    await settle()
    performed = [each[2] for each in heart.application.calls if each[0] == "perform"]
    assert performed == ["first", "second", "third", "last"]


@in_loop
async def test_a_checkpoint_of_a_session_that_ended_is_not_reached() -> None:
    heart = Heart()
    client = heart.member()
    heart.application.later("subscribe")
    client.say("subscribe", room("1"))
    reached: list[bool] = []
    heart.node.execute(client.session, Checkpoint(lambda: reached.append(True)))
    client.session.close(Reason.REMOTE)
    client.leave()
    await settle()
    assert reached == []
