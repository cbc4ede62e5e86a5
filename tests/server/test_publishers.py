"""A node that receives no publications is not ready for clients, and says which broadcast adapter is the reason."""

import time
import urllib.error
import urllib.request
from collections.abc import Iterator

import pytest

from tests.parts.nats import NatsServer, nats_server
from tests.parts.redis import RedisServer, redis_server
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
