"""OCPP: the messages of stations as commands of the node, and the decisions of the application as answers."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from catenary.errors import AppUnavailable, CommandError
from catenary.messages.decisions import Decision, Verdict
from catenary.messages.names import Identifier
from catenary.messages.publications import RemoteDisconnect
from catenary.messages.reasons import Reason
from catenary.messages.replies import Delivery, Disconnected, Rejected
from catenary.protocols import ocpp
from catenary.protocols.ocpp import OcppCodec
from catenary.protocols.ocpp_commands import ANSWER_TIMEOUT_S
from catenary.protocols.ocpp_messages import V16, V21, V201, VERSIONS, Version
from tests.parts.heart import Heart, in_loop, settle
from tests.parts.stations import BOOT, NOW, Clock, acks, rules, station

IDENTIFIER = {"channel": "OCPPChannel", "sn": "cs-1", "station_id": "cs-1"}
ACCEPTED = {"status": "Accepted", "currentTime": NOW, "interval": 30}


def test_subprotocols_of_all_versions_are_served() -> None:
    protocols = ocpp.protocols(rules(), "cs-1")
    for version in VERSIONS:
        protocol, subprotocol = protocols.choose([version.subprotocol])
        assert subprotocol == version.subprotocol
        assert protocol.has_state
    assert protocols.choose(["ocpp1.6", "ocpp2.0.1"])[1] == "ocpp2.0.1"


# The beginning


@in_loop
async def test_a_boot_connects_subscribes_and_performs() -> None:
    there = station()
    calls = there.heart.application.calls
    assert calls == []
    there.say(2, "1", "BootNotification", BOOT)
    assert [each[0] for each in calls] == ["connect", "subscribe", "perform"]
    assert json.loads(calls[1][1]) == IDENTIFIER
    assert there.performed == [
        {"action": "boot_notification", "id": "1", "command": "BootNotification", "payload": BOOT}
    ]
    assert there.take() == [[3, "1", ACCEPTED]]


@pytest.mark.parametrize(
    ("boot", "serial"),
    [
        ({"meterSerialNumber": "m", "chargePointSerialNumber": "c"}, "m"),
        ({"chargePointSerialNumber": "c"}, "c"),
        ({"chargingStation": {"serialNumber": "s", "model": "M"}}, "s"),
        ({"meterSerialNumber": ""}, "cs-1"),
        ({"meterSerialNumber": 7}, "cs-1"),
        ({}, "cs-1"),
    ],
)
@in_loop
async def test_the_serial_number_is_a_param_of_the_subscription(
    boot: dict[str, Any], serial: str
) -> None:
    there = station()
    there.say(2, "1", "BootNotification", boot)
    ((_, identifier),) = (each for each in there.heart.application.calls if each[0] == "subscribe")
    assert json.loads(identifier) == {**IDENTIFIER, "sn": serial}


@pytest.mark.parametrize("action", ["StatusNotification", "Heartbeat"])
@in_loop
async def test_a_station_that_was_only_cut_off_begins_with_any_call(action: str) -> None:
    there = station()
    there.say(2, "1", action, {"meterSerialNumber": "not of a boot"})
    calls = there.heart.application.calls
    assert [each[0] for each in calls[:2]] == ["connect", "subscribe"]
    assert json.loads(calls[1][1]) == IDENTIFIER
    assert there.take() == [[3, "1", {"currentTime": NOW} if action == "Heartbeat" else {}]]
    there.say(2, "2", "BootNotification", BOOT)
    assert there.take() == [[3, "2", ACCEPTED]]
    assert [each[0] for each in calls].count("connect") == 1


@in_loop
async def test_messages_before_the_first_call_are_answered_or_ignored() -> None:
    there = station(V201)
    there.say_raw("nonsense")
    there.say(3, "1", {})
    there.say(2, "1", "Ack", {})
    assert [each[1:3] for each in there.take()] == [
        ["-1", "RpcFrameworkError"],
        ["1", "NotImplemented"],
    ]
    assert there.heart.application.calls == []
    there.boot()


@in_loop
async def test_calls_wait_for_the_admission() -> None:
    there = station()
    connecting = there.heart.application.later("connect")
    there.say(2, "1", "BootNotification", BOOT)
    there.say(2, "2", "StatusNotification", {})
    there.say(2, "3", "Heartbeat", {})
    await settle()
    assert there.take() == []
    connecting.set_result(Decision(identifiers="{}"))
    await settle()
    assert there.take() == [[3, "1", ACCEPTED], [3, "2", {}], [3, "3", {"currentTime": NOW}]]


REFUSED = Decision(
    verdict=Verdict.FAILURE,
    transmissions=('{"type":"disconnect","reason":"unauthorized","reconnect":false}',),
)


@pytest.mark.parametrize("waits", [False, True])
@pytest.mark.parametrize(
    ("action", "answer"),
    [
        ("BootNotification", [3, "1", {**ACCEPTED, "status": "Rejected"}]),
        ("MeterValues", [4, "1", "SecurityError", "the application refused the station", {}]),
    ],
)
@in_loop
async def test_a_station_that_may_not_connect(action: str, answer: object, waits: bool) -> None:
    heart = Heart()
    decision = heart.application.later("connect") if waits else None
    if decision is None:
        heart.application.prepare("connect", REFUSED)
    there = station(heart=heart)
    there.say(2, "1", action, {})
    if decision is not None:
        decision.set_result(REFUSED)
    await settle()
    assert there.take() == [answer]
    assert there.outbound.goodbye is not None
    assert there.outbound.goodbye.code == 1008


@in_loop
async def test_an_application_that_is_away() -> None:
    heart = Heart()
    heart.application.prepare("connect", AppUnavailable("away"))
    there = station(heart=heart)
    there.say(2, "1", "BootNotification", BOOT)
    ((kind, message_id, code, *_),) = there.take()
    assert (kind, message_id, code) == (4, "1", "InternalError")
    assert there.outbound.goodbye is not None
    assert there.outbound.goodbye.code == 1011


@pytest.mark.parametrize(
    ("decision", "answer", "code"),
    [
        (
            Decision(verdict=Verdict.FAILURE, replies=(Rejected(Identifier("i")),)),
            [3, "1", {**ACCEPTED, "status": "Rejected"}],
            1008,
        ),
        (
            Decision(verdict=Verdict.ERROR),
            [4, "1", "InternalError", "the application did not decide", {}],
            1011,
        ),
    ],
    ids=["rejected", "error"],
)
@in_loop
async def test_a_subscription_that_is_not_confirmed_ends_the_connection(
    decision: Decision, answer: object, code: int
) -> None:
    there = station()
    subscribing = there.heart.application.later("subscribe")
    there.say(2, "1", "BootNotification", BOOT)
    there.say(2, "2", "MeterValues", {})
    subscribing.set_result(decision)
    await settle()
    assert there.take() == [answer]
    assert there.performed == []
    assert there.outbound.goodbye is not None
    assert there.outbound.goodbye.code == code


@in_loop
async def test_a_subscription_that_is_rejected_with_a_disconnect_is_answered() -> None:
    there = station()
    rejected = Rejected(Identifier("i"))
    decision = Decision(verdict=Verdict.FAILURE, replies=(rejected,), disconnect=True)
    there.heart.application.prepare("subscribe", decision)
    there.say(2, "1", "BootNotification", BOOT)
    assert there.take() == [[3, "1", {**ACCEPTED, "status": "Rejected"}]]
    assert there.outbound.ended_for is Reason.COMMAND_FAILED


@pytest.mark.parametrize("waits_for", ["connect", "subscribe"])
@in_loop
async def test_a_station_that_boots_while_the_server_stops_is_not_rejected(waits_for: str) -> None:
    there = station()
    there.heart.application.later(waits_for)
    there.say(2, "1", "BootNotification", BOOT)
    there.stop()
    assert there.take() == []
    assert there.outbound.ended_for is Reason.SERVER_RESTART


# Calls and their answers


@pytest.mark.parametrize(
    ("version", "action", "answer"),
    [
        (V16, "StatusNotification", {}),
        (V16, "MeterValues", {}),
        (V16, "StopTransaction", {}),
        (V16, "DataTransfer", {"status": "Accepted"}),
        (V16, "VendorsOwn", {"status": "Accepted"}),
        (V201, "TransactionEvent", {}),
        (V201, "SignCertificate", {"status": "Accepted"}),
        (V21, "NotifyDERAlarm", {}),
        (V16, "Heartbeat", {"currentTime": NOW}),
        (V16, "BootNotification", ACCEPTED),
    ],
)
@in_loop
async def test_default_answers(version: Version, action: str, answer: object) -> None:
    there = station(version)
    there.boot()
    there.say(2, "1", action, {})
    assert there.take() == [[3, "1", answer]]
    assert len(there.performed) == 1 + (action != "Heartbeat"), "heartbeats are answered here"


@pytest.mark.parametrize(
    ("version", "action"), [(V16, "Authorize"), (V16, "StartTransaction"), (V201, "Authorize")]
)
@in_loop
async def test_nothing_is_authorized_by_default(version: Version, action: str) -> None:
    there = station(version)
    there.boot()
    there.say(2, "1", action, {})
    ((kind, _, code, *_),) = there.take()
    assert (kind, code) == (4, "InternalError")


@in_loop
async def test_the_application_answers_by_itself() -> None:
    there = station()
    there.boot()
    there.heart.application.prepare("perform", acks("1", idTagInfo={"status": "Accepted"}))
    there.say(2, "1", "Authorize", {"idTag": "x"})
    assert there.take() == [[3, "1", {"idTagInfo": {"status": "Accepted"}}]]


@in_loop
async def test_an_answer_to_a_boot_is_completed() -> None:
    there = station(rules=rules(heartbeat_interval_s=7))
    there.heart.application.prepare("perform", acks("1", status="Pending", interval=300))
    there.say(2, "1", "BootNotification", BOOT)
    assert there.take() == [[3, "1", {"status": "Pending", "currentTime": NOW, "interval": 300}]]


@in_loop
async def test_the_application_answers_with_an_error() -> None:
    there = station()
    there.boot()
    error = {"command": "Error", "id": "1", "code": "NotSupported", "message": "no"}
    text = json.dumps({"message": error})
    there.heart.application.prepare("perform", Decision(transmissions=(text,)))
    there.say(2, "1", "DataTransfer", {})
    assert there.take() == [[4, "1", "NotSupported", "no", {}]]


@in_loop
async def test_a_call_is_answered_once() -> None:
    there = station()
    there.boot()
    (text,) = acks("1", status="Rejected").transmissions
    there.heart.application.prepare("perform", Decision(transmissions=(text, text)))
    there.say(2, "1", "DataTransfer", {})
    there.publish(command="Ack", id="1", payload={})
    there.publish(command="Error", id="1")
    there.publish(command="Ack", id="never", payload={})
    assert there.take() == [[3, "1", {"status": "Rejected"}]]


@pytest.mark.parametrize(
    "outcome",
    [AppUnavailable("away"), Decision(verdict=Verdict.ERROR), Decision(verdict=Verdict.FAILURE)],
)
@in_loop
async def test_an_action_that_fails_is_an_internal_error(outcome: Any) -> None:
    there = station()
    there.boot()
    there.heart.application.prepare("perform", outcome)
    there.say(2, "1", "StatusNotification", {})
    there.say(2, "2", "StatusNotification", {})
    first, second = there.take()
    assert first == [4, "1", "InternalError", "the application failed", {}]
    assert second == [3, "2", {}], "the next one is as good as ever"


@in_loop
async def test_a_failure_of_another_action_is_not_that_of_a_call() -> None:
    there = station()
    there.boot()
    there.publish(command="Reset", id="r", payload={"type": "Soft"})
    there.take()
    acting = there.heart.application.later("perform")
    there.say(3, "r", {"status": "Accepted"})
    there.say(2, "1", "StatusNotification", {})
    acting.set_result(Decision(verdict=Verdict.ERROR))
    await settle()
    assert there.take() == [[3, "1", {}]]


@in_loop
async def test_a_message_that_failed_is_not_kept() -> None:
    there = station()
    there.boot()
    there.publish(command="Reset", id="r", payload={})
    there.heart.application.prepare("perform", Decision(verdict=Verdict.ERROR))
    there.say(3, "r", {"log": "x" * 100})
    assert there.failed is not None
    there.say(2, "1", "Heartbeat", {})
    assert there.failed is None


@in_loop
async def test_a_call_that_is_repeated_while_it_waits_is_answered_once() -> None:
    there = station()
    there.boot()
    acting = there.heart.application.later("perform")
    there.say(2, "1", "MeterValues", {})
    there.say(2, "1", "MeterValues", {})
    acting.set_result(Decision())
    await settle()
    assert there.take() == [[3, "1", {}]]
    assert [each["id"] for each in there.performed] == ["boot", "1"]
    there.say(2, "1", "MeterValues", {})
    assert there.take() == [[3, "1", {}]], "later, the id is new again"


@in_loop
async def test_malformed_messages_do_not_end_the_connection() -> None:
    there = station()
    there.boot()
    for text in ("nonsense", "[]", '[2,"1"]', '[2,"2","no",{}]', '[7,"3"]'):
        there.say_raw(text)
    assert [each[1:3] for each in there.take()] == [
        ["1", "FormationViolation"],
        ["2", "NotImplemented"],
    ]
    assert there.outbound.goodbye is None
    there.say(2, "4", "Heartbeat", {})
    assert len(there.take()) == 1


@in_loop
async def test_all_actions_may_be_one() -> None:
    there = station(rules=rules(is_granular=False, channel="Stations"))
    there.say(2, "1", "BootNotification", BOOT)
    there.publish(command="Reset", id="r", payload={})
    there.say(4, "r", "NotSupported", "no", {"a": 1})
    assert {each["action"] for each in there.performed} == {"receive"}
    assert [each["command"] for each in there.performed] == ["BootNotification", "Error"]
    assert json.loads(there.heart.application.calls[1][1])["channel"] == "Stations"


@in_loop
async def test_a_send_is_performed_and_not_answered() -> None:
    there = station(V21)
    there.boot()
    there.say(6, "1", "NotifyPeriodicEventStream", {"id": 1})
    assert there.performed[-1]["action"] == "notify_periodic_event_stream"
    assert there.take() == []


# Remote commands


@in_loop
async def test_a_publication_is_a_call_and_its_answer_an_action() -> None:
    there = station()
    there.boot()
    there.publish(command="TriggerMessage", id="t", payload={"requestedMessage": "Heartbeat"})
    assert there.take() == [[2, "t", "TriggerMessage", {"requestedMessage": "Heartbeat"}]]
    there.say(3, "t", {"status": "Accepted"})
    assert there.performed[-1] == {
        "action": "ack", "id": "t", "command": "Ack", "payload": {"status": "Accepted"}
    }  # fmt: skip
    there.publish(command="Reset", payload=None)
    assert there.take() == [[2, "new", "Reset", {}]]
    there.say(4, "new", "NotSupported", "no", {"a": 1})
    assert there.performed[-1] == {
        "action": "error", "id": "new", "command": "Error", "code": "NotSupported", "message": "no",
        "payload": {"a": 1},
    }  # fmt: skip
    assert there.take() == []


@in_loop
async def test_an_id_may_be_a_number() -> None:
    there = station()
    there.boot()
    there.publish(command="Reset", id=7, payload={})
    assert there.take() == [[2, "7", "Reset", {}]]


@in_loop
async def test_publications_that_are_no_commands_are_not_sent() -> None:
    there = station()
    there.boot()
    for message in ({}, {"command": 7}, {"command": "Reset", "payload": [1]}, {"text": "hi"}):
        there.publish(**message)
    there.heart.publish("cs-1", "text")
    there.heart.publish("cs-1", {"command": "Reset"}, kind="whisper")
    assert there.take() == []


@in_loop
async def test_an_answer_to_no_command_is_ignored() -> None:
    there = station()
    there.boot()
    there.say(3, "1", {"status": "Accepted"})
    there.publish(command="Reset", id="r", payload={})
    for _ in range(2):
        there.say(3, "r", {"status": "Accepted"})
    assert [each["action"] for each in there.performed] == ["boot_notification", "ack"]
    assert there.heart.counters.failed_client_msg_total == 2


@in_loop
async def test_a_station_gets_one_command_at_a_time() -> None:
    clock = Clock()
    there = station(rules=rules(clock))
    there.boot()
    for name in "abc":
        there.publish(command="Reset", id=name, payload={})
    assert [each[1] for each in there.take()] == ["a"]
    there.say(3, "a", {})
    assert [each[1] for each in there.take()] == ["b"]
    clock.now += ANSWER_TIMEOUT_S + 1
    there.say(2, "1", "Heartbeat", {})
    assert [each[1] for each in there.take()] == ["c", "1"]


# The end


@pytest.mark.parametrize("version", VERSIONS, ids=lambda version: version.subprotocol)
def test_the_end_of_a_connected_station_is_no_answer(version: Version) -> None:
    codec = OcppCodec(version, rules(), "cs-1")
    for reason in Reason:
        assert codec.encode(Disconnected(reason, True)) is None
        assert codec.goodbye(reason).code < 3000


@in_loop
async def test_a_call_that_waits_at_the_end_is_not_answered() -> None:
    there = station()
    there.boot()
    there.heart.application.later("perform")
    there.say(2, "1", "MeterValues", {})
    there.heart.hub.deliver(RemoteDisconnect('{"sid": "s"}', reconnect=True))
    assert there.take() == []
    assert there.outbound.ended_for is Reason.REMOTE


@in_loop
async def test_the_end_of_a_station_is_reported() -> None:
    there = station()
    there.boot()
    there.leave()
    await there.heart.disconnector.drain(1)
    (ended,) = there.heart.application.ended
    assert [json.loads(each) for each in ended[1]] == [IDENTIFIER]


# Whatever is sent


words = st.sampled_from(
    ["1", "2", "boot", "Ack", "Error", "Heartbeat", "BootNotification", "Reset"]
)
values = st.none() | words | st.integers() | st.text(max_size=5)
objects = st.dictionaries(st.sampled_from(["command", "id", "payload", "code"]) | words, values)
said = st.tuples(st.integers(1, 6), words, words, objects).map(list)
steps = st.lists(st.tuples(st.booleans(), said | objects | values), max_size=20)


@given(steps, st.sampled_from(VERSIONS))
def test_whatever_both_sides_say_is_read_and_written(
    steps: list[tuple[bool, object]], version: Version
) -> None:
    codec = OcppCodec(version, rules(), "cs-1")
    for is_station, message in steps:
        payload = json.dumps(message).encode()
        if is_station:
            for read in (codec.introduce, codec.decode):
                try:
                    read(payload)
                except CommandError:
                    pass
            continue
        written = codec.encode_delivery(Delivery(Identifier("i"), payload))
        transmitted = codec.encode_transmission(json.dumps({"message": message}))
        for each in (written, transmitted):
            if each is not None:
                kind, message_id, *_ = json.loads(each)
                assert kind in (2, 3, 4)
                assert isinstance(message_id, str)
