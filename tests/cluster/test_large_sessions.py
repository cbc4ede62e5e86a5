"""Sessions with very many subscriptions: kept as they grow, resumed when their node has died."""

import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

import pytest
import redis
from websockets.sync.client import ClientConnection, connect

from tests.parts.cable_client import identifier
from tests.parts.cluster import Cluster, embedded_cluster, nats_cluster, redis_cluster
from tests.parts.redis import redis_server
from tests.parts.server import CableServer, cable_server

NUMBER = 150
PAD = "x" * 7_900
"""Near the limit of an identifier: all of them together are more than NATS takes in one message."""

CLUSTERS: dict[str, Callable[[], AbstractContextManager[Cluster]]] = {
    "redis": lambda: redis_cluster(2),
    "nats": lambda: nats_cluster(2),
    "embedded nats": lambda: embedded_cluster(3),
}


def visit(server: CableServer, sid: str = "") -> ClientConnection:
    query = f"?sid={sid}" if sid else ""
    return connect(
        f"ws://127.0.0.1:{server.port}/cable{query}",
        subprotocols=["actioncable-v1-ext-json"],  # type: ignore[list-item]
        compression=None,
        max_size=None,
        ping_interval=None,
        close_timeout=1,
        proxy=None,
    )


def hear(connection: ClientConnection) -> dict[str, Any]:
    """The next message that is no ping."""
    while True:
        message: dict[str, Any] = json.loads(connection.recv(10))
        if message.get("type") != "ping":
            return message


def subscribe(connection: ClientConnection, number: int) -> None:
    name = identifier("$pubsub", stream_name=f"s{number % 10}", number=number, pad=PAD)
    connection.send(json.dumps({"command": "subscribe", "identifier": name}))
    assert hear(connection)["type"] == "confirm_subscription"


@pytest.mark.parametrize("kind", list(CLUSTERS))
def test_its_node_dies_and_another_one_has_all_of_it(kind: str) -> None:
    with CLUSTERS[kind]() as cluster:
        first, second = cluster.nodes[:2]
        with visit(first) as client:
            sid = hear(client)["sid"]
            for number in range(NUMBER):
                subscribe(client, number)
            time.sleep(0.5)  # some 100 times as long as a save takes
            os.kill(first.process.pid, signal.SIGKILL)
        with visit(second, sid) as back:
            welcome = hear(back)
            assert welcome.get("restored") is True
            assert len(welcome["restored_ids"]) == NUMBER
            subscribe(back, NUMBER)
        for node in cluster.nodes[1:]:
            assert "nor resumed" not in node.output()


@pytest.fixture
def taken_in() -> Iterator[Callable[[int], int]]:
    """How many bytes Redis takes in while a client subscribes so many times, one after the other."""
    with redis_server() as server:
        flags = ("--public", "--norpc", "--broker=redis", f"--redis_url={server.url}")
        with cable_server(*flags) as node, redis.Redis(port=server.port) as admin:
            node.wait_until_it_hears_others()

            def count(number: int) -> int:
                before = int(admin.info()["total_net_input_bytes"])
                with visit(node) as client:
                    hear(client)
                    for each in range(number):
                        subscribe(client, each)
                        time.sleep(0.005)  # until that is saved: nothing is written together
                    return int(admin.info()["total_net_input_bytes"]) - before

            yield count


def test_what_it_costs_to_keep_grows_with_its_subscriptions(
    taken_in: Callable[[int], int],
) -> None:
    few, many = taken_in(30), taken_in(300)
    assert many < 15 * few
    # Each costs no more than the few that stand in the same line.
    assert many < 300 * 4 * len(PAD)
