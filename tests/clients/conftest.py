"""Servers and clients of the tests here.

The server is ours always, and anycable-go too where ``ANYCABLE_GO`` names its binary.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from functools import partial

import pytest

from tests.parts.chat_app import chat_app
from tests.parts.node import NodeClient, node_client
from tests.parts.redis import redis_server
from tests.parts.server import OURS, CableServer, cable_server

SERVERS: dict[str, tuple[str, ...]] = {"ours": OURS}
if "ANYCABLE_GO" in os.environ:
    SERVERS["anycable-go"] = (os.environ["ANYCABLE_GO"],)

CLIENTS = {
    "rails-actioncable": ("actioncable.mjs", ""),
    "anycable-core": ("anycable.mjs", ""),
    "anycable-core-msgpack": ("anycable.mjs", "actioncable-v1-msgpack"),
    "anycable-core-protobuf": ("anycable.mjs", "actioncable-v1-protobuf"),
}
"""Drivers, and the subprotocol that each speaks where that is not its own."""

PING_INTERVAL_S = 1
PUBLIC = ("--public", "--norpc", "--broadcast_adapter=http", f"--ping_interval={PING_INTERVAL_S}")

NewClient = Callable[[str], AbstractContextManager[NodeClient]]


@pytest.fixture(scope="module", params=SERVERS.values(), ids=list(SERVERS))
def server_command(request: pytest.FixtureRequest) -> tuple[str, ...]:
    command: tuple[str, ...] = request.param
    return command


@pytest.fixture(params=CLIENTS.values(), ids=list(CLIENTS))
def new_client(request: pytest.FixtureRequest, server_command: tuple[str, ...]) -> NewClient:
    """Starts a client of one kind for a cable URL; it expects a ping each second."""
    driver, protocol = request.param
    if protocol and server_command != OURS:
        pytest.skip("anycable-go has no binary encodings")
    return partial(node_client, driver, ping_interval_s=PING_INTERVAL_S, protocol=protocol)


@pytest.fixture(scope="module")
def public_server(server_command: tuple[str, ...]) -> Iterator[CableServer]:
    """A server without an application: everybody may listen to every stream of ``$pubsub``."""
    with cable_server(*PUBLIC, command=server_command) as server:
        yield server


@pytest.fixture(scope="module")
def chat_server(server_command: tuple[str, ...]) -> Iterator[CableServer]:
    """A server with the application of examples/chat behind it, and Redis between the two."""
    with redis_server() as redis, chat_app(redis.url) as rpc_host:
        flags = (
            f"--rpc_host={rpc_host}",
            f"--redis_url={redis.url}",
            "--broadcast_adapter=http,redis",
            f"--ping_interval={PING_INTERVAL_S}",
        )
        with cable_server(*flags, command=server_command) as server:
            yield server
