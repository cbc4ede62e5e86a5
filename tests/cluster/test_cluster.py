"""Three nodes, on Redis and on embedded NATS: whatever dies or is restarted, nothing is lost."""

import asyncio
import itertools
import os
import re
import signal
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import AbstractContextManager, asynccontextmanager

import pytest

from tests.parts.cluster import (
    FLAGS,
    Cluster,
    Publisher,
    embedded_cluster,
    nats_cluster,
    once,
    redis_cluster,
)
from tests.parts.resuming_client import PATIENCE_S, ResumingClient
from tests.parts.server import CableServer, cable_server

Opened = Callable[[int], AbstractContextManager[Cluster]]
CLUSTERS: dict[str, Opened] = {
    "redis": redis_cluster,
    "nats": embedded_cluster,
}


@pytest.fixture(params=list(CLUSTERS))
def cluster(request: pytest.FixtureRequest) -> Iterator[Cluster]:
    with CLUSTERS[request.param](3) as cluster:
        yield cluster


def run(scenario: Coroutine[None, None, None]) -> None:
    asyncio.run(asyncio.wait_for(scenario, 2 * PATIENCE_S))


@asynccontextmanager
async def crowd(
    number: int, stream: str, port: Callable[[], int], *, members: bool = False
) -> AsyncIterator[list[ResumingClient]]:
    clients = [
        ResumingClient(stream, port, member_id=f"m{index}" if members else "")
        for index in range(number)
    ]
    try:
        async with asyncio.timeout(20):
            for client in clients:
                await client.subscribed.wait()
        yield clients
    finally:
        for client in clients:
            await client.close()


def heard_all(last: int) -> Callable[[ResumingClient], bool]:
    return lambda client: last in client.heard


async def publish_all(publisher: Publisher, stream: str, numbers: range) -> None:
    for number in numbers:
        await publisher.publish(stream, number)


def test_everybody_hears_everything_on_whatever_node(cluster: Cluster) -> None:
    async def scenario() -> None:
        publisher = Publisher(lambda: cluster.nodes[next(turns) % 3].broadcast_port)
        async with crowd(6, "all", cluster.any_port) as clients:
            for number in range(60):
                await publisher.publish("all", number)
            for client in clients:
                await client.until(heard_all(59))
                assert client.heard == list(range(60))
                assert client.lost == []

    turns = itertools.count()
    run(scenario())


def test_a_node_is_killed_under_load_and_nobody_misses_anything(cluster: Cluster) -> None:
    """Its clients resume on the others, and their members are there after the time they have."""

    async def scenario() -> None:
        doomed, *others = cluster.nodes
        alive = lambda: others[next(turns) % 2].port  # noqa: E731
        publisher = Publisher(lambda: others[next(turns) % 2].broadcast_port)
        async with (
            crowd(10, "killed", cluster.any_port, members=True) as clients,
            crowd(1, "killed", alive) as (watcher,),
        ):
            lonely = ResumingClient("killed", lambda: doomed.port, member_id="lonely")
            await watcher.until(lambda each: ("join", "lonely") in each.events)
            for number in range(200):
                if number == 70:
                    doomed.process.kill()
                await publisher.publish("killed", number)
            for client in clients:
                await client.until(heard_all(199))
                assert client.lost == []
                assert once(client.heard, publisher.repeated) == list(range(200))
            assert sum(client.restored for client in clients) > 0
            await lonely.close()
            await watcher.until(lambda each: ("leave", "lonely") in each.events)
            # Members that came back were never announced as gone.
            assert [each for each in watcher.events if each[0] == "leave"] == [("leave", "lonely")]

    turns = itertools.count()
    run(scenario())


def test_clients_cut_off_again_and_again_go_on_elsewhere(cluster: Cluster) -> None:
    async def scenario() -> None:
        publisher = Publisher(lambda: cluster.nodes[next(turns) % 3].broadcast_port)
        async with crowd(5, "cut", cluster.any_port) as clients:
            for number in range(300):
                if number % 60 == 30:
                    for client in clients:
                        await client.subscribed.wait()
                        client.drop()
                await publisher.publish("cut", number)
            for client in clients:
                await client.until(heard_all(299))
                assert client.lost == []
                assert once(client.heard, publisher.repeated) == list(range(300))
                assert client.restored == 5

    turns = itertools.count()
    run(scenario())


@pytest.mark.parametrize("opened", [redis_cluster, nats_cluster], ids=["redis", "nats"])
def test_what_lies_between_nodes_is_restarted_under_load(opened: Opened) -> None:
    """Redis without its memory, NATS with its files: accepted publications arrive, in order."""

    async def scenario(cluster: Cluster) -> None:
        publisher = Publisher(lambda: cluster.nodes[next(turns) % 3].broadcast_port)
        async with crowd(6, "restart", cluster.any_port) as clients:
            for number in range(50):
                await publisher.publish("restart", number)
            for client in clients:
                await client.until(heard_all(49))
            cluster.stop()
            going_on = asyncio.create_task(publish_all(publisher, "restart", range(50, 150)))
            await asyncio.to_thread(cluster.start)
            await going_on
            for client in clients:
                await client.until(heard_all(149))
                assert once(client.heard, publisher.repeated) == list(range(150))

    turns = itertools.count()
    with opened(3) as cluster:
        run(scenario(cluster))


def test_a_worker_is_killed_under_load_and_its_clients_go_on_at_the_other() -> None:
    """Two processes on one port, with nothing but the NATS server that they bring."""

    async def scenario(server: CableServer, victim: int) -> None:
        publisher = Publisher(lambda: server.broadcast_port)
        async with crowd(10, "worker", lambda: server.port) as clients:
            for number in range(200):
                if number == 70:
                    os.kill(victim, signal.SIGKILL)
                await publisher.publish("worker", number)
            for client in clients:
                await client.until(heard_all(199))
                assert client.lost == []
                assert once(client.heard, publisher.repeated) == list(range(200))
            moved = [client for client in clients if client.welcomes > 1]
            assert 0 < len(moved) < 10
            assert [client.restored for client in moved] == [1] * len(moved)

    with cable_server(*FLAGS, "--workers=2", "--broker=nats") as server:
        output = server.wait_for_output("Worker 2 serves")
        server.wait_for_output("Worker 1 serves")
        server.wait_for_output("Nodes meet on NATS", times=2)
        found = re.search(r"Worker 2 serves \(pid (\d+)\)", output)
        assert found is not None
        run(scenario(server, int(found[1])))
        server.wait_for_output("restarting it in")
