"""Engines: nodes of a cluster, the store that they share, and the links between the two.

Every server is a real process on this machine. Knows: processes, their flags, who leads a JetStream.
Does not know: faults.
"""

import asyncio
import itertools
import json
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Protocol

from catenary.adapters.nats.connection import connect
from catenary.config.addresses import NatsAddress
from tests.faults.publishers import HttpPublisher, Publisher, RedisStreamPublisher
from tests.parts.nats import NatsServer
from tests.parts.ports import free_port, wait_until_listening
from tests.parts.redis import RedisServer
from tests.parts.rough_proxy import Roughness, RoughProxy
from tests.parts.server import OURS, CableServer

WITHOUT_APPLICATION: Final = ("--public", "--norpc")
WITH_APPLICATION: Final = ("--public_streams",)
FLAGS: Final = (
    *("--history_limit=100000", "--history_ttl=600"),
    *("--sessions_ttl=30", "--ping_interval=1"),
)

NODES: Final = 3


class Store(Protocol):
    """The store of the nodes, as far as a fault can break it: of several servers, the leader."""

    async def kill(self) -> None:
        """SIGKILL."""
        ...

    async def start(self) -> None:
        """Starts the killed server again, on the same port."""
        ...

    async def hang(self) -> None:
        """SIGSTOP: connections stay open, and nothing is answered."""
        ...

    async def resume(self) -> None:
        """SIGCONT."""
        ...


@dataclass
class Cluster:
    """The parts that a fault may break. ``links`` lead from the nodes to the store, one for each node."""

    nodes: list[CableServer]
    store: Store
    links: list[RoughProxy]
    publisher: Callable[["Cluster", str, float], Publisher]
    redis_url: str = ""
    application: Store | None = None
    _turn: "itertools.count[int]" = field(default_factory=itertools.count)

    def next_port(self) -> int:
        """The cable of the next node in turn, as a round-robin load balancer chooses."""
        return self.nodes[next(self._turn) % len(self.nodes)].port

    def next_broadcast_port(self) -> int:
        return self.nodes[next(self._turn) % len(self.nodes)].broadcast_port


@dataclass(frozen=True)
class Engine:
    """``open`` starts a cluster; its argument asks for links that can be broken."""

    name: str
    open: Callable[[bool], AbstractContextManager[Cluster]]


class _Server:
    """A redis-server or a nats-server."""

    def __init__(self, server: RedisServer | NatsServer) -> None:
        self._server = server

    async def kill(self) -> None:
        await asyncio.to_thread(self._server.stop)

    async def start(self) -> None:
        await asyncio.to_thread(self._server.start)

    async def hang(self) -> None:
        await asyncio.to_thread(self._server.freeze)

    async def resume(self) -> None:
        self._server.thaw()


class _Application:
    """An application over gRPC, in a process of its own."""

    def __init__(self) -> None:
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None

    def run(self) -> None:
        """Returns when it accepts connections."""
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.parts.grpc_app", str(self.port)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        wait_until_listening(self.port)

    def end(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    async def kill(self) -> None:
        await asyncio.to_thread(self.end)

    async def start(self) -> None:
        await asyncio.to_thread(self.run)

    async def hang(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    async def resume(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)


class _Leader:
    """The nats-server of a cluster that leads the stream of histories, at the moment of a fault."""

    def __init__(self, servers: Sequence[NatsServer]) -> None:
        self._servers = servers
        self._victim: NatsServer | None = None

    async def kill(self) -> None:
        self._victim = await self._leader()
        await asyncio.to_thread(self._victim.stop)

    async def start(self) -> None:
        assert self._victim is not None
        await asyncio.to_thread(self._victim.start)

    async def hang(self) -> None:
        self._victim = await self._leader()
        await asyncio.to_thread(self._victim.freeze)

    async def resume(self) -> None:
        assert self._victim is not None
        self._victim.thaw()

    async def _leader(self) -> NatsServer:
        name = await leader_of_histories(self._servers[0].port)
        return self._servers[int(name.removeprefix("server-"))]


class _LeadingNode:
    """The node whose embedded nats-server leads the stream of histories."""

    def __init__(self, nodes: Sequence[CableServer], ports: Sequence[int]) -> None:
        self._nodes = nodes
        self._ports = ports
        self._victim: CableServer | None = None

    async def kill(self) -> None:
        self._victim = await self._leader()
        self._victim.process.kill()
        await asyncio.to_thread(self._victim.process.wait)

    async def start(self) -> None:
        assert self._victim is not None
        await asyncio.to_thread(self._victim.restart)

    async def hang(self) -> None:
        raise NotImplementedError("a node that hangs leaves its nats-server running")

    async def resume(self) -> None:
        raise NotImplementedError

    async def _leader(self) -> CableServer:
        name = await leader_of_histories(self._ports[0])
        return self._nodes[int(name.removeprefix("server-"))]


class _NoStore:
    """The server brings its own, which no fault breaks."""

    async def kill(self) -> None:
        raise NotImplementedError

    start = hang = resume = kill


async def leader_of_histories(port: int) -> str:
    """The name of the nats-server that leads it (``$JS.API.STREAM.INFO``)."""
    connection = await connect(NatsAddress("127.0.0.1", port))
    try:
        answer = await connection.request("$JS.API.STREAM.NAMES", b"{}")
        (name,) = (each for each in json.loads(answer.payload)["streams"] if each.endswith("_H"))
        answer = await connection.request(f"$JS.API.STREAM.INFO.{name}", b"{}")
        leader: str = json.loads(answer.payload)["cluster"]["leader"]
        return leader
    finally:
        await connection.close(1)


# How each is started


@contextmanager
def _redis(with_links: bool, *, is_stream: bool = False) -> Iterator[Cluster]:
    """Nodes on one Redis that keeps everything on disk, with each write."""
    with ExitStack() as stack:
        directory = stack.enter_context(tempfile.TemporaryDirectory(prefix="catenary-faults-"))
        server = RedisServer(Path(directory))
        server.start()
        stack.callback(server.stop)
        links = _links(stack, server.port) if with_links else []
        ports = [link.port for link in links] or [server.port] * NODES
        adapters = "http,redisx" if is_stream else "http"
        nodes = start_nodes(
            stack,
            [
                (
                    f"--broadcast_adapter={adapters}",
                    *("--broker=redis", f"--redis_url=redis://127.0.0.1:{port}"),
                )
                for port in ports
            ],
        )
        publisher = _over_redis_stream if is_stream else over_http
        yield Cluster(nodes, _Server(server), links, publisher, server.url)


@contextmanager
def _redis_stream(with_links: bool) -> Iterator[Cluster]:
    with _redis(with_links, is_stream=True) as cluster:
        yield cluster


@contextmanager
def _with_application(with_links: bool) -> Iterator[Cluster]:
    """Nodes on one Redis, whose clients an application admits over gRPC."""
    assert not with_links
    with ExitStack() as stack:
        redis = RedisServer()
        redis.start()
        stack.callback(redis.stop)
        application = _Application()
        stack.callback(application.end)
        application.run()
        flags = (
            *("--broadcast_adapter=http", "--broker=redis", f"--redis_url={redis.url}"),
            f"--rpc_host=127.0.0.1:{application.port}",
        )
        nodes = start_nodes(stack, [flags] * NODES, with_application=True)
        yield Cluster(nodes, _Server(redis), [], over_http, redis.url, application=application)


@contextmanager
def _workers(with_links: bool) -> Iterator[Cluster]:
    """One server with two workers, and the NATS server that it brings."""
    assert not with_links
    with ExitStack() as stack:
        flags = ("--broadcast_adapter=http", "--broker=nats", "--workers=2")
        nodes = start_nodes(stack, [flags])
        for number in (1, 2):
            nodes[0].wait_for_output(f"Worker {number} serves")
        nodes[0].wait_for_output("Nodes meet on NATS", times=2)
        yield Cluster(nodes, _NoStore(), [], over_http)


@contextmanager
def _nats(with_links: bool) -> Iterator[Cluster]:
    """Nodes on one nats-server with JetStream."""
    with ExitStack() as stack:
        directory = stack.enter_context(tempfile.TemporaryDirectory(prefix="catenary-faults-"))
        server = NatsServer(store_dir=Path(directory))
        server.start()
        stack.callback(server.stop)
        links = _links(stack, server.port) if with_links else []
        ports = [link.port for link in links] or [server.port] * NODES
        nodes = start_nodes(stack, [_on_nats([port]) for port in ports])
        yield Cluster(nodes, _Server(server), links, over_http)


@contextmanager
def _jetstream(with_links: bool) -> Iterator[Cluster]:
    """Nodes on three nats-servers that replicate everything.

    A node uses any of them, or, with links, one of its own: servers do not advertise the others then, which
    would lead around the links.
    """
    with ExitStack() as stack:
        directory = stack.enter_context(
            tempfile.TemporaryDirectory(prefix="catenary-faults-", ignore_cleanup_errors=True)
        )
        routes = [free_port() for _ in range(NODES)]
        servers = [
            NatsServer(
                *("--cluster_name", "faults", "--cluster", f"nats://127.0.0.1:{route}"),
                *("--routes", ",".join(f"nats://127.0.0.1:{other}" for other in routes)),
                *("--server_name", f"server-{index}"),
                *(("--no_advertise",) if with_links else ()),
                store_dir=Path(directory) / str(index),
            )
            for index, route in enumerate(routes)
        ]
        for server in servers:
            server.start()
            stack.callback(server.stop)
        links = [_link(stack, server.port) for server in servers] if with_links else []
        ports = [[link.port] for link in links] or [[each.port for each in servers]] * NODES
        nodes = start_nodes(stack, [_on_nats(each) for each in ports])
        yield Cluster(nodes, _Leader(servers), links, over_http)


@contextmanager
def _embedded(with_links: bool) -> Iterator[Cluster]:
    """Nodes that each bring a nats-server; these replicate everything."""
    assert not with_links, "embedded servers find each other by themselves"
    with ExitStack() as stack:
        directory = stack.enter_context(
            tempfile.TemporaryDirectory(prefix="catenary-faults-", ignore_cleanup_errors=True)
        )
        ports = [free_port() for _ in range(NODES)]
        routes = [free_port() for _ in range(NODES)]
        flags = [
            (
                *("--broadcast_adapter=http", "--broker=nats", "--embed_nats"),
                *(f"--enats_store_dir={directory}/{index}", f"--enats_server_name=server-{index}"),
                f"--enats_addr=nats://127.0.0.1:{ports[index]}",
                f"--enats_cluster=nats://127.0.0.1:{routes[index]}",
                "--enats_cluster_routes="
                + ",".join(f"nats://127.0.0.1:{other}" for other in routes),
            )
            for index in range(NODES)
        ]
        nodes = start_nodes(stack, flags)
        yield Cluster(nodes, _LeadingNode(nodes, ports), [], over_http)


def _on_nats(ports: Sequence[int]) -> tuple[str, ...]:
    servers = ",".join(f"nats://127.0.0.1:{port}" for port in ports)
    return ("--broadcast_adapter=http", "--broker=nats", f"--nats_servers={servers}")


def _links(stack: ExitStack, port: int) -> list[RoughProxy]:
    return [_link(stack, port) for _ in range(NODES)]


def _link(stack: ExitStack, port: int) -> RoughProxy:
    link = RoughProxy(port, Roughness())
    stack.callback(link.close)
    return link


def start_nodes(
    stack: ExitStack, flags: Sequence[tuple[str, ...]], *, with_application: bool = False
) -> list[CableServer]:
    """Starts nodes side by side; returns when each is ready."""
    nodes = []
    admission = WITH_APPLICATION if with_application else WITHOUT_APPLICATION
    for each in flags:
        nodes.append(CableServer(OURS, (*admission, *FLAGS, *each), {}))
        stack.callback(nodes[-1].close)
    for node in nodes:
        node.wait_until_ready(30)
    for node in nodes:
        node.wait_until_it_hears_others()
    return nodes


def over_http(cluster: Cluster, stream: str, per_second: float) -> Publisher:
    return HttpPublisher(stream, per_second, cluster.next_broadcast_port)


def _over_redis_stream(cluster: Cluster, stream: str, per_second: float) -> Publisher:
    return RedisStreamPublisher(stream, per_second, cluster.redis_url)


SINGLE: Final = {
    engine.name: engine
    for engine in (
        Engine("redis", _redis),
        Engine("redisx", _redis_stream),
        Engine("nats", _nats),
        Engine("jetstream", _jetstream),
        Engine("embedded", _embedded),
        Engine("application", _with_application),
        Engine("workers", _workers),
    )
}
