"""``@anycable/core`` over long polling, alone and as the fallback of a WebSocket."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.clients.test_recovery import Publisher
from tests.parts.cluster import redis_cluster
from tests.parts.node import NodeClient
from tests.parts.ports import free_port
from tests.parts.server import CableServer, cable_server
from tests.parts.tcp_relay import TcpRelay, tcp_relay
from tests.parts.tokens import SECRET, token
from tests.transports.test_long_polling import wait_until

FLAGS = (
    *("--public", "--norpc", "--broadcast_adapter=http", "--broker=memory", "--poll"),
    *("--poll_interval=1", "--poll_flush_interval=20", "--poll_keepalive_timeout=1"),
    "--history_limit=2000",
)
MESSAGES = 200
PLAIN, EXTENDED = "actioncable-v1-json", "actioncable-v1-ext-json"


@pytest.fixture(scope="module")
def server() -> Iterator[CableServer]:
    with cable_server(*FLAGS) as server:
        yield server


@pytest.fixture
def relay(server: CableServer) -> Iterator[TcpRelay]:
    with tcp_relay(server.port) as relay:
        yield relay


@pytest.fixture
def publisher(server: CableServer) -> Iterator[Publisher]:
    publisher = Publisher(server)
    yield publisher
    publisher.close()


@contextmanager
def polling(
    port: int, protocol: str = EXTENDED, query: str = "", **more: object
) -> Iterator[NodeClient]:
    options = {"url": f"http://127.0.0.1:{port}/lp{query}", "protocol": protocol, **more}
    client = NodeClient("long_polling.mjs", options)
    try:
        yield client
    finally:
        client.stop()


def listen(client: NodeClient, stream: str) -> None:
    client.do("subscribe", name=stream)
    client.wait_for("subscribed", name=stream)


def cut_until_noticed(relay: TcpRelay, client: NodeClient) -> None:
    """Between two polls, a client does not notice that its connections are cut."""
    before = len(client.told("connect"))

    def has_connected() -> bool:
        relay.cut()
        time.sleep(0.1)
        return len(client.told("connect")) > before

    wait_until(has_connected)


def received(client: NodeClient, stream: str) -> list[object]:
    return [told["message"] for told in client.told("received") if told["name"] == stream]


@pytest.mark.parametrize("protocol", [PLAIN, EXTENDED])
def test_as_the_only_transport(server: CableServer, publisher: Publisher, protocol: str) -> None:
    stream = f"alone/{protocol}"
    with polling(server.port, protocol) as client:
        listen(client, stream)
        for number in range(1, MESSAGES + 1):
            publisher.publish(stream, number)
            if number % 40 == 0:
                # A command aborts the poll that waits; its response must not be lost.
                client.do("whisper", name=stream, payload=number)
        client.wait_for("received", name=stream, message=MESSAGES)
        assert received(client, stream) == list(range(1, MESSAGES + 1))
        assert len(client.told("connect")) == 1
        assert {told["status"] for told in client.told("polled")} <= {200, 204}


def test_as_the_fallback_of_a_websocket(server: CableServer, publisher: Publisher) -> None:
    blocked = f"ws://127.0.0.1:{free_port()}/cable"
    with polling(server.port, webSocketUrl=blocked) as client:
        client.do("connect")
        client.wait_for("connect")
        listen(client, "fallback")
        publisher.publish("fallback", 1)
        client.wait_for("received", message=1)


def test_two_clients_whisper_to_each_other(server: CableServer) -> None:
    with polling(server.port) as one, polling(server.port) as other:
        for client in (one, other):
            listen(client, "whispers")
        one.do("whisper", name="whispers", payload="psst")
        other.wait_for("received", message="psst")
        assert one.told("received") == []


def test_connections_that_break_lose_nothing(relay: TcpRelay, publisher: Publisher) -> None:
    with polling(relay.port) as client:
        listen(client, "cut")
        for number in range(1, MESSAGES + 1):
            publisher.publish("cut", number)
            if number % 50 == 0:
                cut_until_noticed(relay, client)
        client.wait_for("received", message=MESSAGES)
        assert received(client, "cut") == list(range(1, MESSAGES + 1))
        assert any(told["restored"] for told in client.told("connect"))


def test_a_client_whose_session_has_expired_connects_again_and_misses_nothing(
    server: CableServer, publisher: Publisher
) -> None:
    with polling(server.port) as client:
        listen(client, "expired")
        publisher.publish("expired", 1)
        client.wait_for("received", message=1)
        client.do("pause", ms=2_500)
        publisher.publish("expired", 2)
        client.wait_for("disconnect", reason="session_expired")
        publisher.publish("expired", 3)
        client.wait_for("received", message=3)
        assert received(client, "expired") == [1, 2, 3]


def test_polls_go_on_at_another_node() -> None:
    flags = ("--poll", "--poll_flush_interval=20", "--poll_interval=1")
    with redis_cluster(2, *flags) as cluster, tcp_relay(cluster.nodes[0].port) as relay:
        publishers = [Publisher(node) for node in cluster.nodes]
        with polling(relay.port) as client:
            listen(client, "moves")
            for number in range(1, 61):
                publishers[number % 2].publish("moves", number)
                if number in (20, 40):
                    client.wait_for("received", message=number)
                    # New connections reach the other node; the open one ends with its poll.
                    relay.aim(cluster.nodes[1 if number == 20 else 0].port)
            client.wait_for("received", message=60)
            assert received(client, "moves") == list(range(1, 61))
        for publisher in publishers:
            publisher.close()


def test_a_client_that_is_refused_is_told_why() -> None:
    flags = ("--poll", "--norpc", f"--jwt_secret={SECRET}", "--enforce_jwt", "--public_streams")
    late = token({"ext": "{}", "exp": int(time.time()) - 60})
    with cable_server(*flags) as server:
        for query, reason in (("", "unauthorized"), (f"?jid={late}", "token_expired")):
            with polling(server.port, query=query) as client:
                client.do("connect")
                assert client.wait_for("polled")["status"] == 401
                client.wait_for("close", reason=reason)
        with polling(server.port, query=f"?jid={token({'ext': '{}'})}") as client:
            listen(client, "x")
