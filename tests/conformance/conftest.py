"""The servers under test, the application behind them, and clients in front.

One server, application and Redis serve all tests that need no flags of their own.
"""

import itertools
import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from typing import Any, Protocol

import pytest

from tests.parts.cable_client import CableClient
from tests.parts.conformance_app import ConformanceApp, conformance_app
from tests.parts.redis import RedisPublisher, RedisServer, redis_server
from tests.parts.server import OURS, CableServer, cable_server

REFERENCE = "anycable-go"
COMMANDS: dict[str, tuple[str, ...]] = {"ours": OURS}
if "ANYCABLE_GO" in os.environ:
    COMMANDS[REFERENCE] = (os.environ["ANYCABLE_GO"],)

_numbers = itertools.count(1)


class Connect(Protocol):
    """Connects a client to the shared server; see CableClient for the options."""

    def __call__(self, query: str = "", **options: Any) -> CableClient: ...


StartServer = Callable[..., AbstractContextManager[CableServer]]
"""Starts a server with the flags given, for the length of a with block."""


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers",
        "reference_fault(reason, skip=False): the reference fails this test, and is not copied; "
        "with skip it is not run there, because it fails by chance or breaks what comes after",
    )


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        mark = item.get_closest_marker("reference_fault")
        if mark is None or not isinstance(item, pytest.Function):
            continue
        if item.callspec.params.get("command") != REFERENCE:
            continue
        (reason,) = mark.args
        if mark.kwargs.get("skip", False):
            item.add_marker(pytest.mark.skip(reason=reason))
        else:
            item.add_marker(pytest.mark.xfail(reason=reason, strict=True))


@pytest.fixture(scope="session", params=list(COMMANDS))
def command(request: pytest.FixtureRequest) -> str:
    """The name of the server under test."""
    name: str = request.param
    return name


@pytest.fixture(scope="session")
def start_server(command: str) -> StartServer:
    """Starts one more server, with flags of its own, for the length of a with block."""

    def start(*flags: str) -> AbstractContextManager[CableServer]:
        return cable_server(*flags, command=COMMANDS[command])

    return start


@pytest.fixture(scope="session")
def redis() -> Iterator[RedisServer]:
    with redis_server() as server:
        yield server


@pytest.fixture(scope="session")
def publisher(redis: RedisServer) -> Iterator[RedisPublisher]:
    publisher = RedisPublisher(redis)
    yield publisher
    publisher.close()


@pytest.fixture(scope="session")
def app() -> Iterator[ConformanceApp]:
    with conformance_app() as app:
        yield app


@pytest.fixture(scope="session")
def server(
    start_server: StartServer, app: ConformanceApp, redis: RedisServer
) -> Iterator[CableServer]:
    """The shared server."""
    with start_server(
        f"--rpc_host={app.host}",
        "--broadcast_adapter=redis,http",
        f"--redis_url={redis.url}",
        "--ping_interval=1",
        "--headers=cookie,x-api-token,x-absent",
        "--path=/cable,/admin/*,/app/{tenant}/cable",
    ) as server:
        yield server


@pytest.fixture
def connect(server: CableServer) -> Iterator[Connect]:
    """Opens connections to the shared server; they are closed after the test."""
    with ExitStack() as clients:

        def connect(query: str = "", **options: Any) -> CableClient:
            return clients.enter_context(CableClient(f"{server.cable_url}?{query}", **options))

        yield connect


@pytest.fixture
def client(connect: Connect) -> CableClient:
    """A client that has been welcomed."""
    client = connect()
    client.receive_welcome()
    return client


@pytest.fixture
def sid() -> str:
    """A session id that no other test uses, for X-Request-ID."""
    return f"session-{next(_numbers)}"


@pytest.fixture
def stream() -> str:
    """A stream that no other test uses."""
    return f"stream/{next(_numbers)}"
