"""Faults: each breaks something of a cluster under load, waits, and repairs it.

Knows: clusters. Does not know: publishers, clients.
"""

import asyncio
import os
import random
import re
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Final

import redis.asyncio

from tests.faults.client import RecordingClient
from tests.faults.engines import NODES, Cluster
from tests.faults.readiness import CLOSED_S, MAY_CHANGE, SILENT_S, STAYS_READY, Expected
from tests.parts.rough_proxy import Roughness
from tests.parts.server import CableServer

OUTAGE_S: Final = 3.0
"""How long a part is away, unless a fault says otherwise."""

ADMITTED_S: Final = 15.0
"""Clients that arrive while the application is away are admitted this long after it is back."""

HANG_S: Final = 12.0
"""Longer than every time limit of a node towards its store."""


NONE: Final = frozenset[int]()
FIRST: Final = frozenset({0})
ALL: Final = frozenset(range(NODES))


@dataclass(frozen=True)
class Fault:
    """``inject`` returns after the repair. ``needs_links`` asks for links that can be
    broken; ``engines`` are those that it makes sense on.

    Nodes of ``isolated`` are without their store for as long as it lasts, by links, or where all have the same, and
    report it within ``reported_within_s``. Those of ``disturbed`` may be not ready for a while. All others stay
    ready. Publishers publish ``share_of_load`` of their usual number, where more would not go through.
    """

    name: str
    inject: Callable[[Cluster], Awaitable[None]]
    engines: frozenset[str]
    needs_links: bool = False
    isolated: frozenset[int] = NONE
    disturbed: frozenset[int] = NONE
    reported_within_s: float = SILENT_S
    share_of_load: float = 1.0

    def expected(self, engine: str, node: int) -> Expected:
        """How `/ready` of a node answers meanwhile."""
        if node in self.isolated and (self.needs_links or engine in ON_ONE_STORE):
            return Expected(may_change=True, reported_within_s=self.reported_within_s)
        return MAY_CHANGE if node in self.isolated | self.disturbed else STAYS_READY


async def nothing(cluster: Cluster) -> None:
    """The load alone."""
    await asyncio.sleep(OUTAGE_S)


async def kill_node(cluster: Cluster) -> None:
    """SIGKILL of one node; it is started again."""
    await _kill(cluster.nodes[0])
    await asyncio.sleep(OUTAGE_S)
    await asyncio.to_thread(cluster.nodes[0].restart)


async def kill_all_nodes(cluster: Cluster) -> None:
    """SIGKILL of every node, one after the other, all away at the same time; then they are started again."""
    for node in cluster.nodes:
        await _kill(node)
        await asyncio.sleep(0.3)
    await asyncio.sleep(OUTAGE_S)
    await asyncio.gather(*(asyncio.to_thread(node.restart) for node in cluster.nodes))


async def hang_node(cluster: Cluster) -> None:
    """SIGSTOP of one node for longer than others wait for it."""
    node = cluster.nodes[0]
    node.process.send_signal(signal.SIGSTOP)
    await asyncio.sleep(HANG_S)
    node.process.send_signal(signal.SIGCONT)


async def kill_store(cluster: Cluster) -> None:
    """SIGKILL of Redis (of the primary), of NATS, or of the leader of the JetStream; it is started again."""
    await cluster.store.kill()
    await asyncio.sleep(OUTAGE_S)
    await cluster.store.start()


async def hang_store(cluster: Cluster) -> None:
    """SIGSTOP of the store, for longer than every time limit."""
    await cluster.store.hang()
    await asyncio.sleep(HANG_S)
    await cluster.store.resume()


async def cut_links(cluster: Cluster) -> None:
    """The connections of each node to the store break, five times, one node after the other."""
    for _ in range(5):
        for link in cluster.links:
            link.cut()
            await asyncio.sleep(0.2)


async def kill_connections(cluster: Cluster) -> None:
    """CLIENT KILL of every connection to Redis, ten times."""
    connection = redis.asyncio.Redis.from_url(cluster.redis_url)
    for _ in range(10):
        await connection.execute_command(  # type: ignore[no-untyped-call]
            "CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"
        )
        await asyncio.sleep(random.uniform(0.1, 0.5))
    await connection.aclose()


def _black_hole(direction: str) -> Callable[[Cluster], Awaitable[None]]:
    async def inject(cluster: Cluster) -> None:
        rough = cluster.links[0].rough
        setattr(rough, direction, True)
        await asyncio.sleep(HANG_S)
        setattr(rough, direction, False)

    return inject


async def delay_links(cluster: Cluster) -> None:
    """Bytes from the store are late: by 50, 100 and 150 ms for the three nodes."""
    for index, link in enumerate(cluster.links, 1):
        link.rough.delay_s = 0.05 * index
    await asyncio.sleep(HANG_S)
    for link in cluster.links:
        link.rough.delay_s = 0


async def throttle_links(cluster: Cluster) -> None:
    """Every connection to the store carries 64 KB a second, in each direction."""
    for link in cluster.links:
        link.rough.bytes_per_s = 65_536
    await asyncio.sleep(HANG_S)
    for link in cluster.links:
        link.rough.bytes_per_s = 0


async def half_open_links(cluster: Cluster) -> None:
    """The connections of one node stay open and carry nothing any more, as after a firewall has forgotten them; the node
    has to find out, and to make others, which work."""
    assert cluster.links[0].abandon() > 0
    await asyncio.sleep(HANG_S)


async def kill_worker(cluster: Cluster) -> None:
    """SIGKILL of one of the workers of a server, which replaces it."""
    os.kill(worker_of(cluster.nodes[0]), signal.SIGKILL)
    await asyncio.sleep(OUTAGE_S)


async def hang_worker(cluster: Cluster) -> None:
    """SIGSTOP of one of the workers: connections of its share of the port wait in the kernel."""
    worker = worker_of(cluster.nodes[0])
    os.kill(worker, signal.SIGSTOP)
    await asyncio.sleep(HANG_S)
    os.kill(worker, signal.SIGCONT)


def worker_of(server: CableServer) -> int:
    """The process of the second worker, as the log names it: the last one that has this number."""
    return int(re.findall(r"Worker 2 serves \(pid (\d+)\)", server.output())[-1])


async def kill_application(cluster: Cluster) -> None:
    """SIGKILL of the application; it is started again while clients arrive that it has to admit."""
    application = cluster.application
    assert application is not None
    await application.kill()
    async with newcomers(cluster) as clients:
        await asyncio.sleep(OUTAGE_S)
        assert not any(client.subscribed.is_set() for client in clients)
        await application.start()


async def hang_application(cluster: Cluster) -> None:
    """SIGSTOP of the application, for longer than the time limit of a call, while clients arrive."""
    application = cluster.application
    assert application is not None
    await application.hang()
    async with newcomers(cluster) as clients:
        await asyncio.sleep(HANG_S)
        assert not any(client.subscribed.is_set() for client in clients)
        await application.resume()


@asynccontextmanager
async def newcomers(cluster: Cluster) -> AsyncIterator[list[RecordingClient]]:
    """Clients that arrive now. Raises TimeoutError if one of them is not admitted within :data:`ADMITTED_S` of the end."""
    clients = [RecordingClient(["s0"], cluster.next_port) for _ in range(2 * NODES)]
    try:
        yield clients
        async with asyncio.timeout(ADMITTED_S):
            for client in clients:
                await client.subscribed.wait()
    finally:
        for client in clients:
            await client.close()


async def split_links(cluster: Cluster) -> None:
    """Everything between the nodes and the store passes in pieces of two bytes, in both directions."""
    with _split(cluster):
        await asyncio.sleep(OUTAGE_S)


async def split_and_cut_links(cluster: Cluster) -> None:
    """The same, and connections break: the nodes connect and catch up in such pieces."""
    with _split(cluster):
        for link in cluster.links:
            link.cut()
            await asyncio.sleep(OUTAGE_S)


@contextmanager
def _split(cluster: Cluster) -> Iterator[None]:
    for link in cluster.links:
        link.rough = Roughness(piece_bytes=2, piece_bytes_up=2, piece_pause_s=0.0001)
    yield
    for link in cluster.links:
        link.rough = Roughness()


async def _kill(node: CableServer) -> None:
    node.process.kill()
    await asyncio.to_thread(node.process.wait)


ON_REDIS: Final = frozenset({"redis", "redisx"})
ON_ONE_STORE: Final = ON_REDIS | {"nats"}
ON_SERVERS: Final = ON_ONE_STORE | {"jetstream"}
REPLICATED: Final = frozenset({"sentinel", "cluster"})
EVERYWHERE: Final = ON_SERVERS | {"embedded"} | REPLICATED
WITH_LINKS: Final = ON_SERVERS
ON_WORKERS: Final = frozenset({"workers"})
ON_APPLICATION: Final = frozenset({"application"})

FAULTS: Final = {
    fault.name: fault
    for fault in (
        Fault("nothing", nothing, EVERYWHERE),
        Fault("kill-node", kill_node, EVERYWHERE, disturbed=FIRST),
        Fault("kill-all-nodes", kill_all_nodes, ON_SERVERS | REPLICATED, disturbed=ALL),
        Fault("hang-node", hang_node, EVERYWHERE, disturbed=FIRST),
        Fault("kill-store", kill_store, EVERYWHERE, isolated=ALL, reported_within_s=CLOSED_S),
        Fault("hang-store", hang_store, ON_SERVERS | REPLICATED, isolated=ALL),
        Fault("kill-connections", kill_connections, ON_REDIS, disturbed=ALL),
        Fault("cut-links", cut_links, WITH_LINKS, needs_links=True, disturbed=ALL),
        Fault(
            *("silence-to-store", _black_hole("is_silent_up"), WITH_LINKS),
            needs_links=True,
            isolated=FIRST,
        ),
        Fault(
            *("silence-from-store", _black_hole("is_silent_down"), WITH_LINKS),
            needs_links=True,
            isolated=FIRST,
        ),
        Fault("delay-links", delay_links, WITH_LINKS, needs_links=True),
        Fault(
            *("throttle-links", throttle_links, WITH_LINKS),
            needs_links=True,
            disturbed=ALL,
            share_of_load=1 / 6,
        ),
        Fault(
            *("half-open-links", half_open_links, WITH_LINKS),
            needs_links=True,
            disturbed=FIRST,
        ),
        Fault("kill-worker", kill_worker, ON_WORKERS, disturbed=ALL),
        Fault("hang-worker", hang_worker, ON_WORKERS, disturbed=ALL),
        Fault("kill-application", kill_application, ON_APPLICATION, disturbed=ALL),
        Fault("hang-application", hang_application, ON_APPLICATION, disturbed=ALL),
        Fault("split-links", split_links, WITH_LINKS, needs_links=True, share_of_load=1 / 6),
        Fault(
            *("split-and-cut-links", split_and_cut_links, WITH_LINKS),
            needs_links=True,
            disturbed=ALL,
            share_of_load=1 / 6,
        ),
    )
}
