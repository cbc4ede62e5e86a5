"""A node that receives no publications is not ready for clients, and says which broadcast adapter is the reason."""

import asyncio
import time
import urllib.error
import urllib.request
from collections.abc import Awaitable, Callable, Iterator
from contextlib import closing

import pytest

from catenary.config.effective import effective
from catenary.messages.publications import QueueEntry
from catenary.node.publications import Publications
from catenary.server.build import ServerBuild
from catenary.server.engines import Engine, build_nats
from catenary.server.publishers import start_publishers
from catenary.supervision.health import is_ready
from tests.config.sources import options
from tests.parts.heart import Heart, in_loop
from tests.parts.nats import NatsPublisher, NatsServer, nats_server
from tests.parts.redis import RedisPublisher, RedisServer, RedisStreamPublisher, redis_server
from tests.parts.server import CableServer, cable_server

Backend = NatsServer | RedisServer


@pytest.fixture(params=["redis", "redisx", "nats"])
def adapter(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture
def backend(adapter: str) -> Iterator[Backend]:
    with nats_server() if adapter == "nats" else redis_server() as backend:
        yield backend


@pytest.fixture
def server(adapter: str, backend: Backend) -> Iterator[CableServer]:
    if isinstance(backend, NatsServer):
        where = f"--nats_servers={backend.url}"
    else:
        where = f"--redis_url={backend.url}"
    flags = ("--public", "--norpc", f"--broadcast_adapter={adapter}", where)
    with cable_server(*flags, "--redis_keepalive_interval=1") as server:
        wait_for_readiness(server, 200, "OK\n")
        yield server


def readiness(server: CableServer) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{server.port}/ready", timeout=20) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as refused:
        return refused.code, refused.read().decode()


def wait_for_readiness(server: CableServer, status: int, beginning: str) -> None:
    deadline = time.monotonic() + 20
    while True:
        answer = readiness(server)
        if answer[0] == status and answer[1].startswith(beginning):
            return
        assert time.monotonic() < deadline, answer
        time.sleep(0.02)


def test_a_stopped_backend(server: CableServer, adapter: str, backend: Backend) -> None:
    backend.stop()
    wait_for_readiness(server, 503, f"broadcast_adapter={adapter}: ")
    backend.start()
    wait_for_readiness(server, 200, "OK\n")


@pytest.mark.parametrize("adapter", ["redis", "redisx"])
def test_a_backend_that_does_not_answer(
    server: CableServer, adapter: str, backend: Backend
) -> None:
    backend.freeze()
    try:
        wait_for_readiness(server, 503, f"broadcast_adapter={adapter}: ")
    finally:
        backend.thaw()
    wait_for_readiness(server, 200, "OK\n")


class Entered(Publications):
    """Notes which of its methods an adapter calls."""

    __slots__ = ()
    names: list[str]

    def publish(
        self,
        raw: bytes | str,
        entry: QueueEntry | None = None,
        trace: str = "",
        charge: Callable[[int], None] | None = None,
    ) -> Awaitable[None] | None:
        self.names.append("publish")
        return None

    def publish_in_turns(
        self,
        raw: bytes,
        entry: QueueEntry | None = None,
        trace: str = "",
        charge: Callable[[int], None] | None = None,
    ) -> Awaitable[None] | None:
        self.names.append("publish_in_turns")
        return None

    def publish_locally(self, raw: bytes) -> Awaitable[None] | None:
        self.names.append("publish_locally")
        return None


def publish_from_outside(adapter: str, backend: Backend) -> None:
    if isinstance(backend, NatsServer):
        with closing(NatsPublisher(backend)) as publisher:
            publisher.publish("{}")
    elif adapter == "redis":
        with closing(RedisPublisher(backend)) as channel:
            channel.publish("{}")
    else:
        with closing(RedisStreamPublisher(backend)) as stream:
            stream.publish("{}")


@pytest.mark.parametrize("is_shared", [False, True])
@in_loop
async def test_a_large_batch_is_read_in_turns_whichever_way_it_comes(
    adapter: str, backend: Backend, is_shared: bool
) -> None:
    """A Redis channel reaches every node, so nodes that share publications pass its messages to their clients only."""
    where = "nats_servers" if isinstance(backend, NatsServer) else "redis_url"
    build = ServerBuild(
        effective(options(f"--broadcast_adapter={adapter}", f"--{where}={backend.url}"))
    )
    publications = Heart().node.publications
    publications.__class__ = Entered
    Entered.names = []
    engine = Engine()
    engine.is_shared = is_shared
    start_publishers(build, publications, engine, build_nats(build))
    for start in build.start:
        await start()
    try:
        while not is_ready(build.health()):  # noqa: ASYNC110  (nothing here can set an event)
            await asyncio.sleep(0.01)
        await asyncio.to_thread(publish_from_outside, adapter, backend)
        while not Entered.names:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    finally:
        await build.shutdown.run(5)
    is_local = adapter == "redis" and is_shared
    assert Entered.names == ["publish_locally" if is_local else "publish_in_turns"]
