"""The GraphQL path of a running server: what its WebSockets refuse, and its limits before a client is admitted."""

import json
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect
from websockets.typing import Subprotocol

from tests.parts.graphql_ruby_app import graphql_ruby_app
from tests.parts.server import CableServer, cable_server
from tests.server.test_figures import scrape

FLAGS = (
    "--public",
    "--norpc",
    "--graphql_path=/graphql",
    "--graphql_idle_timeout=1",
    "--metrics_http=/metrics",
    "--max_message_size=1000",
    "--allowed_origins=good.test",
    "--max-conn=5",
)
INIT = '{"type":"connection_init"}'
PROTOCOLS = ["graphql-transport-ws", "graphql-ws"]


@pytest.fixture(scope="module")
def server() -> Iterator[CableServer]:
    with cable_server(*FLAGS) as server:
        yield server


def client_of(
    server: CableServer, *protocols: str, origin: str = "https://good.test", **others: Any
) -> Any:
    offered = [Subprotocol(each) for each in protocols]
    return connect(
        f"ws://127.0.0.1:{server.port}/graphql",
        subprotocols=offered or None,
        additional_headers={"Origin": origin},
        proxy=None,
        **others,
    )


def end_of(client: ClientConnection) -> tuple[list[Any], int, str]:
    messages = []
    with pytest.raises(ConnectionClosed):  # noqa: PT012
        while True:
            messages.append(json.loads(client.recv(timeout=10)))
    return messages, client.protocol.close_code or 0, client.protocol.close_reason or ""


def test_of_both_protocols_the_newer_one_is_chosen(server: CableServer) -> None:
    with client_of(server, *reversed(PROTOCOLS)) as client:
        assert client.subprotocol == "graphql-transport-ws"
    with client_of(server, "soap", "graphql-ws") as client:
        assert client.subprotocol == "graphql-ws"
        client.send(INIT)
        assert json.loads(client.recv(timeout=5)) == {"type": "connection_ack"}
        assert json.loads(client.recv(timeout=5)) == {"type": "ka"}


@pytest.mark.parametrize("says", [INIT, None], ids=["speaks", "is silent"])
def test_a_client_of_neither_protocol(server: CableServer, says: str | None) -> None:
    with client_of(server) as client:
        if says is not None:
            client.send(says)
        assert end_of(client) == ([], 4406, "Subprotocol not acceptable")


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_client_that_does_not_introduce_itself(server: CableServer, protocol: str) -> None:
    before = scrape(server.port)["late_introductions_total"]
    with client_of(server, protocol) as client:
        client.ping()
        assert end_of(client) == ([], 4408, "Connection initialisation timeout")
    assert scrape(server.port)["late_introductions_total"] == before + 1


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("is_admitted", [False, True])
def test_a_large_message(server: CableServer, protocol: str, is_admitted: bool) -> None:
    with client_of(server, protocol) as client:
        if is_admitted:
            client.send(INIT)
        client.send(" " * 1001)
        assert end_of(client)[1] == 1009


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_garbage_before_the_introduction(server: CableServer, protocol: str) -> None:
    with client_of(server, protocol) as client:
        client.send(b"\xff\x00")
        messages, code, _ = end_of(client)
    assert code == 4400
    assert [each["type"] for each in messages] == ["connection_error"] * (protocol == "graphql-ws")


def test_pages_of_other_origins_are_refused(server: CableServer) -> None:
    with (
        pytest.raises(InvalidStatus, match="403"),
        client_of(server, *PROTOCOLS, origin="https://bad.test"),
    ):
        pass


def test_clients_that_wait_for_their_introduction_count(server: CableServer) -> None:
    with ExitStack() as opened:
        clients = [opened.enter_context(client_of(server, "graphql-ws")) for _ in range(5)]
        with pytest.raises(InvalidStatus, match="503"), client_of(server, "graphql-ws"):
            pass
        for each in clients:
            assert end_of(each)[1] == 4408
    with client_of(server, "graphql-ws") as client:
        client.send(INIT)
        assert json.loads(client.recv(timeout=5)) == {"type": "connection_ack"}


def test_messages_may_be_compressed() -> None:
    with (
        cable_server(*FLAGS, "--enable_ws_compression") as server,
        client_of(server, "graphql-transport-ws") as client,
    ):
        client.send(INIT)
        assert json.loads(client.recv(timeout=5)) == {"type": "connection_ack"}
        client.send(json.dumps({"type": "subscribe", "id": "1", "payload": {"query": "{a}"}}))
        error = [{"message": "The subscription was rejected"}]
        told = json.loads(client.recv(timeout=5))
        assert told == {"id": "1", "type": "error", "payload": error}
        assert client.protocol.extensions, "agreed"


def test_a_client_that_reads_too_slowly_is_closed_and_may_return() -> None:
    """Results of 10 MB wait for a client that reads nothing, of which 100 KB may."""
    flags = ("--graphql_path=/graphql", "--ws_max_pending_size=100000", "--broadcast_adapter=http")
    with (
        graphql_ruby_app() as (application, rpc_host),
        cable_server(f"--rpc_host={rpc_host}", *flags, "--metrics_http=/metrics") as server,
        client_of(server, "graphql-transport-ws", max_queue=1, max_size=None) as client,
    ):
        application.broadcast_url = server.broadcast_url
        client.send(json.dumps({"type": "connection_init", "payload": {"name": "Ann"}}))
        assert json.loads(client.recv(timeout=5)) == {"type": "connection_ack"}
        query = 'subscription { messages(room: "lobby") { text } }'
        payload = {"query": query, "variables": {"room": "lobby"}}
        client.send(json.dumps({"type": "subscribe", "id": "1", "payload": payload}))
        application.until_heard("lobby")
        for _ in range(100):
            application.say("Ben", "lobby", "x" * 100_000)
        messages, code, text = end_of(client)
        assert (code, text) == (1013, "Slow client")
        assert len(messages) < 100
        assert scrape(server.port)["disconnected_slow_clients_total"] == 1
