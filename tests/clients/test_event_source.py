"""EventSource, on Node and in Chromium: it loses connections, and nothing that is published."""

import json
import time
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
from tests.server.test_figures import by_worker

PUBLIC = ("--public", "--norpc", "--broadcast_adapter=http", "--sse")
FLAGS = (*PUBLIC, "--broker=memory", "--history_limit=2000", "--ping_interval=1")
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


def test_a_page_that_moves_between_workers_misses_nothing() -> None:
    """The kernel chooses a worker for each connection: the page is cut off until both have served it, twice."""
    flags = ("--workers=2", "--broker=nats", "--metrics_http=/metrics")
    with (
        cable_server(*PUBLIC, "--ping_interval=1", *flags) as server,
        tcp_relay(server.port) as relay,
    ):
        for worker in ("1", "2"):
            server.wait_for_output(f"Worker {worker} serves")
        server.wait_until_it_hears_others()
        publisher = Publisher(server)
        with source_of(relay.port, stream="news") as client:
            client.wait_for("confirm_subscription")
            number, served_by = 0, [worker_with_a_stream(server.port)]
            while served_by.count("1") < 2 or served_by.count("2") < 2:
                number += 1
                publisher.publish("news", number)
                client.wait_for("received", data=str(number))
                assert relay.cut() == 1
                for _ in range(5):
                    number += 1
                    publisher.publish("news", number)
                client.wait_for("received", data=str(number), timeout_s=20)
                served_by.append(worker_with_a_stream(server.port))
                assert len(served_by) < 40, served_by
            heard = [int(told["data"]) for told in client.told("received")]
        publisher.close()
    assert heard == list(range(1, number + 1))


def worker_with_a_stream(port: int, timeout_s: float = 10) -> str:
    """The number of the worker that serves the only event stream."""
    deadline = time.monotonic() + timeout_s
    while True:
        counts = by_worker(port, "sse_clients_num")
        if sorted(counts.values()) == [0, 1]:
            return max(counts, key=lambda worker: counts[worker])
        assert time.monotonic() < deadline, counts


def test_the_name_of_a_stream_may_be_any_text(server: CableServer, relay: TcpRelay) -> None:
    name = "Räume/日本 100%"
    publisher = Publisher(server)
    with source_of(relay.port, stream=name) as client:
        client.wait_for("confirm_subscription")
        publisher.publish(name, "before")
        client.wait_for("received", data="before")
        relay.cut()
        publisher.publish(name, "meanwhile")
        client.wait_for("received", data="meanwhile", timeout_s=20)
    publisher.close()


def test_a_page_that_is_cut_off_before_its_first_message_asks_by_time(
    server: CableServer, relay: TcpRelay
) -> None:
    publisher = Publisher(server)
    with source_of(relay.port, stream="quiet", history_since=str(int(time.time()))) as client:
        client.wait_for("confirm_subscription")
        relay.cut()
        publisher.publish("quiet", "meanwhile")
        client.wait_for("received", data="meanwhile", timeout_s=20)
        relay.cut()
        publisher.publish("quiet", "later")
        client.wait_for("received", data="later", timeout_s=20)
        assert [told["data"] for told in client.told("received")] == ["meanwhile", "later"]
    publisher.close()


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
            publisher = Publisher(server)
            publisher.disconnect(identifiers, reconnect=False)
            publisher.close()
            assert client.wait_for("disconnect")["message"]["reconnect"] is False
            client.wait_for("error", closed=False)
            client.do("disconnect")
            assert len(client.told("status")) == 1
