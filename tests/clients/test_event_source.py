"""EventSource, on Node and in Chromium: it loses connections, and nothing that is published."""

import json
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.clients.test_recovery import Publisher
from tests.parts.cluster import redis_cluster
from tests.parts.node import NodeClient
from tests.parts.server import CableServer, cable_server
from tests.parts.tcp_relay import TcpRelay, tcp_relay
from tests.parts.tokens import SECRET, token

FLAGS = (
    *("--public", "--norpc", "--broadcast_adapter=http", "--broker=memory", "--sse"),
    *("--history_limit=2000", "--ping_interval=1"),
)
MESSAGES = 300
CUTS = (60, 130, 210)


@pytest.fixture(scope="module")
def server() -> Iterator[CableServer]:
    with cable_server(*FLAGS) as server:
        yield server


@pytest.fixture
def relay(server: CableServer) -> Iterator[TcpRelay]:
    with tcp_relay(server.port) as relay:
        yield relay


@contextmanager
def source_of(port: int, **query: str) -> Iterator[NodeClient]:
    url = f"http://127.0.0.1:{port}/events?{urllib.parse.urlencode(query)}"
    client = NodeClient("event_source.mjs", {"url": url})
    client.do("connect")
    try:
        yield client
    finally:
        client.stop()


def test_a_page_that_is_cut_off_misses_nothing(server: CableServer, relay: TcpRelay) -> None:
    publisher = Publisher(server)
    with source_of(relay.port, stream="news") as client:
        client.wait_for("confirm_subscription")
        for number in range(1, MESSAGES + 1):
            publisher.publish("news", {"number": number})
            if number in CUTS:
                client.wait_for("received", data=json.dumps({"number": number}))
                assert relay.cut() == 1
        client.wait_for("received", data=json.dumps({"number": MESSAGES}), timeout_s=30)
        heard = [json.loads(told["data"])["number"] for told in client.told("received")]
        sent = [told["last"] for told in client.told("status")]
    publisher.close()
    assert heard == list(range(1, MESSAGES + 1))
    assert [last.split("/")[0] for last in sent] == ["", *map(str, CUTS)]


def test_a_page_goes_on_at_another_node() -> None:
    flags = ("--sse", "--ping_interval=1")
    with redis_cluster(2, *flags) as cluster, tcp_relay(cluster.nodes[0].port) as relay:
        publishers = [Publisher(node) for node in cluster.nodes]
        with source_of(relay.port, stream="news/1") as client:
            client.wait_for("confirm_subscription")
            for number in range(1, 61):
                publishers[number % 2].publish("news/1", number)
                if number in (20, 40):
                    client.wait_for("received", data=str(number))
                    relay.aim(cluster.nodes[1 if number == 20 else 0].port)
                    assert relay.cut() == 1
            client.wait_for("received", data="60", timeout_s=30)
            heard = [int(told["data"]) for told in client.told("received")]
        for publisher in publishers:
            publisher.close()
    assert heard == list(range(1, 61))


def test_a_history_that_is_gone_is_told(server: CableServer, relay: TcpRelay) -> None:
    publisher = Publisher(server)
    with source_of(relay.port, stream="gone") as client:
        client.wait_for("confirm_subscription")
        publisher.publish("gone", "first")
        client.wait_for("received", data="first")
        relay.cut()
        publisher.publish_all("gone", [1] * 2001)
        client.wait_for("reject_history", timeout_s=20)
    publisher.close()


def test_what_was_said_before_is_asked_for(server: CableServer) -> None:
    publisher = Publisher(server)
    publisher.publish("past", "before")
    with source_of(server.port, stream="past", history_since="1") as client:
        client.wait_for("received", data="before")
    publisher.close()


def test_a_token_lets_a_page_in_by_query_and_header_and_none_is_401() -> None:
    flags = ("--sse", "--norpc", f"--jwt_secret={SECRET}", "--enforce_jwt", "--public_streams")
    good = token({"ext": "{}"})
    with cable_server(*flags, "--broadcast_adapter=http") as server:
        with source_of(server.port, stream="x") as refused:
            assert refused.wait_for("status")["code"] == 401
            refused.wait_for("error", closed=True)
        with source_of(server.port, stream="x", jid=good) as client:
            client.wait_for("welcome")
        request = urllib.request.Request(
            f"http://127.0.0.1:{server.port}/events?stream=x", headers={"X-JID": good}
        )
        with urllib.request.urlopen(request, timeout=10) as response:
            assert response.readline() == b"event: welcome\n"


def test_a_page_that_is_sent_away_for_good_does_not_come_back() -> None:
    flags = ("--sse", "--norpc", f"--jwt_secret={SECRET}", "--enforce_jwt", "--public_streams")
    identifiers = json.dumps({"user": 7})
    with cable_server(*flags, "--broadcast_adapter=http") as server:
        jid = token({"ext": identifiers})
        with source_of(server.port, stream="x", jid=jid) as client:
            client.wait_for("confirm_subscription")
            payload = {"identifier": identifiers, "reconnect": False}
            body = json.dumps({"command": "disconnect", "payload": payload})
            urllib.request.urlopen(
                f"http://127.0.0.1:{server.broadcast_port}/_broadcast", body.encode(), timeout=10
            ).close()
            assert client.wait_for("disconnect")["message"]["reconnect"] is False
            client.wait_for("error", closed=False)
            client.do("disconnect")
            assert len(client.told("status")) == 1
