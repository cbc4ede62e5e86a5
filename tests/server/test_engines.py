"""A starting node waits for the connection to the other nodes, and serves without it after a while."""

import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from typing import Literal

import pytest

from tests.parts.nats import NatsServer, nats_server
from tests.parts.redis import RedisServer, redis_server
from tests.parts.server import OURS, CableServer

Between = NatsServer | RedisServer

FLAGS = ("--public", "--norpc", "--broadcast_adapter=http")


@pytest.fixture(params=["nats", "redis"])
def between(request: pytest.FixtureRequest) -> Iterator[Between]:
    kind: Literal["nats", "redis"] = request.param
    with nats_server() if kind == "nats" else redis_server() as server:
        yield server


def node(between: Between) -> CableServer:
    if isinstance(between, NatsServer):
        flags = ("--pubsub=nats", f"--nats_servers={between.url}")
    else:
        flags = ("--pubsub=redis", f"--redis_url={between.url}")
    return CableServer(OURS, (*FLAGS, *flags), {})


def publish(server: CableServer) -> int:
    body = json.dumps({"stream": "s", "data": "1"}).encode()
    with urllib.request.urlopen(server.broadcast_url, body, timeout=20) as answer:
        return int(answer.status)


def readiness(server: CableServer) -> int:
    try:
        urllib.request.urlopen(f"http://127.0.0.1:{server.port}/ready", timeout=20).close()
    except urllib.error.HTTPError as refused:
        return refused.code
    return 200


@contextmanager
def frozen(between: Between) -> Iterator[None]:
    between.freeze()
    try:
        yield
    finally:
        between.thaw()


def test_what_is_published_first_is_accepted(between: Between) -> None:
    with ExitStack() as stack:
        with frozen(between):
            server = stack.enter_context(closing(node(between)))
            server.wait_for_output("Serving broadcasts")
            with pytest.raises(TimeoutError):
                server.wait_until_ready(0.5)
        server.wait_until_ready()
        assert publish(server) == 201
        assert readiness(server) == 200
        assert "Serving before" not in server.output()


def test_a_node_serves_its_clients_when_nobody_comes(between: Between) -> None:
    with frozen(between), closing(node(between)) as server:
        server.wait_until_ready(20)
        assert "Serving before the other nodes can be reached" in server.output()
        assert readiness(server) == 503
