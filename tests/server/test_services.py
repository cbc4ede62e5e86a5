"""Tasks that live as long as the server: all of them are services, and each comes back."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import redis

from catenary.config.effective import effective
from catenary.config.load import load
from catenary.server.assembly import Assembly
from catenary.supervision.health import is_ready
from tests.parts.heart import in_loop
from tests.parts.key_set import RSA, key_set_server, web_key
from tests.parts.nats import NatsPublisher, NatsServer
from tests.parts.nats_node import jetstream_server
from tests.parts.ports import free_port
from tests.parts.redis import RedisServer, redis_server

ON_REDIS = {
    "Redis commands",
    "Redis pub/sub",
    "Redis broadcasts",
    "Redis stream",
    "Redis stream upkeep",
}
ON_NATS = {"NATS between nodes", "NATS pub/sub", "NATS broadcasts"}
TOKENS = "refresh of token keys"
OF_RPC = {"gRPC name lookup of localhost", "gRPC connection to 127.0.0.1:{}"}


@asynccontextmanager
async def running(*flags: str) -> AsyncIterator[Assembly]:
    """A server without its listeners."""
    port = free_port()
    own = (f"--port={port}", f"--http_broadcast_port={port}")
    assembly = Assembly(effective(load((*own, *flags), {}, lambda _: None).options))
    for start in assembly.build.start:
        await start()
    try:
        yield assembly
    finally:
        await assembly.build.shutdown.run(2)
        for listener in assembly.listeners:
            for each in listener._sockets:
                each.close()


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.01)


def names_of_tasks(others: "set[asyncio.Task[Any]]") -> set[str]:
    """Of all tasks but these."""
    return {task.get_name() for task in asyncio.all_tasks() - others}


async def until_well(assembly: Assembly) -> None:
    """Returns when nothing is in trouble."""
    await until(lambda: is_ready(assembly.build.health()))


async def break_all(assembly: Assembly) -> None:
    """Cancels each service as by mistake, and waits until it is back."""
    for service in assembly.build.supervisor.services:
        failures = assembly.build.counters.service_failures_total
        for task in asyncio.all_tasks():
            if task.get_name() == service.name:
                task.cancel()
        await until(lambda n=failures: assembly.build.counters.service_failures_total > n)  # type: ignore[misc]
        assert not is_ready(assembly.build.health()), service.name
        await until_well(assembly)


@pytest.fixture(autouse=True)
def steady_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """A service that was restarted counts as well after less time."""
    monkeypatch.setattr("catenary.supervision.service.STEADY_S", 0.2)


@pytest.fixture
def on_redis() -> Iterator[RedisServer]:
    with redis_server() as server:
        yield server


@pytest.fixture
def on_nats() -> Iterator[NatsServer]:
    with jetstream_server() as server:
        yield server


@in_loop
async def test_all_tasks_on_redis(on_redis: RedisServer) -> None:
    own = asyncio.all_tasks()
    flags = ("--public", "--norpc", "--broker=redis", "--broadcast_adapter=redis,redisx")
    async with running(*flags, f"--redis_url={on_redis.url}") as assembly:
        await until_well(assembly)
        await until(lambda: names_of_tasks(own) == ON_REDIS)
        await break_all(assembly)
        await until(lambda: names_of_tasks(own) == ON_REDIS)
        with redis.Redis(port=on_redis.port) as other:
            raw = json.dumps({"stream": "s", "data": "1"})
            assert other.publish("__anycable__", raw) == 1
            other.xadd("__anycable__", {"payload": raw})
        await until(lambda: assembly.build.counters.publications_total == 2)


@in_loop
async def test_all_tasks_on_nats(on_nats: NatsServer) -> None:
    own = asyncio.all_tasks()
    flags = ("--public", "--norpc", "--broker=nats", "--broadcast_adapter=nats")
    async with running(*flags, f"--nats_servers={on_nats.url}") as assembly:
        await until_well(assembly)
        await until(lambda: names_of_tasks(own) == ON_NATS)
        await break_all(assembly)
        app = NatsPublisher(on_nats)
        await asyncio.to_thread(app.publish, json.dumps({"stream": "s", "data": "1"}))
        await until(lambda: assembly.build.counters.publications_total == 1)
        app.close()


@in_loop
async def test_all_tasks_of_rpc_and_tokens() -> None:
    own = asyncio.all_tasks()
    rpc_port = free_port()
    with key_set_server(web_key(RSA, "r")) as keys:
        flags = (
            "--broadcast_adapter=http",
            f"--rpc_host=localhost:{rpc_port}",
            f"--jwt_jwks_url={keys.url}",
        )
        async with running(*flags) as assembly:
            wanted = {TOKENS, *(name.format(rpc_port) for name in OF_RPC)}
            await until(lambda: wanted <= names_of_tasks(own))
            services = {service.name for service in assembly.build.supervisor.services}
            await until(lambda: names_of_tasks(own) == services)
            await break_all(assembly)
            await until(lambda: names_of_tasks(own) == services)
