"""GraphQL operations as subscriptions, in both protocols: between a client and an application that answers as GraphQL Ruby does."""

import json
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from catenary.errors import AppError
from catenary.messages.decisions import Decision, Verdict
from catenary.messages.publications import RemoteDisconnect
from catenary.messages.reasons import Reason
from catenary.messages.replies import Confirmed, Disconnected, Rejected
from catenary.node.limits import ClientLimits
from catenary.protocols.graphql import GraphqlRules
from catenary.protocols.graphql_messages import read_channel_message
from tests.fuzz.graphql import check
from tests.parts.graphql import (
    QUERY,
    GraphqlClient,
    accepting,
    identifier_of,
    sending,
    transmitting,
)
from tests.parts.heart import Heart, in_loop, settle

NEWER, OLDER = "graphql-transport-ws", "graphql-ws"
WORDS = {
    NEWER: {"start": "subscribe", "stop": "complete", "next": "next"},
    OLDER: {"start": "start", "stop": "stop", "next": "data"},
}
DONE = {"id": "1", "type": "complete"}
ONE = {"data": {"a": 1}}
REJECTED = Decision(verdict=Verdict.FAILURE, replies=(Rejected(identifier_of("1")),))


@pytest.fixture(params=[NEWER, OLDER])
def protocol(request: pytest.FixtureRequest) -> str:
    return str(request.param)


class Speaker(GraphqlClient):
    """A client that knows the words of its protocol."""

    def __init__(self, protocol: str, **others: Any) -> None:
        super().__init__(protocol, **others)
        self._words = WORDS[protocol]

    def start(self, id: str = "1", payload: object = QUERY) -> None:
        self.say(type=self._words["start"], id=id, payload=payload)

    def stop(self, id: str = "1") -> None:
        self.say(type=self._words["stop"], id=id)

    def next(self, result: object, id: str = "1") -> dict[str, object]:
        return {"id": id, "type": self._words["next"], "payload": result}


# Introductions


@in_loop
async def test_the_params_and_the_token_of_a_connection_become_headers() -> None:
    for protocol in WORDS:
        client = GraphqlClient(protocol, is_ready=False)
        client.say_raw(
            b'{"type":"connection_init","payload":{"jid":"abc",\r\n "big":123456789012345678901234567890}}'
        )
        assert client.take()[0] == {"type": "connection_ack"}
        assert client.environment.headers == {
            "x-apollo-connection": '{"jid":"abc",   "big":123456789012345678901234567890}',
            "x-jid": "abc",
        }


@pytest.mark.parametrize(
    ("payload", "headers"),
    [
        (None, {}),
        ({}, {"x-apollo-connection": "{}"}),
        ({"jid": 5}, {"x-apollo-connection": '{"jid": 5}'}),
        ({"token": "x"}, {"x-apollo-connection": '{"token": "x"}'}),
    ],
)
@in_loop
async def test_params_without_a_token(
    protocol: str, payload: object, headers: dict[str, str]
) -> None:
    client = GraphqlClient(protocol, is_ready=False)
    client.say(type="connection_init", payload=payload)
    assert client.environment.headers == headers


@in_loop
async def test_a_token_is_no_header_where_there_are_none(protocol: str) -> None:
    client = GraphqlClient(protocol, rules=GraphqlRules(), is_ready=False)
    client.say(type="connection_init", payload={"jid": "x"})
    assert list(client.environment.headers) == ["x-apollo-connection"]


@pytest.mark.parametrize("pings", [True, False])
@in_loop
async def test_the_older_client_expects_keep_alive_only_after_the_first(pings: bool) -> None:
    client = GraphqlClient(OLDER, rules=GraphqlRules(pings=pings), is_ready=False)
    client.say(type="connection_init")
    assert client.take() == [{"type": "connection_ack"}, *[{"type": "ka"}] * pings]


@in_loop
async def test_a_refused_connection(protocol: str) -> None:
    client = GraphqlClient(protocol, is_ready=False)
    refusal = Disconnected(Reason.UNAUTHORIZED, reconnect=False)
    refused = Decision(verdict=Verdict.FAILURE, replies=(refusal,))
    client.application.prepare("connect", refused)
    client.say(type="connection_init")
    error = {"type": "connection_error", "payload": {"message": "Forbidden"}}
    assert client.take() == ([error] if protocol == OLDER else [])
    assert client.closed == (4403, "Forbidden")


@in_loop
async def test_a_connection_about_which_the_application_could_not_be_asked(protocol: str) -> None:
    client = GraphqlClient(protocol, is_ready=False)
    client.application.prepare("connect", AppError("it is away"))
    client.say(type="connection_init")
    assert client.closed == (1013, "Try again later"), "graphql-ws tries again after this code"


@in_loop
async def test_pings_before_and_after_the_introduction() -> None:
    client = GraphqlClient(is_ready=False)
    client.say(type="ping")
    client.say(type="pong")
    assert client.take() == [{"type": "pong"}]
    client.say(type="connection_init")
    client.say(type="ping", payload={"at": 1})
    client.say(type="pong")
    assert client.take() == [{"type": "connection_ack"}, {"type": "pong"}]
    assert client.closed is None


# Operations


@pytest.mark.parametrize("write", [sending, transmitting])
@in_loop
async def test_a_query_is_answered_once_and_unsubscribed(protocol: str, write: Any) -> None:
    client = Speaker(protocol)
    asked = {
        "query": "query A($x: Int) { a }",
        "variables": {"x": 1, "big": 12345678901234567890123},
        "operationName": "A",
        "extensions": {"persistedQuery": {"version": 1}},
        "operationId": "abc/1",
    }
    client.application.prepare("subscribe", accepting("1"))
    client.application.prepare("perform", write("1", {"result": ONE, "more": False}))
    client.start("1", {**asked, "action": "destroy", "other": None})
    assert client.take() == [client.next(ONE), DONE]
    assert [each[0] for each in client.calls] == ["subscribe", "perform", "unsubscribe"]
    assert client.calls[0][1] == client.calls[2][1] == identifier_of("1")
    assert json.loads(client.calls[1][2]) == {"action": "execute", **asked}
    assert not client.session.subscriptions
    assert client.heart.counters.failed_client_msg_total == 0


@in_loop
async def test_channel_and_action_have_the_names_of_the_options() -> None:
    client = GraphqlClient(rules=GraphqlRules(channel="Api", action="run"))
    client.application.prepare("subscribe", Decision())
    client.say(type="subscribe", id="x", payload=QUERY)
    (_, identifier), (_, _, data) = client.calls
    assert json.loads(identifier) == {"channel": "Api", "channelId": "x"}
    assert json.loads(data) == {"action": "run", **QUERY}


@pytest.mark.parametrize("first", [{"data": None}, None], ids=["graphql-ruby", "nothing"])
@in_loop
async def test_a_subscription_gets_what_is_published_until_its_client_stops_it(
    protocol: str, first: object
) -> None:
    client = Speaker(protocol)
    client.application.prepare("subscribe", accepting("1"))
    client.application.prepare(
        "perform",
        Decision(
            streams=accepting("1", "news").streams,
            replies=sending("1", {"result": first, "more": True}).replies,
        ),
    )
    client.start()
    assert client.take() == [], "that it has begun is no result"
    for number in (1, 2):
        client.heart.publish("news", {"result": {"data": number}, "more": True})
    assert client.take() == [client.next({"data": 1}), client.next({"data": 2})]
    client.stop()
    assert client.take() == ([DONE] if protocol == OLDER else [])
    assert client.calls[-1] == ("unsubscribe", identifier_of("1"))
    client.heart.publish("news", {"result": ONE, "more": True})
    client.stop()
    assert client.take() == []
    assert client.heart.counters.failed_client_msg_total == 0


@in_loop
async def test_operations_of_one_connection_do_not_mix(protocol: str) -> None:
    client = Speaker(protocol)
    for name in "ab":
        client.application.prepare("subscribe", accepting(name, name))
        client.start(name)
    client.heart.publish("b", {"result": ONE, "more": True})
    client.heart.publish("a", {"result": ONE, "more": True})
    assert client.take() == [client.next(ONE, "b"), client.next(ONE, "a")]
    client.leave()
    await settle()
    ((_, ended),) = client.application.ended
    assert ended == (identifier_of("a"), identifier_of("b"))


@pytest.mark.parametrize("last", [{"more": False}, {"result": ONE}, {"result": ONE, "more": None}])
@in_loop
async def test_the_channel_ends_a_subscription(protocol: str, last: dict[str, object]) -> None:
    client = Speaker(protocol)
    client.application.prepare("subscribe", accepting("1", "news"))
    client.start()
    client.heart.publish("news", last)
    expected = [client.next(ONE)] if "result" in last else []
    assert client.take() == [*expected, DONE]
    client.heart.publish("news", last)
    assert client.take() == []
    client.stop()
    assert client.calls[-1] == ("unsubscribe", identifier_of("1")), "with the next message"
    assert client.take() == []
    client.start("1")
    assert [each[0] for each in client.calls[-2:]] == ["subscribe", "perform"]


@in_loop
async def test_errors_without_data_are_the_end(protocol: str) -> None:
    client = Speaker(protocol)
    client.application.prepare("subscribe", accepting("1"))
    result = {"errors": [{"message": "Unknown field"}], "extensions": {}}
    client.application.prepare("perform", sending("1", {"result": result, "more": True}))
    client.start()
    error = {"id": "1", "type": "error", "payload": result["errors"]}
    assert client.take() == ([client.next(result), DONE] if protocol == OLDER else [error])
    assert client.calls[-1][0] == "unsubscribe"


@in_loop
async def test_errors_beside_data_are_a_result(protocol: str) -> None:
    client = Speaker(protocol)
    client.application.prepare("subscribe", accepting("1"))
    result = {"data": None, "errors": [{"message": "it failed"}]}
    client.application.prepare("perform", sending("1", {"result": result, "more": True}))
    client.start()
    assert client.take() == [client.next(result)]


def errors_of(protocol: str, text: str) -> dict[str, object]:
    error = {"message": text}
    return {"id": "1", "type": "error", "payload": error if protocol == OLDER else [error]}


@pytest.mark.parametrize(
    "decision",
    [REJECTED, None],
    ids=["rejected", "too many"],
)
@in_loop
async def test_a_rejected_subscription_is_an_error(
    protocol: str, decision: Decision | None
) -> None:
    client = Speaker(protocol, heart=Heart(limits=ClientLimits(max_subscriptions=1)))
    if decision is None:
        client.application.prepare("subscribe", accepting("2"))
        client.start("2")
    else:
        client.application.prepare("subscribe", decision)
    before = client.calls
    for _ in range(2):
        client.start()
        assert client.take() == [errors_of(protocol, "The subscription was rejected")]
        client.stop()
        client.application.prepare("subscribe", *[REJECTED] * bool(decision))
    assert [each[0] for each in client.calls[len(before) :]] == ["subscribe"] * 2 * bool(decision)


@pytest.mark.parametrize("failure", [AppError("away"), Decision(verdict=Verdict.ERROR)])
@pytest.mark.parametrize("step", ["subscribe", "perform"])
@in_loop
async def test_an_application_that_fails_is_an_error(
    protocol: str, step: str, failure: Any
) -> None:
    client = Speaker(protocol)
    if step == "perform":
        client.application.prepare("subscribe", accepting("1"))
    client.application.prepare(step, failure)
    client.start()
    why = "The application could not execute the operation"
    assert client.take() == [errors_of(protocol, why)]
    steps = ["subscribe"] if step == "subscribe" else ["subscribe", "perform", "unsubscribe"]
    assert [each[0] for each in client.calls] == steps


@pytest.mark.parametrize(
    "message", [b"1", b"[]", b"{}", b'{"result":1}', b'{"result":{},"more":1}']
)
@in_loop
async def test_a_message_that_is_no_result_is_an_error(protocol: str, message: bytes) -> None:
    client = Speaker(protocol)
    client.application.prepare("subscribe", accepting("1", "news"))
    client.start()
    client.heart.publish("news", json.loads(message))
    why = "The application sent no result of the operation"
    assert client.take() == [errors_of(protocol, why)]


@in_loop
async def test_a_client_that_stops_while_its_operation_is_decided(protocol: str) -> None:
    client = Speaker(protocol)
    subscribed = client.application.later("subscribe")
    client.start()
    client.stop()
    client.start()
    client.start("2")
    client.application.prepare("subscribe", accepting("1#1"), accepting("2"))
    client.application.prepare("perform", sending("1#1", {"result": ONE, "more": False}))
    subscribed.set_result(accepting("1"))
    await settle()
    heard = [each for each in client.take() if each != DONE]
    assert heard == [client.next(ONE)], "of the second operation with this id"
    first, second, third = (identifier_of(name) for name in ("1", "1#1", "2"))
    assert [each[:2] for each in client.calls] == [
        ("subscribe", first),
        ("unsubscribe", first),
        ("subscribe", second),
        ("perform", second),
        ("unsubscribe", second),
        ("subscribe", third),
        ("perform", third),
    ]
    assert client.heart.counters.failed_client_msg_total == 0


@in_loop
async def test_a_client_that_stops_while_its_query_is_executed(protocol: str) -> None:
    client = Speaker(protocol)
    client.application.prepare("subscribe", accepting("1"))
    performed = client.application.later("perform")
    client.start()
    client.stop()
    performed.set_result(sending("1", {"result": ONE, "more": False}))
    await settle()
    assert client.take() == ([DONE] if protocol == OLDER else [])
    assert client.calls[-1][0] == "unsubscribe"
    assert not client.session.subscriptions


@in_loop
async def test_a_stopped_operation_that_is_rejected_leaves_nothing(protocol: str) -> None:
    client = Speaker(protocol)
    decided = client.application.later("subscribe")
    client.start()
    client.stop()
    decided.set_result(REJECTED)
    await settle()
    assert client.take() == ([DONE] if protocol == OLDER else [])
    assert [each[0] for each in client.calls] == ["subscribe"]
    assert client.heart.counters.failed_client_msg_total == 0
    client.application.prepare("subscribe", accepting("1", "news"))
    client.start()
    client.heart.publish("news", {"result": ONE, "more": True})
    assert client.take() == [client.next(ONE)]


# What the newer protocol forbids, and the older one answers


INVALID: list[dict[str, object]] = [
    {"type": "subscribe", "payload": QUERY},
    {"type": "subscribe", "id": "", "payload": QUERY},
    {"type": "subscribe", "id": 1, "payload": QUERY},
    {"type": "subscribe", "id": "1"},
    {"type": "subscribe", "id": "1", "payload": {}},
    {"type": "subscribe", "id": "1", "payload": {"query": 1}},
    {"type": "subscribe", "id": "1", "payload": {"query": "{a}", "variables": []}},
    {"type": "complete"},
    {"type": "start", "id": "1", "payload": QUERY},
    {"type": "connection_ack"},
    {"id": "1"},
]


@pytest.mark.parametrize("message", INVALID, ids=str)
@in_loop
async def test_an_invalid_message_closes_the_connection(message: dict[str, object]) -> None:
    client = GraphqlClient()
    client.say(**message)
    assert client.closed is not None
    assert client.closed[0] == 4400
    assert client.closed[1].startswith("Invalid message: ")
    assert client.calls == []
    assert client.heart.counters.failed_client_msg_total == 1


@in_loop
async def test_two_operations_with_one_id() -> None:
    client = GraphqlClient()
    client.application.prepare("subscribe", accepting("é"))
    client.say(type="subscribe", id="é", payload=QUERY)
    client.say(type="subscribe", id="é", payload=QUERY)
    assert client.closed == (4409, "Subscriber for é already exists")


@in_loop
async def test_a_second_introduction(protocol: str) -> None:
    client = GraphqlClient(protocol)
    client.say(type="connection_init")
    assert client.closed == (4429, "Too many initialisation requests")


@in_loop
async def test_operations_before_the_acknowledgement(protocol: str) -> None:
    """The older client does not wait for it."""
    client = Speaker(protocol, is_ready=False)
    connected = client.application.later("connect")
    client.say(type="connection_init")
    client.application.prepare("subscribe", accepting("1"))
    client.application.prepare("perform", sending("1", {"result": ONE, "more": False}))
    client.start()
    accepted = Decision(identifiers="x", transmissions=('{"type":"welcome"}',))
    connected.set_result(accepted)
    await settle()
    if protocol == NEWER:
        assert client.closed == (4401, "Unauthorized")
        return
    heard = [each["type"] for each in client.take()]
    assert heard == ["connection_ack", "ka", "data", "complete"]


@in_loop
async def test_the_older_protocol_answers_what_it_does_not_understand() -> None:
    client = Speaker(OLDER)
    client.say_raw(b"{")
    client.say(type="unknown", id="7")
    client.say(type="start", id="8")
    client.say(type="connection_terminate")
    (malformed, unknown, no_query) = client.take()
    assert malformed["type"] == "connection_error"
    assert unknown == {"type": "error", "id": "7", "payload": {"message": "Invalid message type!"}}
    assert (no_query["type"], no_query["id"]) == ("error", "8")
    assert client.closed is None
    assert client.calls == []


@in_loop
async def test_an_operation_that_the_older_client_starts_again_replaces_the_first() -> None:
    """The client does so when it connects again while an operation waits to be sent."""
    client = Speaker(OLDER)
    client.application.prepare("subscribe", accepting("1", "first"), accepting("1#1", "second"))
    client.start()
    client.start()
    for stream in ("first", "second"):
        client.heart.publish(stream, {"result": {"data": stream}, "more": True})
    assert client.take() == [client.next({"data": "second"})]
    client.say(type="connection_terminate")
    assert not client.session.subscriptions


# Ends


@pytest.mark.parametrize(
    ("reconnect", "closed"), [(True, (1012, "Closed remotely")), (False, (4401, "Closed remotely"))]
)
@in_loop
async def test_a_remote_disconnect_says_by_its_code_whether_to_return(
    protocol: str, reconnect: bool, closed: tuple[int, str]
) -> None:
    client = GraphqlClient(protocol)
    command = RemoteDisconnect(client.environment.identifiers, reconnect=reconnect)
    client.heart.hub.deliver(command)
    await settle()
    assert client.closed == closed
    assert client.take() == []


@in_loop
async def test_the_other_ends() -> None:
    for reason, code in (
        (Reason.SERVER_RESTART, 1001),
        (Reason.SLOW_CLIENT, 1013),
        (Reason.IDLE_TIMEOUT, 4408),
    ):
        client = GraphqlClient()
        client.session.close(reason)
        assert client.closed is not None
        assert client.closed[0] == code


def test_a_message_for_many_clients_is_read_once() -> None:
    message = b'{"result":{"data":{"n":1}},"more":true}'
    assert read_channel_message(message) is read_channel_message(bytes(bytearray(message)))


@in_loop
async def test_messages_of_other_kinds_are_not_for_operations(protocol: str) -> None:
    client = Speaker(protocol)
    client.application.prepare("subscribe", accepting("1"))
    text = json.dumps({"identifier": identifier_of("1"), "message": {"more": False}, "type": "x"})
    client.application.prepare("perform", Decision(transmissions=(text, "no JSON")))
    client.start()
    client.session.send(Confirmed(identifier_of("1")))
    assert client.take() == []


_NAMES = st.sampled_from(["1", "2", "é", "1#1", ""])
_MESSAGES = st.fixed_dictionaries(
    {
        "type": st.sampled_from(
            ["subscribe", "start", "complete", "stop", "ping", "connection_terminate", "next"]
        ),
    },
    optional={
        "id": _NAMES | st.none() | st.integers(),
        "payload": st.just(QUERY) | st.none() | st.just({"query": 1}),
    },
)
_OF_THE_CHANNEL: st.SearchStrategy[dict[str, object]] = st.fixed_dictionaries(
    {},
    optional={
        "more": st.booleans() | st.none(),
        "result": st.sampled_from([None, 1, {}, ONE, {"data": None}, {"errors": [{}]}]),
    },
)
_LINES = (_MESSAGES | _OF_THE_CHANNEL).map(lambda each: json.dumps(each).encode())


@given(st.lists(_LINES | st.binary(max_size=20), max_size=20), st.integers(0, 9))
def test_whatever_a_client_and_the_channel_send_no_operation_is_left(
    lines: list[bytes], seed: int
) -> None:
    """And the node is asked for nothing that it does not have: see tests/fuzz/graphql.py."""
    check(b"\n".join([b'{"type":"connection_init"}', *lines]), Random(seed))
