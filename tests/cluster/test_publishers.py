"""Publications that come without HTTP, to real servers: alone, on two nodes, and all ways at once."""

import asyncio
import json
import urllib.request
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, ExitStack, asynccontextmanager, closing

import pytest
from nats.aio.client import Client

from tests.parts.cluster import Cluster
from tests.parts.heart import in_loop
from tests.parts.nats import NatsServer, nats_server
from tests.parts.nats_node import jetstream_server
from tests.parts.redis import RedisPublisher, RedisServer, RedisStreamPublisher, redis_server
from tests.parts.resuming_client import ResumingClient
from tests.parts.server import cable_server

FLAGS = (
    *("--public", "--norpc", "--sessions_ttl=20", "--history_limit=5000"),
    "--metrics_http=/metrics",
)
NUMBERS = list(range(200))

Publish = Callable[[str, object], Awaitable[None]]
"""Publishes a message on a stream, as an application does."""


def publication(stream: str, message: object) -> bytes:
    return json.dumps({"stream": stream, "data": json.dumps(message)}).encode()


@asynccontextmanager
async def by_nats(server: NatsServer) -> AsyncIterator[Publish]:
    client = Client()
    await client.connect(server.url)

    async def publish(stream: str, message: object) -> None:
        await client.publish("__anycable__", publication(stream, message))
        await client.flush()

    try:
        yield publish
    finally:
        await client.close()
        await asyncio.sleep(0)


@asynccontextmanager
async def by_redis_stream(server: RedisServer) -> AsyncIterator[Publish]:
    with closing(RedisStreamPublisher(server)) as publisher:

        async def publish(stream: str, message: object) -> None:
            await asyncio.to_thread(publisher.broadcast, stream, message)

        yield publish


def heard(numbers: list[int]) -> Callable[[ResumingClient], bool]:
    return lambda client: client.heard == numbers


@asynccontextmanager
async def wanderer(stream: str, port: Callable[[], int]) -> AsyncIterator[ResumingClient]:
    """A client for the length of a with block, subscribed when it begins."""
    client = ResumingClient(stream, port)
    try:
        async with asyncio.timeout(10):
            await client.subscribed.wait()
        yield client
    finally:
        await client.close()


@in_loop
async def test_nats_alone() -> None:
    with (
        nats_server() as nats,
        cable_server(*FLAGS, "--broadcast_adapter=nats", f"--nats_servers={nats.url}") as server,
    ):
        server.wait_for_output("Subscribed to the NATS subject __anycable__")
        async with by_nats(nats) as publish, wanderer("news", lambda: server.port) as client:
            for number in NUMBERS:
                await publish("news", number)
            await client.until(heard(NUMBERS))
            nats.stop()
            await asyncio.to_thread(server.wait_for_output, "NATS is away")
        nats.start()
        await asyncio.to_thread(server.wait_for_output, "s without it")
        async with by_nats(nats) as publish, wanderer("news", lambda: server.port) as client:
            await publish("news", "back")
            await client.until(lambda one: one.heard == ["back"])


@asynccontextmanager
async def two_nodes(*flags: str) -> AsyncIterator[Cluster]:
    with ExitStack() as stack:
        nodes = [stack.enter_context(cable_server(*FLAGS, *flags)) for _ in range(2)]
        for node in nodes:
            node.wait_until_it_hears_others()
        yield Cluster(nodes, lambda: None, lambda: None)


@asynccontextmanager
async def two_on_nats() -> AsyncIterator[tuple[Cluster, Publish]]:
    with jetstream_server() as nats:
        flags = ("--broker=nats", "--broadcast_adapter=nats", f"--nats_servers={nats.url}")
        async with two_nodes(*flags) as cluster, by_nats(nats) as publish:
            for node in cluster.nodes:
                node.wait_for_output("Subscribed to the NATS subject")
            yield cluster, publish


@asynccontextmanager
async def two_on_redis() -> AsyncIterator[tuple[Cluster, Publish]]:
    with redis_server() as redis:
        flags = ("--broker=redis", "--broadcast_adapter=redisx", f"--redis_url={redis.url}")
        async with two_nodes(*flags) as cluster, by_redis_stream(redis) as publish:
            yield cluster, publish


WAYS: dict[str, Callable[[], AbstractAsyncContextManager[tuple[Cluster, Publish]]]] = {
    "nats": two_on_nats,
    "redisx": two_on_redis,
}


@pytest.mark.parametrize("way", list(WAYS))
@in_loop
async def test_of_two_nodes_one_takes_each_publication_and_both_clients_can_resume(
    way: str,
) -> None:
    """Two nodes publish at the same time: each number comes once, and not always in order."""
    async with WAYS[way]() as (cluster, publish):
        one, other = cluster.nodes
        async with (
            wanderer("news", lambda: one.port) as stays,
            wanderer("news", cluster.any_port) as wanders,
        ):
            for number in NUMBERS:
                if number in (50, 100, 150):
                    wanders.drop()
                await publish("news", number)
            for client in (stays, wanders):
                await client.until(lambda each: len(each.heard) >= len(NUMBERS))
                assert sorted(client.heard) == NUMBERS
                assert client.lost == []
            assert wanders.heard == stays.heard
            assert wanders.restored >= 1
        taken = [figure(node.port, "publications_total") for node in (one, other)]
        assert sum(taken) == len(NUMBERS)
        # A Redis stream has one reader at a time, so that its order holds.
        assert all(taken) or way == "redisx"


def figure(port: int, name: str) -> int:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
        lines = answer.read().decode().splitlines()
    (value,) = (line.split()[-1] for line in lines if line.startswith(f"anycable_go_{name} "))
    return int(float(value))


@in_loop
async def test_several_ways_at_once() -> None:
    with (
        redis_server() as redis,
        cable_server(
            *FLAGS, "--broadcast_adapter=http,redis,redisx", f"--redis_url={redis.url}"
        ) as server,
        closing(RedisPublisher(redis)) as channel,
        closing(RedisStreamPublisher(redis)) as by_entry,
    ):
        async with wanderer("news", lambda: server.port) as client:

            def by_http(stream: str, number: int) -> None:
                body = publication(stream, number)
                urllib.request.urlopen(server.broadcast_url, body, timeout=5).close()

            ways = (by_http, channel.broadcast, by_entry.broadcast)
            for number in range(9):
                await asyncio.to_thread(ways[number % 3], "news", number)
                await client.until(heard(NUMBERS[: number + 1]))
