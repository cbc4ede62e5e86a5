"""Engines whose Redis has replicas: one primary with sentinels, and a Redis Cluster.

The victim of a fault is the primary that has the stream of the first publisher. Its replica takes over long before the
repair, after which it follows that replica.
Knows: processes, who is the primary. Does not know: faults.
"""

import asyncio
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

from tests.faults.engines import NODES, Cluster, Engine, over_http, start_nodes
from tests.parts.redis import RedisServer
from tests.parts.redis_cluster import RedisCluster
from tests.parts.redis_sentinel import NAME, RedisSentinels

META: Final = "catenary:__anycable_internal__:meta:{:s0}"
"""A key of the stream of the first publisher."""

SAFE: Final = ("--min-replicas-to-write", "1", "--min-replicas-max-lag", "2")
"""A primary that was replaced while it was cut off, or hung, takes no writes that nobody would ever see."""


class _Primary:
    """The server that is the primary at the moment of a fault."""

    def __init__(self, servers: "RedisSentinels | RedisCluster") -> None:
        self._servers = servers
        self._victim: RedisServer | None = None

    async def kill(self) -> None:
        victim = self._victim = await asyncio.to_thread(self._primary)
        await asyncio.to_thread(victim.stop)

    async def start(self) -> None:
        assert self._victim is not None
        await asyncio.to_thread(self._victim.start)

    async def hang(self) -> None:
        victim = self._victim = await asyncio.to_thread(self._primary)
        await asyncio.to_thread(victim.freeze)

    async def resume(self) -> None:
        assert self._victim is not None
        self._victim.thaw()

    def _primary(self) -> RedisServer:
        if isinstance(self._servers, RedisCluster):
            return self._servers.primary_of(META)
        return self._servers.primary()


@contextmanager
def _sentinel(with_links: bool) -> Iterator[Cluster]:
    """Nodes on a primary with two replicas, and three sentinels."""
    assert not with_links, "sentinels name the primary itself"
    with ExitStack() as stack:
        directory = stack.enter_context(tempfile.TemporaryDirectory(prefix="catenary-faults-"))
        sentinels = RedisSentinels(Path(directory), flags=SAFE)
        stack.callback(sentinels.close)
        flags = (
            *("--broadcast_adapter=http", "--broker=redis"),
            *(f"--redis_url=redis://{NAME}", f"--redis_sentinels={sentinels.places}"),
        )
        nodes = start_nodes(stack, [flags] * NODES)
        yield Cluster(nodes, _Primary(sentinels), [], over_http)


@contextmanager
def _cluster(with_links: bool) -> Iterator[Cluster]:
    """Nodes on a Redis Cluster of three primaries, each with a replica."""
    assert not with_links, "nodes of a cluster name each other"
    with ExitStack() as stack:
        directory = stack.enter_context(tempfile.TemporaryDirectory(prefix="catenary-faults-"))
        cluster = RedisCluster(Path(directory), has_replicas=True)
        stack.callback(cluster.stop)
        cluster.start()
        flags = ("--broadcast_adapter=http", "--broker=redis", f"--redis_url={cluster.url}")
        nodes = start_nodes(stack, [flags] * NODES)
        yield Cluster(nodes, _Primary(cluster), [], over_http)


REPLICATED: Final = {
    engine.name: engine for engine in (Engine("sentinel", _sentinel), Engine("cluster", _cluster))
}
