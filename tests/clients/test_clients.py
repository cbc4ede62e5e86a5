"""``@rails/actioncable`` and ``@anycable/core`` on Node, doing what people use them for."""

import json
import os
import subprocess
import urllib.request

import pytest

from tests.clients.conftest import PUBLIC, NewClient
from tests.parts.node import NodeClient
from tests.parts.server import CableServer, cable_server

# @rails/actioncable looks for a lost connection every 2 to 4 s here, and skips a fresh loss once.
RETURN_TIMEOUT_S = 20


def publish(server: CableServer, publication: object) -> None:
    request = urllib.request.Request(server.broadcast_url, json.dumps(publication).encode())
    urllib.request.urlopen(request, timeout=5).close()


def broadcast(server: CableServer, stream: str, message: object) -> None:
    publish(server, {"stream": stream, "data": json.dumps(message)})


def listen(client: NodeClient, stream: str) -> None:
    """Subscribes to a public stream, which is the subscription's name too; returns once it is."""
    client.do("subscribe", name=stream, channel="$pubsub", params={"stream_name": stream})
    assert client.wait_for("subscribed", name=stream)["again"] is False


def enter(client: NodeClient, room: str) -> None:
    """Subscribes to a room of the chat, which is the subscription's name too."""
    client.do("subscribe", name=room, channel="ChatChannel", params={"room": room})
    assert client.wait_for("subscribed", name=room)["again"] is False


def test_connects_and_is_welcomed(public_server: CableServer, new_client: NewClient) -> None:
    with new_client(public_server.cable_url) as client:
        client.do("connect")
        protocol = client.wait_for("open")["protocol"]
        assert protocol.startswith("actioncable-v1-")
        welcome = client.wait_for_frame(type="welcome")
        # The plain schema of Protobuf has no field for it.
        assert bool(welcome.get("sid")) is not protocol.endswith("protobuf")


def test_receives_a_broadcast(public_server: CableServer, new_client: NewClient) -> None:
    with new_client(public_server.cable_url) as client:
        listen(client, "news")
        message = {"text": "Grüße, 世界", "nested": {"list": [1, None, True]}}
        broadcast(public_server, "news", message)
        assert client.wait_for("received", name="news")["message"] == message


def test_two_subscriptions_hear_their_own(
    public_server: CableServer, new_client: NewClient
) -> None:
    with new_client(public_server.cable_url) as client:
        listen(client, "east")
        listen(client, "west")
        broadcast(public_server, "west", "sunset")
        client.wait_for("received", name="west", message="sunset")
        broadcast(public_server, "east", "sunrise")
        client.wait_for("received", name="east", message="sunrise")
        assert len(client.told("received")) == 2


def test_hears_nothing_after_unsubscribing(
    public_server: CableServer, new_client: NewClient
) -> None:
    with new_client(public_server.cable_url) as client, new_client(public_server.cable_url) as peer:
        listen(client, "left")
        listen(peer, "left")
        client.do("unsubscribe", name="left")
        # Commands of one client run in order: once this is confirmed, the one before is done.
        listen(client, "kept")
        broadcast(public_server, "left", "for the peer")
        peer.wait_for("received", name="left", message="for the peer")
        broadcast(public_server, "kept", "for the client")
        client.wait_for("received", name="kept", message="for the client")
        assert "for the peer" not in [frame.get("message") for frame in client.frames()]


def test_is_rejected_where_a_stream_has_no_name(
    public_server: CableServer, new_client: NewClient
) -> None:
    with new_client(public_server.cable_url) as client:
        client.do("subscribe", name="nothing", channel="$pubsub", params={})
        client.wait_for("rejected", name="nothing")


def test_pings_keep_the_connection(public_server: CableServer, new_client: NewClient) -> None:
    # The clients call a connection stale after 2 s without a message and look within 4 s.
    with new_client(public_server.cable_url) as client:
        client.do("connect")
        for _ in range(5):
            client.wait_for_frame(type="ping")
        assert len(client.told("open")) == 1
        assert client.told("close") == []


def test_comes_back_when_the_server_restarts(
    server_command: tuple[str, ...], new_client: NewClient
) -> None:
    with (
        cable_server(*PUBLIC, command=server_command) as server,
        new_client(server.cable_url) as client,
    ):
        listen(client, "news")
        server.stop()
        client.wait_for("lost", name="news", returns=True)
        server.process = subprocess.Popen(
            server.process.args,
            env={"PATH": os.environ["PATH"]},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        client.wait_for("subscribed", name="news", again=True, timeout_s=RETURN_TIMEOUT_S)
        broadcast(server, "news", "here again")
        client.wait_for("received", name="news", message="here again")


def test_an_action_is_answered_and_published(
    chat_server: CableServer, new_client: NewClient
) -> None:
    with (
        new_client(chat_server.cable_url + "?name=ann") as ann,
        new_client(chat_server.cable_url + "?name=ben") as ben,
    ):
        enter(ann, "lobby")
        enter(ben, "lobby")
        ann.do("perform", name="lobby", action="speak", payload={"text": "hello"})
        heard = {"user": "ann", "text": "hello"}
        ben.wait_for("received", name="lobby", message=heard)
        # The answer comes by gRPC and the publication by Redis: either may be first.
        first, second = (ann.wait_for("received", name="lobby")["message"] for _ in range(2))
        assert {"sent": "hello"} in (first, second)
        assert heard in (first, second)
        assert {"sent": "hello"} not in [told["message"] for told in ben.told("received")]


def test_the_application_rejects_a_subscription(
    chat_server: CableServer, new_client: NewClient
) -> None:
    with new_client(chat_server.cable_url + "?name=ann") as client:
        client.do("subscribe", name="nowhere", channel="ChatChannel", params={})
        client.wait_for("rejected", name="nowhere")
        enter(client, "lobby")


def test_the_application_rejects_a_connection(
    chat_server: CableServer, new_client: NewClient
) -> None:
    with new_client(chat_server.cable_url) as client:
        client.do("subscribe", name="lobby", channel="ChatChannel", params={"room": "lobby"})
        frame = client.wait_for_frame(type="disconnect")
        assert (frame["reason"], frame["reconnect"]) == ("unauthorized", False)
        client.wait_for("lost", name="lobby", returns=False)
        assert client.told("subscribed") == []


@pytest.mark.parametrize("returns", [True, False], ids=["may_return", "must_not_return"])
def test_is_disconnected_remotely(
    chat_server: CableServer, new_client: NewClient, *, returns: bool
) -> None:
    with new_client(chat_server.cable_url + "?name=ann") as client:
        enter(client, "lobby")
        payload = {"identifier": '{"user":"ann"}', "reconnect": returns}
        publish(chat_server, {"command": "disconnect", "payload": payload})
        client.wait_for_frame(type="disconnect", reason="remote", reconnect=returns)
        client.wait_for("lost", name="lobby", returns=returns)
        if returns:
            client.wait_for("subscribed", name="lobby", again=True, timeout_s=RETURN_TIMEOUT_S)
        assert len(client.told("open")) == 1 + returns
