"""The life of a client at the node: it connects, sends commands, leaves."""

import json

from catenary.messages.decisions import Decision, Verdict
from catenary.messages.names import Stream
from catenary.routing.identity import everybody
from tests.parts.heart import Heart, in_loop, room, settle

FAILURE = Decision(verdict=Verdict.FAILURE, transmissions=('{"no":1}',))
ERROR = Decision(
    verdict=Verdict.ERROR, transmissions=('{"never":1}',), error="broken", streams=(Stream("x"),)
)


# Connecting


@in_loop
async def test_an_accepted_client_is_welcomed_and_found() -> None:
    heart = Heart()
    client = heart.connect("ann")
    assert client.heard == [{"type": "welcome", "sid": "ann"}]
    assert client.session.connected
    assert heart.counters.clients_num == heart.hub.sessions.identifiers_num == 1
    assert heart.counters.server_msg_total == 1


@in_loop
async def test_commands_before_the_welcome_wait_for_it() -> None:
    heart = Heart()
    later = heart.application.later("connect")
    client = heart.connect("ann")
    client.say("subscribe", room("1"))
    assert client.heard == []
    later.set_result(everybody(client.session.environment))
    await settle()
    assert [each["type"] for each in client.heard] == ["welcome", "confirm_subscription"]


@in_loop
async def test_commands_of_a_refused_client_are_dropped() -> None:
    heart = Heart()
    later = heart.application.later("connect")
    client = heart.connect("ann")
    client.say("subscribe", room("1"))
    later.set_result(FAILURE)
    await settle()
    client.say("subscribe", room("2"))
    assert heart.application.calls == [("connect", "ann")]


# Commands


@in_loop
async def test_subscribing_performing_and_unsubscribing() -> None:
    heart = Heart()
    client = heart.member()
    client.say("subscribe", room("1"))
    assert client.outbound.take() == [{"type": "confirm_subscription", "identifier": room("1")}]
    heart.application.prepare("perform", Decision(transmissions=('{"done":true}',)))
    client.say("message", room("1"), data='{"action":"go"}')
    assert client.outbound.take() == [{"done": True}]
    client.say("unsubscribe", room("1"))
    assert client.heard == []
    assert client.session.subscriptions == {}
    assert heart.hub.streams_num == 0
    assert heart.application.calls[1:] == [
        ("subscribe", room("1")),
        ("perform", room("1"), '{"action":"go"}'),
        ("unsubscribe", room("1")),
    ]


@in_loop
async def test_invalid_commands_are_counted_and_do_not_reach_the_application() -> None:
    heart = Heart()
    client = heart.member("1")
    asked = len(heart.application.calls)
    for payload in (
        "garbage",
        "[]",
        '{"command":"dance","identifier":"x"}',
        json.dumps({"command": "unsubscribe", "identifier": room("2")}),
        json.dumps({"command": "message", "identifier": room("2"), "data": "{}"}),
        json.dumps({"command": "message", "identifier": room("1"), "data": {}}),
    ):
        client.say_raw(payload)
    assert heart.counters.failed_client_msg_total == 6
    assert len(heart.application.calls) == asked
    assert client.heard == []
    assert client.outbound.goodbye is None
    heart.publish("1", "still here")
    assert client.messages == ["still here"]


@in_loop
async def test_pings_of_clients_are_answered_and_pongs_are_not() -> None:
    heart = Heart()
    client = heart.member()
    client.say("ping")
    client.say("pong")
    assert client.heard == [{"type": "pong"}]


# Leaving


@in_loop
async def test_a_client_that_leaves_is_removed_and_ended_once() -> None:
    heart = Heart()
    client = heart.member("1", "2")
    client.leave()
    assert heart.hub.streams_num == heart.hub.sessions.identifiers_num == 0
    heart.publish("1", "anybody?")
    await heart.disconnector.drain(1)
    ((environment, subscriptions),) = heart.application.ended
    assert (environment.sid, set(subscriptions)) == (client.session.sid, {room("1"), room("2")})
    assert client.heard == []


@in_loop
async def test_a_client_that_leaves_before_the_decision_is_not_connected() -> None:
    heart = Heart()
    later = heart.application.later("connect")
    client = heart.connect()
    await settle()
    client.leave()
    await settle()
    assert later.cancelled()
    await heart.disconnector.drain(1)
    assert heart.application.ended == []
    assert heart.counters.clients_num == 0
