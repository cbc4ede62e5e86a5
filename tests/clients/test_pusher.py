"""pusher-js and laravel-echo against a running server: every kind of channel, the unhappy paths, two nodes."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.clients.test_recovery import Publisher
from tests.parts.cluster import Cluster, redis_cluster
from tests.parts.node import NodeClient
from tests.parts.pusher import APP, FLAGS, PusherClient, pusher_client
from tests.parts.server import CableServer, cable_server
from tests.parts.tcp_relay import tcp_relay

SUCCEEDED = "pusher:subscription_succeeded"


@pytest.fixture(scope="module")
def server() -> Iterator[CableServer]:
    with cable_server("--norpc", "--broadcast_adapter=http", *FLAGS) as server:
        yield server


@pytest.fixture
def publisher(server: CableServer) -> Iterator[Publisher]:
    publisher = Publisher(server)
    yield publisher
    publisher.close()


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with redis_cluster(2, *FLAGS) as cluster:
        yield cluster


@contextmanager
def driver(name: str, port: int, **options: object) -> Iterator[NodeClient]:
    client = NodeClient(name, {"port": port, "key": APP.key, "secret": APP.secret, **options})
    try:
        yield client
    finally:
        client.stop()


@contextmanager
def pusher_js(port: int, *, user: str = "u1", **options: object) -> Iterator[NodeClient]:
    with driver("pusher.mjs", port, **options) as client:
        client.do("connect", user={"id": user})
        client.wait_for("state", state="connected")
        yield client


@pytest.fixture(scope="module")
def client(server: CableServer) -> Iterator[NodeClient]:
    """One that several tests share, each on channels of its own."""
    with pusher_js(server.port) as client:
        yield client


@pytest.fixture
def other(server: CableServer) -> Iterator[PusherClient]:
    with pusher_client(server.port) as other:
        yield other


def subscribe(client: NodeClient, channel: str, member: object = None) -> Any:
    client.do("subscribe", channel=channel, member=member)
    return client.wait_for("event", channel=channel, name=SUCCEEDED)["data"]


def member(number: int) -> dict[str, object]:
    return {"user_id": str(number), "user_info": {"name": f"é{number}"}}


@pytest.mark.parametrize("channel", ["news", "private-news", "private-cache-news", "cache-news"])
def test_events_of_a_channel(client: NodeClient, publisher: Publisher, channel: str) -> None:
    subscribe(client, channel)
    if "cache-" in channel:
        client.wait_for("event", channel=channel, name="pusher:cache_miss")
    publisher.publish(channel, {"event": "new", "data": {"a": ["é"]}})
    assert client.wait_for("event", channel=channel, name="new")["data"] == {"a": ["é"]}
    client.do("unsubscribe", channel=channel)


def test_the_last_event_of_a_cache_channel(client: NodeClient, publisher: Publisher) -> None:
    for number in (1, 2):
        publisher.publish("cache-prices", {"event": "price", "data": str(number)})
    subscribe(client, "cache-prices")
    assert client.wait_for("event", channel="cache-prices")["data"] == 2


def test_an_encrypted_channel_is_relayed(server: CableServer, client: NodeClient) -> None:
    """The server of the application encrypts, pusher-js decrypts: the server here only relays."""
    subscribe(client, "private-encrypted-x")
    client.do(
        "encrypted",
        port=server.broadcast_port,
        channel="private-encrypted-x",
        name="secret",
        data={"a": 1},
    )
    assert client.wait_for("event", channel="private-encrypted-x", name="secret")["data"] == {
        "a": 1
    }


def test_members_and_client_events(client: NodeClient, other: PusherClient) -> None:
    data = subscribe(client, "presence-room", member(1))
    assert data == {"count": 1, "ids": ["1"], "me": {"id": "1", "info": {"name": "é1"}}}
    joined = other.subscribe("presence-room", member(2))["presence"]
    assert joined["count"] == 2
    assert joined["hash"] == {"1": {"name": "é1"}, "2": {"name": "é2"}}
    added = client.wait_for("event", channel="presence-room", name="pusher:member_added")
    assert added["data"] == {"id": "2", "info": {"name": "é2"}}
    client.do("trigger", channel="presence-room", name="client-typing", data={"on": True})
    assert other.receive() == {
        "event": "client-typing",
        "channel": "presence-room",
        "data": {"on": True},
        "user_id": "1",
    }
    other.send('{"event":"client-hello","channel":"presence-room","data":{"b":1}}')
    heard = client.wait_for("event", channel="presence-room", name="client-hello")
    assert heard["data"] == {"b": 1}
    assert client.wait_for("sender")["user"] == "2"
    other.close()
    removed = client.wait_for("event", channel="presence-room", name="pusher:member_removed")
    assert removed["data"]["id"] == "2"
    client.do("members", channel="presence-room")
    assert client.wait_for("members")["ids"] == ["1"]


def test_a_user_signs_in(client: NodeClient, publisher: Publisher) -> None:
    client.do("signin")
    assert client.wait_for("signed_in") == {"event": "signed_in", "id": "u1"}
    client.wait_for_frame(event="pusher_internal:subscription_succeeded")
    publisher.publish("#server-to-user-u1", {"event": "hello", "data": {"a": 1}})
    assert client.wait_for("user", name="hello")["data"] == {"a": 1}


def test_a_wrong_signature_is_an_error_of_the_channel(server: CableServer) -> None:
    with pusher_js(server.port, wrong=True) as client:
        client.do("subscribe", channel="private-x")
        error = client.wait_for("event", name="pusher:subscription_error")["data"]
        assert error == {"type": "AuthError", "error": "The signature is invalid", "status": 401}
        client.do("signin")
        # 4009: pusher-js does not connect again.
        assert client.wait_for("error")["error"]["data"]["code"] == 4009
        client.wait_for("state", state="disconnected")


def test_an_unknown_app_is_not_connected_again(server: CableServer) -> None:
    with driver("pusher.mjs", server.port) as client:
        client.do("connect", key="unknown")
        assert client.wait_for("error")["error"]["data"]["code"] == 4001
        client.wait_for("state", state="disconnected")


def test_a_client_that_is_cut_off_connects_and_subscribes_again(
    server: CableServer, publisher: Publisher
) -> None:
    with tcp_relay(server.port) as relay, pusher_js(relay.port) as client:
        subscribe(client, "presence-cut", member(1))
        first = client.told("state")[-1]["socket"]
        assert relay.cut() == 1
        second = client.wait_for("state", state="connected")["socket"]
        assert second != first
        client.wait_for("event", channel="presence-cut", name=SUCCEEDED)
        publisher.publish("presence-cut", {"event": "after", "data": "1"})
        client.wait_for("event", channel="presence-cut", name="after")


def test_both_sides_ping(server: CableServer) -> None:
    flags = ("--norpc", *FLAGS, "--pusher_activity_timeout=1", "--pusher_pong_timeout=1")
    with cable_server(*flags) as quick, pusher_js(quick.port) as client:
        client.wait_for_frame(event="pusher:ping")
        client.wait_for_frame(event="pusher:ping")
        client.wait_for_frame(event="pusher:ping")
        assert [each["state"] for each in client.told("state")] == ["connected"]
    with pusher_js(server.port, activityTimeout=300, pongTimeout=5_000) as client:
        client.wait_for_frame(event="pusher:pong")


def test_laravel_echo(server: CableServer, publisher: Publisher, other: PusherClient) -> None:
    with driver("echo.mjs", server.port) as client:
        client.do("connect")
        client.wait_for("connected")
        client.do("channel", name="orders", event=".paid")
        client.wait_for("subscribed", name="orders")
        publisher.publish("orders", {"event": "paid", "data": {"id": 1}})
        assert client.wait_for("received")["data"] == {"id": 1}
        client.do("private", name="orders", event="OrderPaid")
        client.wait_for("subscribed", name="orders")
        publisher.publish("private-orders", {"event": "App\\Events\\OrderPaid", "data": {"id": 2}})
        assert client.wait_for("received")["data"] == {"id": 2}
        other.subscribe("private-orders")
        client.do("whisper", name="orders", data={"a": 1})
        assert other.receive()["event"] == "client-typing"
        other.send('{"event":"client-typing","channel":"private-orders","data":{"b":1}}')
        assert client.wait_for("whispered")["data"] == {"b": 1}
        client.do("join", name="lobby", **{"as": member(1)})
        assert client.wait_for("here")["users"] == [{"name": "é1"}]
        other.subscribe("presence-lobby", member(2))
        assert client.wait_for("joining")["user"] == {"name": "é2"}
        other.close()
        assert client.wait_for("leaving")["user"] == {"name": "é2"}


def test_members_and_client_events_at_two_nodes(cluster: Cluster) -> None:
    first, second = cluster.nodes
    with (
        pusher_js(first.port) as client,
        pusher_client(second.port) as two,
        pusher_client(first.port) as again,
    ):
        subscribe(client, "presence-room", member(1))
        assert two.subscribe("presence-room", member(2))["presence"]["ids"] == ["1", "2"]
        added = client.wait_for("event", name="pusher:member_added")
        assert added["data"]["id"] == "2"
        # A second connection of the same user: nobody is notified, neither now nor when one of both leaves.
        again.subscribe("presence-room", member(2))
        two.send('{"event":"client-hello","channel":"presence-room","data":1}')
        assert client.wait_for("sender")["user"] == "2"
        assert again.receive()["event"] == "client-hello"
        two.close()
        client.do("trigger", channel="presence-room", name="client-y", data=2)
        assert again.receive()["data"] == 2
        again.close()
        client.wait_for(
            "event", name="pusher:member_removed", data={"id": "2", "info": {"name": "é2"}}
        )
        changes = [each["name"] for each in client.told("event") if "member_" in each["name"]]
        assert changes == ["pusher:member_added", "pusher:member_removed"]


def test_members_of_a_node_that_died_leave(cluster: Cluster) -> None:
    first, second = cluster.nodes
    with pusher_js(first.port) as client, pusher_client(second.port) as two:
        subscribe(client, "presence-dead", member(1))
        two.subscribe("presence-dead", member(2))
        client.wait_for("event", name="pusher:member_added")
        second.process.kill()
        second.process.wait()
        client.wait_for("event", name="pusher:member_removed")
        second.restart()
