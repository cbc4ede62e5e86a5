"""Several cable servers that are the nodes of one cluster, and publishers to them.

Knows: processes and their ports. Does not know: messages between nodes.
"""

import asyncio
import http.client
import itertools
import json
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

from tests.parts.nats_node import jetstream_server
from tests.parts.ports import free_port
from tests.parts.redis import redis_server
from tests.parts.resuming_client import PATIENCE_S
from tests.parts.server import OURS, CableServer

FLAGS = (
    *("--public", "--norpc", "--broadcast_adapter=http", "--history_limit=5000"),
    *("--sessions_ttl=20", "--presence_ttl=3", "--ping_interval=1"),
)


@dataclass
class Cluster:
    """The nodes, and the server between them, which a test may ``stop`` and ``start`` again."""

    nodes: list[CableServer]
    stop: Callable[[], None]
    start: Callable[[], None]
    _turn: "itertools.count[int]" = field(default_factory=itertools.count)

    def any_port(self) -> int:
        """The next node in turn, as a load balancer would choose it, including nodes that have died."""
        return self.nodes[next(self._turn) % len(self.nodes)].port


@contextmanager
def redis_cluster(number: int, *more: str) -> Iterator[Cluster]:
    """Nodes on one Redis, which stores and forwards everything; ``more`` are additional flags of the nodes."""
    with redis_server() as redis, ExitStack() as stack:
        flags = (*FLAGS, "--broker=redis", f"--redis_url={redis.url}", *more)
        nodes = started(stack, [flags] * number)
        yield Cluster(nodes, redis.stop, redis.start)


@contextmanager
def nats_cluster(number: int, *more: str) -> Iterator[Cluster]:
    """Nodes on one nats-server with JetStream, which finds its files again when it is restarted."""
    with jetstream_server() as nats, ExitStack() as stack:
        flags = (*FLAGS, "--broker=nats", f"--nats_servers={nats.url}", *more)
        nodes = started(stack, [flags] * number)
        yield Cluster(nodes, nats.stop, nats.start)


@contextmanager
def embedded_cluster(number: int) -> Iterator[Cluster]:
    """Nodes that each embed a NATS server; the servers route to each other."""
    with embedded_nodes(number, *FLAGS) as nodes:
        yield Cluster(nodes, _not_to_be_stopped, _not_to_be_stopped)


@contextmanager
def embedded_nodes(number: int, *flags: str) -> Iterator[list[CableServer]]:
    """The same nodes with other flags."""
    routes = [free_port() for _ in range(number)]
    with ExitStack() as stack:
        stores = stack.enter_context(tempfile.TemporaryDirectory())
        yield started(
            stack,
            [
                (
                    *flags,
                    *("--broker=nats", "--embed_nats", f"--enats_store_dir={stores}/{index}"),
                    *_embedded(index, routes),
                )
                for index in range(number)
            ],
        )


def started(stack: ExitStack, nodes: Iterable[tuple[str, ...]]) -> list[CableServer]:
    """Starts nodes with these flags, all at once; returns when they hear each other."""
    started = []
    for flags in nodes:
        started.append(CableServer(OURS, flags, {}))
        stack.callback(started[-1].close)
    for node in started:
        node.wait_until_ready()
        node.wait_until_it_hears_others()
    return started


def _embedded(index: int, routes: list[int]) -> tuple[str, ...]:
    others = ",".join(
        f"nats://127.0.0.1:{port}" for place, port in enumerate(routes) if place != index
    )
    return (
        f"--enats_addr=nats://127.0.0.1:{free_port()}",
        f"--enats_cluster=nats://127.0.0.1:{routes[index]}",
        f"--enats_cluster_routes={others}",
        f"--enats_server_name=node-{index}",
    )


def _not_to_be_stopped() -> None:
    raise AssertionError("the servers are parts of the nodes")


class Publisher:
    """Publishes numbers over HTTP, one after the other; tries again until each is accepted.

    ``repeated`` are the numbers of which an attempt failed without an answer that excludes its acceptance: they may
    arrive twice.
    """

    def __init__(self, ports: Callable[[], int]) -> None:
        self._ports = ports
        self.repeated: set[int] = set()

    async def publish(self, stream: str, number: int, timeout_s: float = PATIENCE_S) -> None:
        """Returns once a node has accepted it. Raises TimeoutError."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout_s
        while not await asyncio.to_thread(self._try, stream, number):
            if loop.time() > deadline:
                raise TimeoutError(f"{number} was not accepted within {timeout_s} s")
            await asyncio.sleep(0.05)

    def _try(self, stream: str, number: int) -> bool:
        body = json.dumps({"stream": stream, "data": json.dumps(number)})
        connection = http.client.HTTPConnection("127.0.0.1", self._ports(), timeout=3)
        try:
            connection.request("POST", "/_broadcast", body)
            status = connection.getresponse().status
        except ConnectionRefusedError:
            return False
        except (OSError, http.client.HTTPException):
            self.repeated.add(number)
            return False
        finally:
            connection.close()
        if status != 201:
            self.repeated.add(number)
        return status == 201


def once(numbers: list[int], repeated: set[int]) -> list[int]:
    """The received numbers, without the second one of each that may arrive twice."""
    seen: set[int] = set()
    kept = []
    for number in numbers:
        if number in seen and number in repeated:
            continue
        seen.add(number)
        kept.append(number)
    return kept
