"""Nodes of the previous version and of this one, on one Redis and on one NATS, while the cluster is upgraded."""

import asyncio
import itertools
import json
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from tests.cluster.test_cluster import crowd, heard_all, run
from tests.parts.cluster import FLAGS, Publisher
from tests.parts.nats_node import jetstream_server
from tests.parts.previous_version import previous_version, server_of
from tests.parts.redis import redis_server
from tests.parts.resuming_client import ResumingClient
from tests.parts.server import OURS, CableServer

Command = tuple[tuple[str, ...], dict[str, str]]
THIS: Command = (OURS, {})


@pytest.fixture(scope="module")
def previous(tmp_path_factory: pytest.TempPathFactory) -> Command:
    return server_of(previous_version(), tmp_path_factory.mktemp("previous"))


class Nodes:
    """Those that a load balancer knows, while one after the other is replaced."""

    def __init__(self, stack: ExitStack, flags: tuple[str, ...]) -> None:
        self._stack, self._flags = stack, flags
        self._turns = itertools.count()
        self.serving: list[CableServer] = []

    def add(self, command: Command) -> CableServer:
        """Starts a node, and serves with it when it is ready."""
        words, env = command
        node = CableServer(words, self._flags, env)
        self._stack.callback(node.close)
        node.wait_until_ready()
        node.wait_until_it_hears_others()
        self.serving.append(node)
        return node

    def retire(self, node: CableServer) -> None:
        """Takes a node out, and stops it."""
        self.serving.remove(node)
        assert node.stop() == 0

    def next(self) -> CableServer:
        return self.serving[next(self._turns) % len(self.serving)]


@pytest.fixture(params=["redis", "nats"])
def nodes(request: pytest.FixtureRequest) -> Iterator[Nodes]:
    with ExitStack() as stack:
        if request.param == "redis":
            redis = stack.enter_context(redis_server())
            between = ("--broker=redis", f"--redis_url={redis.url}")
        else:
            nats = stack.enter_context(jetstream_server())
            between = ("--broker=nats", f"--nats_servers={nats.url}")
        yield Nodes(stack, (*FLAGS, *between))


def asked(node: CableServer, path: str) -> Any:
    with urllib.request.urlopen(f"http://127.0.0.1:{node.port}/api{path}", timeout=10) as answer:
        return json.load(answer)


def test_an_upgrade_and_a_downgrade_node_by_node(nodes: Nodes, previous: Command) -> None:
    """Each client resumes where it lands, with what it missed; no member leaves; each node knows those of both versions."""

    async def publish(numbers: range) -> None:
        for number in numbers:
            await publisher.publish("roll", number)

    async def replaced(node: CableServer, command: Command, numbers: range) -> CableServer:
        fresh = await asyncio.to_thread(nodes.add, command)
        going_on = asyncio.create_task(publish(numbers))
        await asyncio.to_thread(nodes.retire, node)
        await going_on
        return fresh

    async def scenario() -> None:
        first = await asyncio.to_thread(nodes.add, previous)
        second = await asyncio.to_thread(nodes.add, previous)
        port: Callable[[], int] = lambda: nodes.next().port  # noqa: E731
        async with crowd(6, "roll", port, members=True) as clients:
            await publish(range(20))
            first = await replaced(first, THIS, range(20, 60))
            await each_hears(clients, 59)
            # Now there is one of each version.
            for node in nodes.serving:
                found = await asyncio.to_thread(asked, node, "/nodes")
                assert (len(found["nodes"]), found["errors"]) == (2, [])
                listed = await asyncio.to_thread(asked, node, "/connections")
                assert (len(listed["connections"]), listed["errors"]) == (6, [])
                history = await asyncio.to_thread(asked, node, "/history/roll?limit=100")
                assert [json.loads(each["data"]) for each in history["messages"]] == list(range(60))
                members = await asyncio.to_thread(asked, node, "/presence/roll/users")
                assert members["total"] == 6
            await replaced(second, THIS, range(60, 100))
            await each_hears(clients, 99)
            await replaced(first, previous, range(100, 140))
            await each_hears(clients, 139)
            for client in clients:
                assert [each for each in client.lost if "server_restart" not in each] == []
                assert [event for event in client.events if event[0] == "leave"] == []
            assert sum(client.restored for client in clients) >= 6

    async def each_hears(clients: list[ResumingClient], last: int) -> None:
        for client in clients:
            await client.until(heard_all(last))
            assert client.heard == list(range(last + 1))

    publisher = Publisher(lambda: nodes.next().broadcast_port)
    run(scenario())
