"""Channels of Pusher in a cluster: occupied and vacated once, whichever nodes the clients are at and whichever die."""

import json
import signal
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from catenary.auth.pusher import PusherSignatures
from tests.parts.cluster import Cluster, nats_cluster, redis_cluster
from tests.parts.pusher import PusherClient, pusher_client, signin, subscription
from tests.parts.pusher_server import PusherServer, pusher_server
from tests.parts.webhook_receiver import WebhookReceiver, webhook_receiver

APP = {"id": "app", "key": "key", "secret": "secret", "stream_prefix": "p:"}


@pytest.fixture(params=["redis", "nats"])
def engine(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


class House:
    """Two nodes, the receiver of their webhooks, and the application's library, which calls the first node."""

    def __init__(self, engine: str, stack: ExitStack) -> None:
        self.receiver: WebhookReceiver = stack.enter_context(webhook_receiver())
        app = {**APP, "webhooks": [{"url": self.receiver.url}]}
        flags = (
            f"--pusher_apps={json.dumps([app])}",
            "--pusher_webhook_batch_interval=20",
        )
        clusters = {"redis": redis_cluster, "nats": nats_cluster}
        self.cluster: Cluster = stack.enter_context(clusters[engine](2, *flags))
        ports = [node.port for node in self.cluster.nodes]
        credentials = {"appId": "app", "key": "key", "secret": "secret"}
        self.library: PusherServer = stack.enter_context(
            pusher_server(
                main={**credentials, "port": ports[0]}, other={**credentials, "port": ports[1]}
            )
        )
        self._stack = stack

    def client(self, node: int) -> PusherClient:
        port = self.cluster.nodes[node].port
        return self._stack.enter_context(pusher_client(port))

    def events(self, *names: str) -> list[dict[str, Any]]:
        return [event for event in self.receiver.events() if event["name"] in names]

    def wait_for(self, name: str, **fields: object) -> None:
        wanted = {"name": name, **fields}
        self.receiver.wait_until(
            lambda events: any(wanted.items() <= event.items() for event in events)
        )


@pytest.fixture
def house(engine: str) -> Iterator[House]:
    with ExitStack() as stack:
        yield House(engine, stack)


def test_the_life_of_a_cluster(house: House) -> None:
    """One test, because starting a cluster takes most of its time."""
    one, two = house.client(0), house.client(1)
    for client, user in ((one, "jack"), (two, "rose")):
        client.subscribe("news")
        client.subscribe("presence-room", {"user_id": user})
    for user in ("jack", "rose"):
        house.wait_for("member_added", channel="presence-room", user_id=user)
    house.wait_for("subscription_count", channel="news", subscription_count=2)

    # Both nodes answer for the whole cluster.
    for app in ("main", "other"):
        assert house.library.get("/channels/news", app, info="subscription_count") == (
            200,
            {"occupied": True, "subscription_count": 2},
        )
        channels = house.library.get(
            "/channels", app, filter_by_prefix="presence-", info="user_count"
        )
        assert channels == (200, {"channels": {"presence-room": {"user_count": 2}}})

    # Users who join at the same moment receive the members first, and each other once.
    crowd = [house.client(number % 2) for number in range(4)]
    for number, client in enumerate(crowd):
        client.send(subscription(client.socket_id, "presence-crowd", {"user_id": str(number)}))
    for client in crowd:
        first = client.receive()
        assert first["event"] == "pusher_internal:subscription_succeeded"
        known = set(first["data"]["presence"]["ids"])
        while len(known) < len(crowd):
            known.add(client.receive()["data"]["user_id"])
    for client in crowd:
        client.close()
    house.wait_for("channel_vacated", channel="presence-crowd")

    # A user's connections are closed at every node.
    three = house.client(1)
    three.send(signin(three.socket_id, {"id": "ann"}))
    assert three.receive()["event"] == "pusher:signin_success"
    assert house.library.call("terminateUserConnections", "ann") == (200, {})
    assert three.receive()["data"]["code"] == 4009

    # A client that leaves does not vacate a channel of the other node.
    one.close()
    house.wait_for("member_removed", user_id="jack")
    house.wait_for("subscription_count", channel="news", subscription_count=1)
    vacated = house.events("channel_vacated")
    assert [each["channel"] for each in vacated] == ["presence-crowd"]

    # The other node is killed: the first one notices that its entries expire.
    house.cluster.nodes[1].process.send_signal(signal.SIGKILL)
    house.wait_for("channel_vacated", channel="news")
    house.wait_for("channel_vacated", channel="presence-room")
    house.wait_for("member_removed", user_id="rose")
    assert house.library.get("/channels") == (200, {"channels": {}})
    names = ["news", "presence-crowd", "presence-room"]
    for name in ("channel_occupied", "channel_vacated"):
        events = sorted(house.events(name), key=str)
        assert events == [{"name": name, "channel": each} for each in names]
    assert len(house.events("member_removed")) == 2 + len(crowd)

    # The server between the nodes stops: nothing is accepted and lost, and channels are reported when it is back.
    survivor = house.client(0)
    survivor.subscribe("news")
    house.cluster.stop()
    answers = [
        house.library.call("trigger", "news", "event", "lost?"),
        house.library.get("/channels"),
        house.library.call("terminateUserConnections", "ann"),
    ]
    assert [status for status, _ in answers] == [503, 503, 503], answers
    survivor.send(subscription(survivor.socket_id, "late"))
    house.cluster.start()
    house.cluster.nodes[0].wait_until_it_hears_others()
    house.wait_for("channel_occupied", channel="late")
    assert house.library.call("trigger", "news", "event", "again") == (200, {})
    while (event := survivor.receive())["event"] != "event":
        pass
    assert event["data"] == "again"
    signatures = PusherSignatures("key", "secret")
    assert {each.headers["x-pusher-signature"] for each in house.receiver.received} == {
        signatures.digest(each.body) for each in house.receiver.received
    }
