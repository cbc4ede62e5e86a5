"""A client that is disconnected remotely while it is away comes back through authentication, or not at all.

Real servers, alone and in a cluster, whatever keeps the sessions and however the command is published.
"""

import json
import os
import signal
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass

import pytest

from tests.channels.serving import IN_PROCESS
from tests.parts.cable_client import CableClient, identifier
from tests.parts.nats_node import jetstream_server
from tests.parts.redis import RedisPublisher, redis_server
from tests.parts.server import CableServer, cable_server
from tests.parts.tokens import SECRET, signed_name, token

EXTENDED = ("actioncable-v1-ext-json",)
FLAGS = (
    *("--norpc", "--enforce_jwt", f"--secret={SECRET}", "--broadcast_key=none"),
    *("--metrics_http=/metrics", "--sessions_ttl=60"),
)
EVE, BOB = '{"user":"eve"}', '{"user":"bob"}'
PRIVATE = identifier("$pubsub", signed_stream_name=signed_name("private"))


@dataclass
class Nodes:
    """Servers that share sessions (one that is alone counts twice), and how to disconnect a client."""

    servers: list[CableServer]
    disconnect: Callable[[str, bool], None]


def command(identifiers: str, reconnect: bool) -> str:
    payload = {"identifier": identifiers, "reconnect": reconnect}
    return json.dumps({"command": "disconnect", "payload": payload})


def over_http(server: CableServer) -> Callable[[str, bool], None]:
    def disconnect(identifiers: str, reconnect: bool) -> None:
        body = command(identifiers, reconnect).encode()
        urllib.request.urlopen(server.broadcast_url, body, timeout=5).close()

    return disconnect


@contextmanager
def memory() -> Iterator[Nodes]:
    flags = (*FLAGS, "--broker=memory", "--broadcast_adapter=http")
    with cable_server(*flags) as server:
        yield Nodes([server, server], over_http(server))


@contextmanager
def redis(*, is_relayed: bool = False) -> Iterator[Nodes]:
    """``is_relayed``: every node receives the command from its publisher, by Redis pub/sub."""
    with redis_server() as server, ExitStack() as stack:
        adapter = "redis" if is_relayed else "http"
        flags = (*FLAGS, "--broker=redis", f"--redis_url={server.url}")
        nodes = [
            stack.enter_context(cable_server(*flags, f"--broadcast_adapter={adapter}"))
            for _ in range(2)
        ]
        for node in nodes:
            node.wait_until_it_hears_others()
        if not is_relayed:
            yield Nodes(nodes, over_http(nodes[0]))
            return
        for node in nodes:
            node.wait_for_output("Subscribed to the Redis channel")
        publisher = RedisPublisher(server)

        def disconnect(identifiers: str, reconnect: bool) -> None:
            publisher.publish(command(identifiers, reconnect))

        yield Nodes(nodes, disconnect)
        publisher.close()


@contextmanager
def nats() -> Iterator[Nodes]:
    with jetstream_server() as server, ExitStack() as stack:
        flags = (
            *FLAGS,
            "--broker=nats",
            f"--nats_servers={server.url}",
            "--broadcast_adapter=http",
        )
        nodes = [stack.enter_context(cable_server(*flags)) for _ in range(2)]
        for node in nodes:
            node.wait_until_it_hears_others()
        yield Nodes(nodes, over_http(nodes[0]))


OPENED: dict[str, Callable[[], AbstractContextManager[Nodes]]] = {
    "memory": memory,
    "redis": redis,
    "relayed": lambda: redis(is_relayed=True),
    "nats": nats,
}


@pytest.fixture(scope="module", params=OPENED)
def nodes(request: pytest.FixtureRequest) -> Iterator[Nodes]:
    """Servers for all tests that name clients of their own."""
    with OPENED[request.param]() as nodes:
        yield nodes


def session_of(server: CableServer, identifiers: str) -> str:
    """The sid of a client that listens to a private stream, and leaves."""
    text = token({"ext": identifiers, "exp": int(time.time()) + 60})
    url = f"{server.cable_url}?jid={text}"
    with CableClient(url, subprotocols=EXTENDED) as client:
        sid = str(client.receive()["sid"])
        assert client.subscribe(PRIVATE)["type"] == "confirm_subscription"
    wait_until(server, "clients_num 0")
    return sid


def wait_until(server: CableServer, figure: str) -> None:
    """Returns when the server shows a figure. Raises TimeoutError."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        url = f"http://127.0.0.1:{server.port}/metrics"
        with urllib.request.urlopen(url, timeout=5) as response:
            if any(line.endswith(figure) for line in response.read().decode().splitlines()):
                return
        time.sleep(0.01)
    raise TimeoutError(f"expected {figure}")


def first_answer(server: CableServer, sid: str) -> dict[str, object]:
    """The first message to a client that names its session, and shows no token."""
    with CableClient(f"{server.cable_url}?sid={sid}", subprotocols=EXTENDED) as client:
        return client.receive()


@pytest.mark.parametrize("reconnect", [False, True])
def test_a_client_that_is_disconnected_while_it_is_away_needs_its_token(
    nodes: Nodes, reconnect: bool
) -> None:
    first, second = nodes.servers
    user = json.dumps({"user": f"banned {reconnect}"})
    banned = [session_of(first, user) for _ in range(2)]
    free = session_of(first, BOB)
    disconnect_and_wait(nodes, user, reconnect)
    refused = {"type": "disconnect", "reason": "unauthorized", "reconnect": False}
    assert first_answer(second, banned[0]) == refused
    assert first_answer(first, banned[1]) == refused
    assert first_answer(second, free)["restored"] is True


def disconnect_and_wait(nodes: Nodes, identifiers: str, reconnect: bool) -> None:
    """A publisher over Redis pub/sub gets no answer when its command was carried out: each node counts it."""
    before = [server.figure("remote_commands_total") for server in nodes.servers]
    nodes.disconnect(identifiers, reconnect)
    for server, number in zip(nodes.servers, before, strict=True):
        wait_until(server, f"remote_commands_total {number + 1}")


def test_it_may_resume_what_it_began_after_that(nodes: Nodes) -> None:
    first, second = nodes.servers
    user = json.dumps({"user": "returning"})
    session_of(first, user)
    disconnect_and_wait(nodes, user, True)
    assert first_answer(second, session_of(first, user))["restored"] is True


@pytest.mark.parametrize("nodes", ["redis", "nats"], indirect=True)
def test_a_node_that_hangs_meanwhile_does_not_keep_the_session(nodes: Nodes) -> None:
    first, hanging = nodes.servers
    text = token({"ext": EVE, "exp": int(time.time()) + 60})
    with CableClient(f"{hanging.cable_url}?jid={text}", subprotocols=EXTENDED) as client:
        sid = str(client.receive()["sid"])
        assert client.subscribe(PRIVATE)["type"] == "confirm_subscription"
        os.kill(hanging.process.pid, signal.SIGSTOP)
        client.connection.socket.close()
    try:
        nodes.disconnect(EVE, False)
        assert first_answer(first, sid)["type"] == "disconnect"
    finally:
        os.kill(hanging.process.pid, signal.SIGCONT)
    wait_until(hanging, "clients_num 0")
    for server in nodes.servers:
        assert first_answer(server, sid)["type"] == "disconnect"


@pytest.mark.parametrize("flags", [(), ("--app_workers=1",)])
def test_an_application_of_ours_disconnects_a_client_that_is_away(flags: tuple[str, ...]) -> None:
    """Also if it runs in code workers: it is notified once of the end of the session."""
    more = ("--broker=memory", "--broadcast_adapter=http", "--metrics_http=/metrics")
    with cable_server(*flags, *more, command=IN_PROCESS) as server:
        log = CableClient(f"{server.cable_url}?name=log", subprotocols=EXTENDED)
        with log, CableClient(f"{server.cable_url}?name=eve", subprotocols=EXTENDED) as client:
            assert log.receive()["type"] == "welcome"
            assert log.subscribe(identifier("LogChannel"))["type"] == "confirm_subscription"
            sid = str(client.receive()["sid"])
            room = identifier("RoomChannel", id=1, quiet=True)
            assert client.subscribe(room)["type"] == "confirm_subscription"
            client.close()
            wait_until(server, "clients_num 1")
            over_http(server)('{"name":"eve"}', False)
            assert first_answer(server, sid) == {
                "type": "disconnect",
                "reason": "unauthorized",
                "reconnect": False,
            }
            told = [log.receive()["message"] for _ in range(2)]
            assert sorted(each[1] for each in told) == ["disconnected", "left 1"]


# Tokens


def test_a_session_is_not_resumed_after_its_token_has_expired() -> None:
    with expiring() as (server, sid):
        expired = {"type": "disconnect", "reason": "token_expired", "reconnect": False}
        assert first_answer(server, sid) == expired


def test_a_client_that_shows_a_new_token_resumes_its_session() -> None:
    with expiring() as (server, sid):
        text = token({"ext": EVE, "exp": int(time.time()) + 60})
        url = f"{server.cable_url}?sid={sid}&jid={text}"
        with CableClient(url, subprotocols=EXTENDED) as client:
            welcome = client.receive()
        assert welcome["restored"] is True


def test_an_option_lets_it_resume() -> None:
    with expiring("--jwt_resume_expired") as (server, sid):
        assert first_answer(server, sid)["restored"] is True


@contextmanager
def expiring(*flags: str) -> Iterator[tuple[CableServer, str]]:
    """A server, and the sid of a session whose token has just expired."""
    flags = (*FLAGS, "--broker=memory", "--broadcast_adapter=http", *flags)
    with cable_server(*flags) as server:
        expires_at = time.time() + 1
        text = token({"ext": EVE, "exp": expires_at})
        url = f"{server.cable_url}?jid={text}"
        with CableClient(url, subprotocols=EXTENDED) as client:
            sid = str(client.receive()["sid"])
        wait_until(server, "clients_num 0")
        time.sleep(max(expires_at - time.time(), 0))
        yield server, sid
