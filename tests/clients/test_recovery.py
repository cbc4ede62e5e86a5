"""``@anycable/core`` with the extended protocol: it loses connections, and nothing that is published."""

import http.client
import json
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager

import pytest

from tests.parts.cluster import Cluster, embedded_cluster, redis_cluster
from tests.parts.node import NodeClient
from tests.parts.ports import free_port
from tests.parts.server import CableServer, cable_server
from tests.parts.tcp_relay import TcpRelay, tcp_relay

FLAGS = (
    *("--public", "--norpc", "--broadcast_adapter=http", "--broker=memory"),
    *("--history_limit=2000", "--ping_interval=1", "--pong_timeout=3", "--presence_ttl=1"),
)
MESSAGES = 1000
CUTS = (150, 400, 650, 900)


@pytest.fixture(scope="module")
def server() -> Iterator[CableServer]:
    with cable_server(*FLAGS) as server:
        yield server


@pytest.fixture
def relay(server: CableServer) -> Iterator[TcpRelay]:
    with tcp_relay(server.port) as relay:
        yield relay


@contextmanager
def client_by(relay: TcpRelay, *, recovers: bool = True) -> Iterator[NodeClient]:
    options: dict[str, object] = {
        "url": f"ws://127.0.0.1:{relay.port}/cable",
        "recovers": recovers,
    }
    client = NodeClient("anycable_extended.mjs", options)
    try:
        yield client
    finally:
        client.stop()


def listen(client: NodeClient, stream: str) -> None:
    client.do("subscribe", name=stream)
    client.wait_for("subscribed", name=stream)


class Publisher:
    """Publishes one message after the other, by one connection."""

    def __init__(self, server: CableServer) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", server.broadcast_port)

    def publish(self, stream: str, message: object) -> None:
        self.publish_all(stream, [message])

    def publish_all(self, stream: str, messages: list[object]) -> None:
        """All of them by one request."""
        self._post([{"stream": stream, "data": json.dumps(each)} for each in messages])

    def disconnect(self, identifiers: str, *, reconnect: bool) -> None:
        """Disconnects the clients that have these identifiers."""
        payload = {"identifier": identifiers, "reconnect": reconnect}
        self._post({"command": "disconnect", "payload": payload})

    def _post(self, content: object) -> None:
        body = json.dumps(content)
        self._connection.request("POST", "/_broadcast", body)
        response = self._connection.getresponse()
        response.read()
        assert response.status == 201

    def close(self) -> None:
        self._connection.close()


@pytest.fixture
def publisher(server: CableServer) -> Iterator[Publisher]:
    publisher = Publisher(server)
    yield publisher
    publisher.close()


@pytest.mark.parametrize("half_open", [False, True], ids=["closed", "half-open"])
@pytest.mark.parametrize("recovers", [True, False], ids=["resumed", "subscribed-anew"])
def test_a_thousand_messages_arrive_in_order_once(
    relay: TcpRelay, publisher: Publisher, recovers: bool, half_open: bool
) -> None:
    stream = f"news/{recovers}/{half_open}"
    with client_by(relay, recovers=recovers) as client:
        listen(client, stream)
        for number in range(1, MESSAGES + 1):
            publisher.publish(stream, number)
            if number not in CUTS:
                continue
            if number != CUTS[0]:
                # Who is cut off between welcome and confirmation does not always subscribe again.
                client.wait_for_frame(type="welcome" if recovers else "confirm_subscription")
            assert relay.cut(half_open=half_open) == 1
        client.wait_for("received", message=MESSAGES, timeout_s=20)
        heard = [told["message"] for told in client.told("received")]
        welcomes = [each for each in client.frames() if each.get("type") == "welcome"]
    assert heard == list(range(1, MESSAGES + 1))
    restored = [each.get("restored", False) for each in welcomes]
    assert restored == [False] + [recovers] * len(CUTS)


def test_who_was_away_for_too_much_is_told_that_its_history_is_gone(
    server: CableServer, relay: TcpRelay, publisher: Publisher
) -> None:
    with client_by(relay) as client:
        listen(client, "gone")
        publisher.publish("gone", "first")
        client.wait_for("received", message="first")
        # All are published before it can come back.
        relay.aim(free_port())
        relay.cut()
        publisher.publish_all("gone", [1] * 2001)
        relay.aim(server.port)
        client.wait_for("info", name="gone", type="history_not_found")
        publisher.publish("gone", "last")
        client.wait_for("received", message="last")


def test_members_survive_a_short_absence_and_are_told_of_each_other(relay: TcpRelay) -> None:
    with client_by(relay) as ann, client_by(relay) as ben:
        listen(ann, "room")
        ann.do("join", name="room", id="ann", info={"name": "Ann"})
        ann.wait_for("presence", type="join", id="ann")
        listen(ben, "room")
        ben.do("join", name="room", id="ben", info={"name": "Ben"})
        ann.wait_for("presence", type="join", id="ben")
        assert relay.cut() == 2
        ann.wait_for_frame(type="welcome", restored=True)
        ann.do("who", name="room")
        assert ann.wait_for("here", name="room")["ids"] == ["ann", "ben"]
        ben.wait_for_frame(type="welcome", restored=True)
        ben.do("leave", name="room")
        ann.wait_for("presence", type="leave", id="ben")
        assert {"event": "presence", "name": "room", "type": "leave", "id": "ann"} not in ben.told(
            "presence"
        )


@pytest.mark.parametrize("build", [redis_cluster, embedded_cluster], ids=["redis", "nats"])
def test_a_thousand_messages_arrive_whichever_node_the_client_comes_back_to(
    build: Callable[[int], AbstractContextManager[Cluster]],
) -> None:
    """Published at all nodes in turn, while the client is cut off and led to another one."""
    with build(3) as cluster, ExitStack() as stack:
        publishers = [Publisher(node) for node in cluster.nodes]
        for publisher in publishers:
            stack.callback(publisher.close)
        relay = stack.enter_context(tcp_relay(cluster.nodes[0].port))
        client = stack.enter_context(client_by(relay))
        listen(client, "news")
        for number in range(1, MESSAGES + 1):
            publishers[number % 3].publish("news", number)
            if number in CUTS:
                relay.aim(cluster.nodes[(CUTS.index(number) + 1) % 3].port)
                assert relay.cut() == 1
                client.wait_for_frame(type="welcome", restored=True)
        client.wait_for("received", message=MESSAGES, timeout_s=20)
        heard = [told["message"] for told in client.told("received")]
    assert heard == list(range(1, MESSAGES + 1))
