"""The messages of a Pusher client: which become commands, and what is refused."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from catenary.config.pusher_apps import PusherApp
from catenary.messages.commands import (
    ClientPing,
    ClientPong,
    CloseConnection,
    Command,
    DirectReply,
    HistoryRequest,
    Identify,
    Join,
    Subscribe,
    Unsubscribe,
    Whisper,
)
from catenary.messages.environment import Environment
from catenary.messages.names import Identifier, Sid
from catenary.metrics.counters import Counters
from catenary.ports import Decode
from tests.parts.pusher import APP, SIGNATURES, pusher_protocol, signin, subscription

SOCKET = "12.34"
MEMBER = {"user_id": "7", "user_info": {"n": 1}}
LAST = HistoryRequest(since_s=0, newest=1)


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def reader(
    app: PusherApp = APP, clock: Clock | None = None, counters: Counters | None = None
) -> Decode:
    protocol = pusher_protocol(app, clock or Clock(), counters)
    assert protocol.reader is not None
    return protocol.reader(Environment(Sid(SOCKET), "/", {}))


def read(text: str, decode: Decode | None = None) -> Any:
    return (decode or reader())(text.encode())


def answer(command: Command | tuple[Command, ...] | None) -> Any:
    assert isinstance(command, DirectReply)
    return json.loads(command.payload)


def subscribe(channel: str, **data: object) -> str:
    return json.dumps({"event": "pusher:subscribe", "data": {"channel": channel, **data}})


def send(name: str, channel: str, data: object = None) -> str:
    return json.dumps({"event": name, "channel": channel, "data": data})


@pytest.mark.parametrize(
    ("text", "command"),
    [
        ('{"event":"pusher:ping","data":{}}', ClientPing()),
        ('{"event":"pusher:ping"}', ClientPing()),
        ('{"event":"pusher:pong","data":"{}"}', ClientPong()),
        (subscribe("news"), Subscribe(Identifier("news"))),
        (subscribe("news", auth=None, channel_data=None), Subscribe(Identifier("news"))),
        (subscribe("cache-news"), Subscribe(Identifier("cache-news"), LAST)),
        (
            '{"event":"pusher:unsubscribe","data":{"channel":"news"}}',
            Unsubscribe(Identifier("news")),
        ),
    ],
)
def test_messages_that_need_no_signature(text: str, command: Command) -> None:
    assert read(text) == command


@pytest.mark.parametrize(
    ("channel", "history"),
    [
        ("private-x", None),
        ("private-cache-x", LAST),
        ("private-encrypted-x", None),
        ("private-encrypted-cache-x", LAST),
    ],
)
def test_a_signed_subscription(channel: str, history: HistoryRequest | None) -> None:
    """Neither the signature nor the socket id is in the command: identifiers are shared by all clients."""
    assert read(subscription(SOCKET, channel)) == Subscribe(Identifier(channel), history)


@pytest.mark.parametrize(("channel", "history"), [("presence-x", None), ("presence-cache-x", LAST)])
def test_a_signed_member(channel: str, history: HistoryRequest | None) -> None:
    identifier = Identifier(channel)
    join = Join(identifier, "7", '{"n": 1}', is_bound=True)
    command = Subscribe(identifier, history, join, reads_members=True)
    assert read(subscription(SOCKET, channel, MEMBER)) == command


def test_a_user_id_may_be_a_number() -> None:
    command = read(subscription(SOCKET, "presence-x", {"user_id": 7}))
    assert command.join == Join(Identifier("presence-x"), "7", "null", is_bound=True)


def signed(channel: str, **data: Any) -> str:
    auth = SIGNATURES.subscription(SOCKET, channel, data.get("channel_data"))
    return subscribe(channel, auth=auth, **data)


@pytest.mark.parametrize(
    ("text", "channel", "kind", "status"),
    [
        (subscribe("private-x"), "private-x", "AuthError", 401),
        (subscribe("private-x", auth=""), "private-x", "AuthError", 401),
        (subscribe("private-x", auth="key:0"), "private-x", "AuthError", 401),
        (subscription("12.35", "private-x"), "private-x", "AuthError", 401),
        (subscribe("presence-x", auth="key:0"), "presence-x", "AuthError", 401),
        (signed("presence-x"), "presence-x", "AuthError", 401),
        (signed("presence-x", channel_data="7"), "presence-x", "AuthError", 401),
        (signed("presence-x", channel_data="{}"), "presence-x", "AuthError", 401),
        (
            subscription(SOCKET, "presence-x", {"user_id": ""}),
            "presence-x",
            "LimitReached",
            413,
        ),
        (
            subscription(SOCKET, "presence-x", {"user_id": "x" * 129}),
            "presence-x",
            "LimitReached",
            413,
        ),
        (
            subscription(SOCKET, "presence-x", {"user_id": "7", "user_info": "x" * 2_048}),
            "presence-x",
            "LimitReached",
            413,
        ),
        (subscribe(""), "", "InvalidChannel", 400),
        (subscribe("a b"), "a b", "InvalidChannel", 400),
        (subscribe("pusher:other:news"), "pusher:other:news", "InvalidChannel", 400),
        (subscribe("#server-to-user-7"), "#server-to-user-7", "InvalidChannel", 400),
        (subscribe("x" * 300), "x" * 200, "InvalidChannel", 400),
    ],
)
def test_refused_subscriptions(text: str, channel: str, kind: str, status: int) -> None:
    counters = Counters()
    said = answer(read(text, reader(counters=counters)))
    assert (said["event"], said["channel"]) == ("pusher:subscription_error", channel)
    assert (said["data"]["type"], said["data"]["status"]) == (kind, status)
    assert said["data"]["error"]
    assert counters.pusher_refused_subscriptions_total == 1


def test_without_a_secret_there_are_only_public_channels() -> None:
    decode = reader(PusherApp(id="a", key="key", secret=""))
    assert read(subscribe("news"), decode) == Subscribe(Identifier("news"))
    assert answer(read(subscription(SOCKET, "private-x"), decode))["data"]["status"] == 401


# Client events


def test_a_client_event_is_a_whisper_in_the_form_of_an_event() -> None:
    command = read(send("client-typing", "private-x", {"a": [1]}))
    assert isinstance(command, Whisper)
    assert command.identifier == "private-x"
    assert json.loads(command.data) == {"event": "client-typing", "data": {"a": [1]}}


def test_the_sender_on_a_presence_channel_is_the_signed_member() -> None:
    decode = reader()
    read(subscription(SOCKET, "presence-x", MEMBER), decode)
    forged = json.dumps({"event": "client-x", "channel": "presence-x", "data": 1, "user_id": "9"})
    assert json.loads(read(forged, decode).data)["user_id"] == "7"
    read('{"event":"pusher:unsubscribe","data":{"channel":"presence-x"}}', decode)
    assert "user_id" not in json.loads(read(forged, decode).data)


@pytest.mark.parametrize(
    ("text", "app"),
    [
        (send("client-x", "news"), APP),
        (send("client-x", "private-encrypted-x"), APP),
        (send("client-x", "private-encrypted-cache-x"), APP),
        ('{"event":"client-x"}', APP),
        (send("client-" + "x" * 200, "private-x"), APP),
        (send("client-x", "private-x", "x" * 10_240), APP),
        (
            send("client-x", "private-x"),
            PusherApp(id="a", key="k", secret="s", client_events=False),
        ),
    ],
)
def test_refused_client_events(text: str, app: PusherApp) -> None:
    counters = Counters()
    said = answer(read(text, reader(app, counters=counters)))
    assert said["event"] == "pusher:error"
    assert said["data"]["code"] == 4301
    assert counters.pusher_refused_client_events_total == 1


def test_ten_client_events_a_second() -> None:
    clock = Clock()
    decode = reader(clock=clock)
    event = send("client-x", "private-x")
    sent = [read(event, decode) for _ in range(12)]
    assert [isinstance(each, Whisper) for each in sent] == [True] * 10 + [False] * 2
    assert answer(sent[-1])["data"] == {
        "code": 4301,
        "message": "Expected up to 10 client events a second",
    }
    clock.now += 1
    assert isinstance(read(event, decode), Whisper)


# Users


def test_a_user_is_identified_and_may_read_its_channel() -> None:
    decode = reader()
    identify, said = read(signin(SOCKET, {"id": "7"}), decode)
    assert identify == Identify('{"pusher_app":"app","user":"7"}')
    message = answer(said)
    assert message["event"] == "pusher:signin_success"
    assert json.loads(json.loads(message["data"])["user_data"]) == {"id": "7"}
    assert read(subscribe("#server-to-user-7"), decode) == Subscribe(
        Identifier("#server-to-user-7")
    )
    assert answer(read(subscribe("#server-to-user-8"), decode))["data"]["status"] == 400


@pytest.mark.parametrize(
    "text",
    [
        '{"event":"pusher:signin"}',
        '{"event":"pusher:signin","data":{"auth":"key:0","user_data":"{}"}}',
        '{"event":"pusher:signin","data":{"auth":"key:0","user_data":"{\\"id\\":\\"7\\"}"}}',
        signin("12.35", {"id": "7"}),
        signin(SOCKET, {"id": ""}),
        signin(SOCKET, {"id": "x" * 129}),
        signin(SOCKET, {"name": "Ann"}),
    ],
)
def test_a_user_with_a_wrong_signature_is_disconnected(text: str) -> None:
    said, closed = read(text)
    assert answer(said)["data"]["code"] == 4009
    assert isinstance(closed, CloseConnection)
    assert closed.code == 4009


def test_a_connection_belongs_to_one_user() -> None:
    decode = reader()
    read(signin(SOCKET, {"id": "7"}), decode)
    assert isinstance(read(signin(SOCKET, {"id": "7"}), decode)[0], Identify)
    assert isinstance(read(signin(SOCKET, {"id": "8"}), decode)[1], CloseConnection)


# Garbage


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x",
        "[]",
        "{}",
        '{"event":7}',
        '{"event":"other"}',
        '{"event":"pusher:subscribe"}',
        '{"event":"pusher:subscribe","data":"news"}',
        '{"event":"pusher:subscribe","data":{"channel":7}}',
        '{"event":"pusher:unsubscribe","data":[]}',
        '{"event":"client-x","channel":7}',
        '{"event":"pusher:subscribe","data":' + "[" * 10_000 + "]" * 10_000 + "}",
    ],
)
def test_other_messages_are_answered_with_an_error(text: str) -> None:
    said = answer(read(text))
    assert said["event"] == "pusher:error"
    assert said["data"]["code"] is None


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
NAMES = st.sampled_from(
    ["pusher:subscribe", "pusher:unsubscribe", "pusher:signin", "pusher:ping", "client-x"]
)
DATA = st.fixed_dictionaries(
    {},
    optional={
        "channel": st.sampled_from(["news", "private-x", "presence-x"]) | JSON,
        "auth": st.text() | JSON,
        "channel_data": st.text() | JSON,
        "user_data": st.text() | JSON,
    },
)


@given(st.lists(st.tuples(NAMES | JSON, DATA | JSON, st.text() | JSON), max_size=5))
def test_nothing_is_raised_and_nothing_private_is_granted(messages: list[Any]) -> None:
    decode = reader()
    for name, data, channel in messages:
        text = json.dumps({"event": name, "data": data, "channel": channel})
        command = read(text, decode)
        if isinstance(command, Subscribe):
            assert not command.identifier.startswith(("private-", "presence-", "#"))


def test_bytes_that_are_not_utf8_are_answered() -> None:
    """They may come in a binary message, which the transport does not check."""
    for payload in (
        b'{"event":"client-x","channel":"private-x","data":{"\xa9":1}}',
        b'{"event":"pusher:signin","data":{"auth":"\xff"}}',
    ):
        assert answer(reader()(payload))["event"] == "pusher:error"


@given(st.binary())
def test_any_bytes_are_answered(payload: bytes) -> None:
    assert isinstance(reader()(payload), DirectReply)
