"""The REST API of one node is about all nodes: on Redis, on embedded NATS servers, and in the workers of one server."""

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import pytest

from tests.parts.cable_client import CableClient, confirmed, identifier
from tests.parts.cluster import embedded_nodes, started
from tests.parts.redis import redis_server
from tests.parts.rest import FLAGS, all_pages, get, identifiers, rest, signed_in
from tests.parts.server import CableServer, cable_server

CHAT = identifier("$pubsub", stream_name="chat")
ROOM = identifier("$pubsub", stream_name="room")
SERVED = (*FLAGS, "--broadcast_adapter=http")


@dataclass
class Nodes:
    """Two nodes, each of which may be asked and connected to. Workers share their ports: there both are the same."""

    servers: tuple[CableServer, CableServer]

    @property
    def ids(self) -> list[str]:
        return sorted(each["node"] for each in get(self.servers[0], "/nodes")["nodes"])

    def client(self, user: str, node: int) -> tuple[CableClient, str]:
        """A client of one of both, by its place among their ids."""
        while True:
            server = self.servers[node]
            client, sid = signed_in(server, user)
            client.receive_welcome()
            if get(server, f"/connections/{sid}")["node"] == self.place(node):
                return client, sid
            client.close()
            is_gone(server, sid)

    def place(self, node: int) -> str:
        if self.servers[0] is self.servers[1]:
            return self.ids[node]
        [own] = [each for each in get(self.servers[node], "/nodes")["nodes"] if each["self"]]
        return str(own["node"])


def until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def is_gone(server: CableServer, sid: str) -> None:
    until(lambda: rest(server, "GET", f"/connections/{sid}").status == 404)


@contextmanager
def on_redis() -> Iterator[Nodes]:
    with redis_server() as redis, ExitStack() as stack:
        flags = (*SERVED, "--broker=redis", f"--redis_url={redis.url}")
        one, other = started(stack, [flags] * 2)
        yield Nodes((one, other))


@contextmanager
def on_embedded_nats() -> Iterator[Nodes]:
    with embedded_nodes(2, *SERVED) as (one, other):
        yield Nodes((one, other))


@contextmanager
def in_workers() -> Iterator[Nodes]:
    with cable_server(*SERVED, "--workers=2") as server:
        server.wait_for_output("Worker 1 serves")
        server.wait_for_output("Worker 2 serves")
        yield Nodes((server, server))


CLUSTERS: dict[str, Callable[[], AbstractContextManager[Nodes]]] = {
    "redis": on_redis,
    "embedded nats": on_embedded_nats,
    "workers": in_workers,
}


@pytest.fixture(scope="module", params=list(CLUSTERS))
def nodes(request: pytest.FixtureRequest) -> Iterator[Nodes]:
    with CLUSTERS[request.param]() as nodes:
        for each in nodes.servers:
            until(lambda each=each: len(get(each, "/nodes")["nodes"]) == 2)  # type: ignore[misc]
        yield nodes


@pytest.fixture
def clients(nodes: Nodes) -> Iterator[list[tuple[CableClient, str]]]:
    """Two at each node."""
    found = [nodes.client(f"user {number}", number % 2) for number in range(4)]
    yield found
    for client, _ in found:
        client.close()
    until(lambda: get(nodes.servers[0], "/connections/count")["count"] == 0)


def test_nodes(nodes: Nodes) -> None:
    for server in nodes.servers:
        shown = get(server, "/nodes")
        assert shown["errors"] == []
        assert [each["self"] for each in shown["nodes"]].count(True) == 1
        assert len({each["pid"] for each in shown["nodes"]}) == 2
        workers = {each["worker"] for each in shown["nodes"]}
        assert workers == ({1, 2} if nodes.servers[0] is nodes.servers[1] else {0})


def test_connections_of_all_nodes(nodes: Nodes, clients: list[tuple[CableClient, str]]) -> None:
    sids = sorted(sid for _, sid in clients)
    for server in nodes.servers:
        for limit in (1, 3, 100):
            listed = all_pages(server, "/connections", "connections", limit=limit)
            assert sorted(each["sid"] for each in listed) == sids
        counted = get(server, "/connections/count")
        assert counted == {"count": 4, "nodes": dict.fromkeys(nodes.ids, 2), "errors": []}
        for node in nodes.ids:
            some = get(server, "/connections", node=node)["connections"]
            assert [each["node"] for each in some] == [node, node]
        [found] = get(server, "/connections", identifiers=identifiers("user 3"))["connections"]
        assert found["sid"] == clients[3][1]


def test_a_client_of_any_node_is_acted_on(
    nodes: Nodes, clients: list[tuple[CableClient, str]]
) -> None:
    for client, sid in clients:
        # The other server, where there are two.
        server = nodes.servers[1 - clients.index((client, sid)) % 2]
        assert get(server, f"/connections/{sid}")["subscriptions"] == []
        path = f"/connections/{sid}/subscriptions"
        assert rest(server, "POST", path, {"identifier": CHAT}).status == 200
        assert client.receive() == confirmed(CHAT)
        [subscription] = get(server, f"/connections/{sid}")["subscriptions"]
        assert subscription == {"identifier": CHAT, "streams": ["chat"]}
        assert rest(server, "DELETE", path, {"identifier": CHAT}).status == 200
        assert rest(server, "DELETE", f"/connections/{sid}").content == {"disconnected": 1}
        assert client.receive()["type"] == "disconnect"
        client.close()


def test_a_disconnect_by_identifiers_reaches_all_nodes(nodes: Nodes) -> None:
    client, sid = nodes.client("eve", 0)
    with client:
        answer = rest(nodes.servers[1], "POST", "/disconnect", {"identifiers": identifiers("eve")})
        assert answer.status == 202
        assert client.receive()["reason"] == "remote"
    is_gone(nodes.servers[1], sid)


def test_streams_channels_and_figures_are_added_up(
    nodes: Nodes, clients: list[tuple[CableClient, str]]
) -> None:
    for client, _ in clients:
        client.subscribe(CHAT)
    clients[0][0].subscribe(ROOM)
    for server in nodes.servers:
        expected = [{"stream": "chat", "listeners": 4}, {"stream": "room", "listeners": 1}]
        assert all_pages(server, "/streams", "streams") == expected
        assert all_pages(server, "/streams", "streams", limit=1) == expected
        channels = get(server, "/channels")["channels"]
        assert channels == [{"channel": "$pubsub", "subscriptions": 5}]
        stats: dict[str, Any] = get(server, "/stats")
        assert stats["sum"]["clients_num"] == 4
        assert [each["figures"]["clients_num"] for each in stats["nodes"]] == [2, 2]


def test_a_node_that_hangs_or_dies() -> None:
    with on_redis() as nodes:
        one, other = nodes.servers
        until(lambda: len(get(one, "/nodes")["nodes"]) == 2)
        here, there = nodes.place(0), nodes.place(1)
        client, sid = nodes.client("ann", 0)
        with client:
            os.kill(other.process.pid, signal.SIGSTOP)
            late = [{"node": there, "error": "no answer within 2 s"}]
            shown = get(one, "/nodes")
            assert shown["errors"] == late
            assert {each["node"]: each["connections"] for each in shown["nodes"]} == {
                here: 1,
                there: None,
            }
            began = time.monotonic()
            assert get(one, f"/connections/{sid}")["sid"] == sid
            assert time.monotonic() - began < 2
            absent = rest(one, "GET", "/connections/nobody")
            assert (absent.status, there in absent.content["error"]) == (503, True)
            os.kill(other.process.pid, signal.SIGCONT)
            until(lambda: get(one, "/nodes")["errors"] == [])
            assert rest(one, "GET", "/connections/nobody").status == 404
            other.stop()
            until(lambda: len(get(one, "/nodes")["nodes"]) == 1)
            assert get(one, "/connections/count")["nodes"] == {here: 1}
