"""A node beside anycable-go on the same Redis and the same NATS, as docs/migration-from-anycable.md says.

Left out unless ``ANYCABLE_GO`` names the binary of anycable-go 1.6.
"""

import json
import os
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import pytest

from tests.parts.cable_client import CableClient, identifier
from tests.parts.nats import nats_publisher
from tests.parts.nats_node import jetstream_server
from tests.parts.redis import RedisPublisher, redis_server
from tests.parts.server import OURS, CableServer, cable_server
from tests.parts.tokens import SECRET, signed_name, token

pytestmark = pytest.mark.skipif(
    "ANYCABLE_GO" not in os.environ, reason="ANYCABLE_GO names no binary"
)

FLAGS = ("--norpc", "--enforce_jwt", f"--secret={SECRET}", "--broadcast_key=none")
ROOM = identifier("$pubsub", signed_stream_name=signed_name("room"))
EVE = '{"user":"eve"}'


@dataclass
class Mixed:
    """A node of each kind, and how the application publishes."""

    ours: CableServer
    theirs: CableServer
    publish: Callable[[str], None]
    engine: str

    @property
    def servers(self) -> tuple[CableServer, CableServer]:
        return self.ours, self.theirs


@contextmanager
def on_redis(*ours: str) -> Iterator[Mixed]:
    with redis_server() as redis, ExitStack() as stack:
        flags = (*FLAGS, f"--redis_url={redis.url}", "--broadcast_adapter=http,redis")
        servers = [
            stack.enter_context(cable_server(*flags, *more, command=command))
            for command, more in (
                (OURS, (*ours, "--pubsub=redis")),
                ((os.environ["ANYCABLE_GO"],), ()),
            )
        ]
        yield Mixed(servers[0], servers[1], RedisPublisher(redis).publish, "redis")


@contextmanager
def on_nats(*ours: str) -> Iterator[Mixed]:
    with jetstream_server() as nats, ExitStack() as stack:
        flags = (*FLAGS, f"--nats_servers={nats.url}", "--broadcast_adapter=http,nats")
        theirs = ("--pubsub=nats", "--broker=nats") if ours else ("--pubsub=nats",)
        servers = [
            stack.enter_context(cable_server(*flags, *more, command=command))
            for command, more in (
                (OURS, (*ours, "--pubsub=nats")),
                ((os.environ["ANYCABLE_GO"],), theirs),
            )
        ]
        publisher = stack.enter_context(nats_publisher(nats))
        yield Mixed(servers[0], servers[1], publisher.publish, "nats")


@pytest.fixture(params=["redis", "redis with a broker", "nats", "nats with brokers"])
def mixed(request: pytest.FixtureRequest) -> Iterator[Mixed]:
    name = request.param
    open_ = on_redis if name.startswith("redis") else on_nats
    flags = (f"--broker={name.split()[0]}",) if "broker" in name else ()
    with open_(*flags) as opened:
        opened.ours.wait_until_it_hears_others()
        # An application's first publication may come before a node has subscribed.
        with client(opened.theirs) as listener:
            while not _arrives(opened, listener):
                pass
        yield opened


def _arrives(opened: Mixed, listener: CableClient) -> bool:
    opened.publish(publication("ready?"))
    try:
        listener.receive()
    except TimeoutError:
        return False
    return True


def client(server: CableServer) -> CableClient:
    opened = CableClient(server.cable_url + "?jid=" + token({"ext": EVE}), deadline_s=10)
    opened.receive_welcome()
    assert opened.subscribe(ROOM)["type"] == "confirm_subscription"
    return opened


def received(client: CableClient) -> object:
    """The next message: with a broker, its envelope has a position, too."""
    return client.receive()["message"]


def publication(message: object) -> str:
    return json.dumps({"stream": "room", "data": json.dumps(message)})


def over_http(server: CableServer, body: str) -> None:
    urllib.request.urlopen(server.broadcast_url, body.encode(), timeout=5).close()


def disconnect(*, reconnect: bool) -> str:
    payload = {"identifier": EVE, "reconnect": reconnect}
    return json.dumps({"command": "disconnect", "payload": payload})


def test_what_the_application_publishes_reaches_the_clients_of_both_once(mixed: Mixed) -> None:
    clients = [client(server) for server in mixed.servers]
    for number in range(20):
        mixed.publish(publication(number))
    for each in clients:
        assert [received(each) for _ in range(20)] == list(range(20))
        each.expect_nothing()
        each.close()


def test_what_is_published_over_http_reaches_the_clients_of_that_kind_only(mixed: Mixed) -> None:
    ours, theirs = (client(server) for server in mixed.servers)
    for server, one, other in ((mixed.ours, ours, theirs), (mixed.theirs, theirs, ours)):
        over_http(server, publication("hello"))
        assert received(one) == "hello"
        other.expect_nothing()
    for each in (ours, theirs):
        each.close()


def test_a_remote_disconnect_of_the_application_reaches_the_clients_of_both(mixed: Mixed) -> None:
    clients = [client(server) for server in mixed.servers]
    mixed.publish(disconnect(reconnect=False))
    for each in clients:
        assert each.receive()["type"] == "disconnect"
        each.wait_for_close()


def test_a_remote_disconnect_over_http_at_anycable_go_reaches_ours_on_redis(mixed: Mixed) -> None:
    if mixed.engine != "redis":
        pytest.skip("anycable-go's subject between nodes is not one of ours on NATS")
    mine = client(mixed.ours)
    over_http(mixed.theirs, disconnect(reconnect=True))
    assert mine.receive()["type"] == "disconnect"
    mine.wait_for_close()
    assert "Malformed" not in mixed.ours.output()


def test_neither_stops_nor_disturbs_the_other(mixed: Mixed) -> None:
    test_what_the_application_publishes_reaches_the_clients_of_both_once(mixed)
    assert mixed.ours.stop() == 0
    with client(mixed.theirs) as listener:
        mixed.publish(publication("still here"))
        assert received(listener) == "still here"
    mixed.ours.restart()
    mixed.ours.wait_until_it_hears_others()
    assert mixed.theirs.process.poll() is None
    test_what_the_application_publishes_reaches_the_clients_of_both_once(mixed)
    for word in ("Malformed", "ERROR", "Traceback"):
        assert word not in mixed.ours.output()
