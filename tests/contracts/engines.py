"""The subjects of the contract suite of an engine: each engine, the server that its nodes share, and nodes.

A test breaks servers and the links of single nodes. An engine that is added here needs a server that can be
killed, started again and frozen, and a node with the attributes of :class:`EngineNode`.
"""

import asyncio
import os
import shutil
import signal
import tempfile
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from catenary.adapters.interest import StreamInterest
from catenary.adapters.memory.history import LocalHistory
from catenary.adapters.memory.pubsub import LocalPubSub
from catenary.adapters.nats.embedded import EmbeddedNats
from catenary.adapters.stream_recovery import StreamRecovery
from catenary.broker.limits import Limits
from catenary.config.options import EnatsOptions
from catenary.messages.names import Stream
from catenary.messages.publications import Publication, Publishable
from catenary.metrics.counters import Counters
from catenary.ports import History, Peers, Presence, PubSub, SessionCache
from catenary.supervision.service import Supervisor
from tests.parts.nats import NatsServer
from tests.parts.nats_node import NatsNode
from tests.parts.ports import free_port
from tests.parts.redis import RedisServer
from tests.parts.redis_cluster import RedisCluster, shared_redis_cluster
from tests.parts.redis_node import LIMITS, RedisNode


class PubSubThatReports(PubSub, Peers, Protocol):
    """With the reason why it does not work at the moment."""

    @property
    def trouble(self) -> str | None: ...


class OneNode(Protocol):
    """A node of any engine, and its deliveries."""

    received: list[Publishable]

    @property
    def pubsub(self) -> PubSub: ...

    @property
    def history(self) -> History: ...

    async def listen(self, streams: Iterable[Stream]) -> None: ...

    async def publish(self, stream: Stream, *data: object) -> None: ...

    def heard(self, stream: Stream) -> list[Publication]: ...

    def data(self, stream: Stream) -> list[str]: ...


class EngineNode(OneNode, Protocol):
    """One of several nodes."""

    restored: int
    counters: Counters
    supervisor: Supervisor
    interest: StreamInterest
    recovery: StreamRecovery

    @property
    def pubsub(self) -> PubSubThatReports: ...

    @property
    def sessions(self) -> SessionCache: ...

    @property
    def presence(self) -> Presence: ...

    async def is_up(self) -> None: ...

    async def start(self) -> None: ...

    async def close(self) -> None: ...


class SharedServer(Protocol):
    """The server that nodes share. ``kill`` is SIGKILL, after which ``start`` uses the same port."""

    port: int

    @property
    def url(self) -> str: ...

    async def start(self) -> None: ...

    async def kill(self) -> None: ...

    def freeze(self) -> None: ...

    def thaw(self) -> None: ...


@dataclass(frozen=True)
class Engine:
    """``server`` starts one that keeps its data when it is killed, or does not. ``build`` builds a node. ``has_links``: a node
    can be led to the server through a proxy. ``has_one_order``: also of what is sent to several streams.
    """

    server: Callable[[bool], AbstractAsyncContextManager[SharedServer]]
    build: Callable[[SharedServer, Limits | None, float, str | None], EngineNode]
    has_links: bool = True
    has_one_order: bool = True

    @asynccontextmanager
    async def node(
        self,
        server: SharedServer,
        limits: Limits | None = LIMITS,
        *,
        canary_interval_s: float = 3,
        port: int | None = None,
    ) -> AsyncIterator[EngineNode]:
        """A node that is up, for the length of a with block. ``port`` is that of a link to the server."""
        url = None if port is None else server.url.replace(str(server.port), str(port))
        node = self.build(server, limits, canary_interval_s, url)
        await node.start()
        try:
            await node.is_up()
            yield node
        finally:
            await node.close()


class MemoryNode:
    """A node that is alone."""

    def __init__(self) -> None:
        self.received: list[Publishable] = []
        self.history = LocalHistory(
            limit=LIMITS.history_limit, ttl_s=60, epoch="e", clock=lambda: 0
        )
        self.pubsub = LocalPubSub(self.received.append, Counters(), self.history.append)

    async def listen(self, streams: Iterable[Stream]) -> None:
        """It receives everything."""

    async def publish(self, stream: Stream, *data: object) -> None:
        sent = self.pubsub.send(tuple(Publication(stream, str(each)) for each in data))
        if sent is not None:
            await sent

    def heard(self, stream: Stream) -> list[Publication]:
        return [
            each
            for each in self.received
            if isinstance(each, Publication) and each.stream == stream
        ]

    def data(self, stream: Stream) -> list[str]:
        return [each.data for each in self.heard(stream)]


# Redis


class _Process:
    """A redis-server or a nats-server; ``lose`` is called when it is dead."""

    def __init__(self, server: RedisServer | NatsServer, lose: Callable[[], object]) -> None:
        self.port = server.port
        self.url = server.url
        self.freeze = server.freeze
        self.thaw = server.thaw
        self._server = server
        self._lose = lose

    async def start(self) -> None:
        await asyncio.to_thread(self._server.start)

    async def kill(self) -> None:
        await asyncio.to_thread(self._server.stop)
        self._lose()


@asynccontextmanager
async def redis_shared(keeps: bool) -> AsyncIterator[SharedServer]:
    with tempfile.TemporaryDirectory(prefix="catenary-redis-") as directory:
        flags = ("--proto-max-bulk-len", "1mb")
        server = _Process(
            RedisServer(Path(directory) if keeps else None, flags=flags), lambda: None
        )
        async with _running(server) as running:
            yield running


class _RedisCluster:
    """All nodes of a Redis Cluster together."""

    def __init__(self, cluster: RedisCluster, *, keeps: bool) -> None:
        self._cluster = cluster
        self._keeps = keeps
        self.port = cluster.nodes[0].port
        self.url = cluster.url

    async def start(self) -> None:
        await asyncio.to_thread(self._cluster.start_again)

    async def kill(self) -> None:
        for node in self._cluster.nodes:
            await asyncio.to_thread(node.stop)
            if not self._keeps:
                node.lose_data()

    def freeze(self) -> None:
        for node in self._cluster.nodes:
            node.freeze()

    def thaw(self) -> None:
        for node in self._cluster.nodes:
            node.thaw()


@asynccontextmanager
async def redis_cluster_shared(keeps: bool) -> AsyncIterator[SharedServer]:
    cluster = await asyncio.to_thread(shared_redis_cluster)
    try:
        yield _RedisCluster(cluster, keeps=keeps)
    finally:
        await asyncio.to_thread(cluster.start_again)


def redis_node(
    server: SharedServer, limits: Limits | None, canary_interval_s: float, url: str | None
) -> EngineNode:
    return RedisNode(server, limits, canary_interval_s=canary_interval_s, url=url)


# NATS


@asynccontextmanager
async def nats_shared(keeps: bool) -> AsyncIterator[SharedServer]:
    with _directory() as directory:
        store = directory / "store"
        lose: Callable[[], object] = (
            (lambda: None) if keeps else (lambda: shutil.rmtree(store, ignore_errors=True))
        )
        server = _Process(NatsServer(store_dir=store), lose)
        async with _running(server) as running:
            yield running


class _Embedded:
    """The nats-server that a node brings."""

    def __init__(self, store: Path, keeps: bool) -> None:
        self._store = store
        self._keeps = keeps
        self.port = free_port()
        self.url = f"nats://127.0.0.1:{self.port}"
        self._nats: EmbeddedNats | None = None

    async def start(self) -> None:
        options = EnatsOptions(
            enabled=True,
            address=self.url,
            store_dir=str(self._store),
            jetstream=True,
        )
        self._nats = EmbeddedNats(options, Counters(), needs_jetstream=True)
        await self._nats.start()
        await self._nats.ready()

    async def kill(self) -> None:
        if self._nats is None:
            return
        self._signal(signal.SIGKILL)
        await self._nats.close(0)
        self._nats = None
        if not self._keeps:
            shutil.rmtree(self._store, ignore_errors=True)

    def freeze(self) -> None:
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._signal(signal.SIGCONT)

    def _signal(self, number: int) -> None:
        assert self._nats is not None
        if self._nats.pid is not None:
            os.kill(self._nats.pid, number)


@asynccontextmanager
async def embedded_shared(keeps: bool) -> AsyncIterator[SharedServer]:
    with _directory() as directory:
        server = _Embedded(directory / "store", keeps)
        async with _running(server) as running:
            yield running


def nats_node(
    server: SharedServer, limits: Limits | None, canary_interval_s: float, url: str | None
) -> EngineNode:
    return NatsNode(server, limits, canary_interval_s=canary_interval_s, url=url)


@contextmanager
def _directory() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="catenary-nats-", ignore_cleanup_errors=True) as path:
        yield Path(path)


@asynccontextmanager
async def _running(server: SharedServer) -> AsyncIterator[SharedServer]:
    await server.start()
    try:
        yield server
    finally:
        await server.kill()


ENGINES = {
    "redis": Engine(redis_shared, redis_node),
    "redis cluster": Engine(redis_cluster_shared, redis_node, has_links=False, has_one_order=False),
    "nats": Engine(nats_shared, nats_node),
    "embedded": Engine(embedded_shared, nats_node),
}
