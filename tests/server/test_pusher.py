"""Pusher's WebSockets of a running server: the handshake, what is refused, and what other clients can not reach."""

import json
import re
import signal
from collections.abc import Iterator
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect
from websockets.typing import Origin

from catenary.protocols.pusher_events import user_identifiers
from catenary.server.pusher import new_socket_id
from tests.clients.test_recovery import Publisher
from tests.parts.cable_client import CableClient, confirmed, identifier, rejected
from tests.parts.pusher import FLAGS, SIGNATURES, PusherClient, pusher_client, signin, subscription
from tests.parts.server import CableServer, cable_server
from tests.parts.tokens import SECRET, signed_name
from tests.server.test_figures import scrape

OTHER_APP = (
    '[{"id":"other","key":"other","secret":"other","client_events":false,"max_connections":1}]'
)
SERVER = (
    *(
        "--norpc",
        "--noauth",
        "--public_streams",
        "--broadcast_adapter=http",
        "--metrics_http=/metrics",
    ),
    *(f"--streams_secret={SECRET}", f"--pusher_apps={OTHER_APP}", "--broadcast_key=none"),
    *FLAGS,
)


@pytest.fixture(scope="module")
def server() -> Iterator[CableServer]:
    with cable_server(*SERVER) as server:
        yield server


@pytest.fixture
def publisher(server: CableServer) -> Iterator[Publisher]:
    publisher = Publisher(server)
    yield publisher
    publisher.close()


@pytest.fixture
def client(server: CableServer) -> Iterator[PusherClient]:
    with pusher_client(server.port) as client:
        yield client


def test_socket_ids_have_the_form_that_pusher_s_libraries_require() -> None:
    made = {new_socket_id() for _ in range(1000)}
    assert len(made) == 1000
    assert all(re.fullmatch(r"\d+\.\d+", each) for each in made)


def test_an_app_without_a_secret_is_reported_at_the_start() -> None:
    flags = ("--pusher_app_id=main", "--pusher_app_key=main-key")
    with cable_server("--norpc", "--broadcast_adapter=http", *flags) as server:
        server.wait_for_output("Pusher app main has no secret: public channels only")


def closed_with(client: PusherClient) -> int:
    """The close code that the client receives next."""
    with pytest.raises(ConnectionClosed) as closed:
        client.receive()
    assert closed.value.rcvd is not None
    return closed.value.rcvd.code


# The handshake


@pytest.mark.parametrize(
    ("target", "code"),
    [
        ("/app/unknown?protocol=7", 4001),
        ("/app/?protocol=7", 4005),
        ("/app/key", 4008),
        ("/app/key?protocol=", 4008),
        ("/app/key?protocol=x", 4006),
        ("/app/key?protocol=4", 4007),
        ("/app/key?protocol=8", 4007),
    ],
)
def test_a_connection_is_refused_with_a_code_of_the_protocol(
    server: CableServer, target: str, code: int
) -> None:
    with connect(f"ws://127.0.0.1:{server.port}{target}") as websocket:
        client = PusherClient(websocket)
        error = client.receive()
        assert (error["event"], error["data"]["code"]) == ("pusher:error", code)
        assert closed_with(client) == code


@pytest.mark.parametrize("version", [5, 6, 7])
def test_versions_that_only_add_are_served(server: CableServer, version: int) -> None:
    query = f"client=js&version=8.6.0&protocol={version}&flash=false"
    with pusher_client(server.port, query=query) as client:
        assert re.fullmatch(r"\d+\.\d+", client.socket_id)


def test_an_app_over_its_quota_refuses_until_a_client_has_left(server: CableServer) -> None:
    with pusher_client(server.port, "other"):
        with connect(f"ws://127.0.0.1:{server.port}/app/other?protocol=7") as websocket:
            assert PusherClient(websocket).receive()["data"]["code"] == 4004
        with pusher_client(server.port):
            pass
    for _ in range(100):
        with connect(f"ws://127.0.0.1:{server.port}/app/other?protocol=7") as websocket:
            if PusherClient(websocket).receive()["event"] == "pusher:connection_established":
                return
    raise AssertionError("expected a place when the client has left")


# Channels


def test_a_ping_is_answered(client: PusherClient) -> None:
    client.send('{"event":"pusher:ping","data":{}}')
    assert client.receive() == {"event": "pusher:pong", "data": {}}


def test_a_broadcast_reaches_pusher_clients_and_the_reverse(
    server: CableServer, publisher: Publisher, client: PusherClient
) -> None:
    """A Pusher event is {event, data} for Action Cable clients of the channel's stream."""
    client.subscribe("private-chat")
    name = identifier("$pubsub", signed_stream_name=signed_name("private-chat", SECRET))
    with CableClient(server.cable_url) as other, pusher_client(server.port) as second:
        other.receive_welcome()
        other.subscribe(name)
        second.subscribe("private-chat")
        publisher.publish("private-chat", {"event": "new", "data": {"a": 1}})
        for each in (client, second):
            assert each.receive() == {"event": "new", "channel": "private-chat", "data": {"a": 1}}
        assert other.receive()["message"] == {"event": "new", "data": {"a": 1}}
        second.send('{"event":"client-typing","channel":"private-chat","data":{"b":2}}')
        event = {"event": "client-typing", "data": {"b": 2}}
        assert client.receive() == {**event, "channel": "private-chat"}
        assert other.receive()["message"] == event


def test_a_publication_may_exclude_a_socket(
    server: CableServer, publisher: Publisher, client: PusherClient
) -> None:
    client.subscribe("news")
    with pusher_client(server.port) as second:
        second.subscribe("news")
        publisher._post(
            {
                "stream": "news",
                "data": '{"event":"a","data":"1"}',
                "meta": {"exclude_socket": client.socket_id},
            }
        )
        publisher.publish("news", {"event": "b", "data": "2"})
        assert second.receive()["event"] == "a"
        assert client.receive()["event"] == second.receive()["event"] == "b"


def test_apps_are_apart(server: CableServer, publisher: Publisher, client: PusherClient) -> None:
    client.subscribe("news")
    with pusher_client(server.port, "other") as other:
        other.subscribe("news")
        publisher.publish("news", {"event": "main", "data": "1"})
        publisher.publish("pusher:other:news", {"event": "other", "data": "1"})
        assert client.receive()["event"] == "main"
        assert other.receive()["event"] == "other"
        other.send(subscription(other.socket_id, "private-x"))
        assert other.receive()["data"]["status"] == 401  # signed with the key of the main app


def test_a_cache_channel_sends_the_last_event(publisher: Publisher, client: PusherClient) -> None:
    client.subscribe("cache-prices")
    assert client.receive() == {"event": "pusher:cache_miss", "channel": "cache-prices", "data": {}}
    for number in (1, 2):
        publisher.publish("cache-prices", {"event": "price", "data": str(number)})
        assert client.receive()["data"] == number
    client.send('{"event":"pusher:unsubscribe","data":{"channel":"cache-prices"}}')
    client.subscribe("cache-prices")
    assert client.receive() == {"event": "price", "channel": "cache-prices", "data": 2}


def test_a_user_can_be_disconnected_on_all_connections(
    server: CableServer, publisher: Publisher, client: PusherClient
) -> None:
    with pusher_client(server.port) as second:
        for each in (client, second):
            each.send(signin(each.socket_id, {"id": "u7"}))
            assert each.receive()["event"] == "pusher:signin_success"
        client.subscribe("#server-to-user-u7")
        publisher.publish("#server-to-user-u7", {"event": "hello", "data": "1"})
        assert client.receive()["event"] == "hello"
        publisher.disconnect(user_identifiers("app", "u7"), reconnect=False)
        for each in (client, second):
            assert each.receive()["data"]["code"] == 4009
            assert closed_with(each) == 4009


def test_a_wrong_user_is_disconnected(client: PusherClient) -> None:
    client.send(signin("1.1", {"id": "u7"}))
    assert client.receive()["data"]["code"] == 4009
    assert closed_with(client) == 4009


def test_a_refused_subscription_is_answered_and_counted(
    server: CableServer, client: PusherClient
) -> None:
    before = scrape(server.port)["pusher_refused_subscriptions_total"]
    client.send(subscription("1.1", "private-x"))
    assert client.receive() == {
        "event": "pusher:subscription_error",
        "channel": "private-x",
        "data": {"type": "AuthError", "error": "The signature is invalid", "status": 401},
    }
    assert scrape(server.port)["pusher_refused_subscriptions_total"] == before + 1


def test_client_events_have_a_rate(server: CableServer, client: PusherClient) -> None:
    client.subscribe("private-fast")
    with pusher_client(server.port) as second:
        second.subscribe("private-fast")
        for number in range(15):
            client.send(
                json.dumps({"event": "client-n", "channel": "private-fast", "data": number})
            )
        errors = [client.receive()["data"]["code"] for _ in range(5)]
        assert errors == [4301] * 5
        assert [second.receive()["data"] for _ in range(10)] == list(range(10))


def test_a_message_over_the_limit_closes_the_connection(client: PusherClient) -> None:
    client.send('{"event":"' + "x" * 70_000 + '"}')
    assert closed_with(client) == 1009


# Attacks


@pytest.mark.parametrize(
    "name",
    [
        "private-x",
        '"private-x"',
        '{"channel":"$pusher","stream":"private-x"}',
        '{"channel":"$pubsub","stream_name":"private-x"}',
        '{"channel":"$pubsub","stream_name":"presence-x"}',
        '{"channel":"$pubsub","stream_name":"#server-to-user-7"}',
        '{"channel":"$pubsub","stream_name":"pusher:other:private-x"}',
        '{"channel":"$pubsub","stream_name":"pusher:other:#server-to-user-7"}',
        '{"channel":"pusher:app","stream":"private-x"}',
    ],
)
def test_a_client_of_the_cable_reaches_no_private_channel(server: CableServer, name: str) -> None:
    """Nobody has signed it, even where all streams are public."""
    public = identifier("$pubsub", stream_name="a")
    with CableClient(server.cable_url, headers={"X-Request-ID": "1.1"}) as client:
        client.receive_welcome()
        client.send("subscribe", identifier=name)
        client.send("subscribe", identifier=public)
        answers = list(iter(client.receive, confirmed(public)))
        assert answers in ([], [rejected(name)])


def test_a_signature_for_another_socket_opens_nothing(client: PusherClient) -> None:
    """A client can choose neither its socket id nor what is signed."""
    auth = SIGNATURES.subscription("1.1", "private-x")
    for message in (
        {"event": "pusher:subscribe", "data": {"channel": "private-x", "auth": auth}},
        {
            "event": "pusher:subscribe",
            "socket_id": "1.1",
            "data": {"channel": "private-x", "auth": auth},
        },
    ):
        client.send(json.dumps(message))
        assert client.receive()["event"] == "pusher:subscription_error"


def test_action_cable_s_commands_mean_nothing_here(client: PusherClient) -> None:
    client.send('{"command":"subscribe","identifier":"private-x"}')
    assert client.receive()["event"] == "pusher:error"


# The end


def test_a_full_server_and_one_that_stops_have_codes_after_which_clients_return() -> None:
    with cable_server(*FLAGS, "--norpc", "--max-conn=1", "--allowed_origins=a.test") as server:
        url = f"ws://127.0.0.1:{server.port}/app/key?protocol=7"
        page = Origin("http://a.test")
        for target in (url, url.replace("key", "unknown")):
            with (
                pytest.raises(InvalidStatus, match="403"),
                connect(target, origin=Origin("http://b.test")),
            ):
                pass
        with connect(url, origin=page) as websocket, connect(url, origin=page) as excess:
            client, refused = PusherClient(websocket), PusherClient(excess)
            assert client.receive()["event"] == "pusher:connection_established"
            assert refused.receive()["data"]["code"] == 4100
            assert closed_with(refused) == 4100
            server.process.send_signal(signal.SIGTERM)
            assert client.receive()["data"]["code"] == 4200
            assert closed_with(client) == 4200


def test_a_client_that_does_not_answer_pings_is_closed() -> None:
    flags = (*FLAGS, "--norpc", "--pusher_activity_timeout=1", "--pusher_pong_timeout=1")
    with cable_server(*flags) as server, pusher_client(server.port) as client:
        error: Any = client.receive()
        assert error["data"]["code"] == 4201
        assert closed_with(client) == 4201
