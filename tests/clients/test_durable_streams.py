"""``@durable-streams/client``: catch-up reads, long polls and event streams, cut and resumed; nothing is lost."""

import json
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from catenary.auth.keys import API_PHRASE, derived_key
from tests.clients.test_recovery import Publisher
from tests.parts.cluster import redis_cluster
from tests.parts.machine import blocks
from tests.parts.node import CLIENTS, NodeClient, require_node
from tests.parts.server import CableServer, cable_server
from tests.parts.tcp_relay import TcpRelay, tcp_relay
from tests.parts.tokens import SECRET, signed_name, token
from tests.server.test_figures import scrape

DS = ("--ds", "--ds_poll_interval=1", "--ds_sse_ttl=2", "--norpc", "--broadcast_adapter=http")
each_live = pytest.mark.parametrize("live", ["long-poll", "sse"])


@pytest.fixture(scope="module")
def server() -> Iterator[CableServer]:
    with cable_server(*DS, "--public", "--broker=memory", "--history_limit=2000") as server:
        yield server


@pytest.fixture
def relay(server: CableServer) -> Iterator[TcpRelay]:
    with tcp_relay(server.port) as relay:
        yield relay


@contextmanager
def client_of(port: int, stream: str, query: str = "", **headers: str) -> Iterator[NodeClient]:
    url = f"http://127.0.0.1:{port}/ds/{stream}{query}"
    client = NodeClient("durable_streams.mjs", {"url": url, "headers": headers})
    try:
        yield client
    finally:
        client.stop()


def received(client: NodeClient) -> list[object]:
    return [item for told in client.told("batch") for item in told["items"]]


def wait_for_item(client: NodeClient, item: object) -> None:
    while item not in client.wait_for("batch", timeout_s=20)["items"]:
        pass


def test_what_was_published_is_read_page_by_page_and_from_an_offset(server: CableServer) -> None:
    publisher = Publisher(server)
    publisher.publish_all("pages/1", [{"n": number} for number in range(1200)])
    with client_of(server.port, "pages/1") as client:
        client.do("read", offset="-1")
        assert len(client.wait_for("items")["items"]) == 1000
        client.do("read", offset="-1", live="long-poll")
        read = client.wait_for("items")
        assert [each["n"] for each in read["items"]] == list(range(1200))
        publisher.publish("pages/1", {"n": 1200})
        client.do("read", offset=read["offset"])
        assert client.wait_for("items")["items"] == [{"n": 1200}]
        client.do("read", offset="now")
        assert client.wait_for("items")["items"] == []
    publisher.close()


@each_live
def test_a_reader_that_is_cut_off_misses_nothing(
    server: CableServer, relay: TcpRelay, live: str
) -> None:
    publisher, stream = Publisher(server), f"cut/{live}"
    publisher.publish(stream, 0)
    with client_of(relay.port, stream) as client:
        client.do("follow", offset="-1", live=live)
        wait_for_item(client, 0)
        for number in range(1, 201):
            publisher.publish(stream, number)
            if number in (50, 120):
                wait_for_item(client, number)
                relay.cut()
        if received(client)[-1] != 200:
            wait_for_item(client, 200)
        assert received(client) == list(range(201))
    publisher.close()


@each_live
def test_a_reader_outlasts_the_time_of_a_request(server: CableServer, live: str) -> None:
    publisher, stream = Publisher(server), f"slow/{live}"
    with client_of(server.port, stream) as client:
        client.do("follow", offset="now", live=live)
        for _ in range(2):
            client.wait_for("response", status=200 if live == "sse" else 204, timeout_s=20)
        publisher.publish(stream, "later")
        wait_for_item(client, "later")
        assert received(client) == ["later"]
    publisher.close()


@each_live
def test_a_reader_goes_on_at_another_node(live: str) -> None:
    with redis_cluster(2, *DS[:3]) as cluster, tcp_relay(cluster.nodes[0].port) as relay:
        publishers = [Publisher(node) for node in cluster.nodes]
        with client_of(relay.port, "news/1") as client:
            client.do("follow", offset="-1", live=live)
            for number in range(1, 61):
                publishers[number % 2].publish("news/1", number)
                if number in (20, 40):
                    wait_for_item(client, number)
                    relay.aim(cluster.nodes[1 if number == 20 else 0].port)
                    relay.cut()
            if received(client)[-1:] != [60]:
                wait_for_item(client, 60)
            assert received(client) == list(range(1, 61))
        for publisher in publishers:
            publisher.close()


def test_a_stream_is_written_by_the_client_and_read_to_its_end() -> None:
    flags = ("--ds_write", "--broker=memory", "--public_streams", "--noauth", f"--secret={SECRET}")
    with cable_server(*DS, *flags) as server:
        key = {"Authorization": f"Bearer {derived_key(SECRET, API_PHRASE)}"}
        items, produced = (
            [json.dumps({"n": n}) for n in range(3)],
            [json.dumps(n) for n in range(50)],
        )
        with (
            client_of(server.port, "written", **key) as writer,
            client_of(server.port, "written") as reader,
        ):
            writer.do("write", contentType="application/json", items=items, produced=produced)
            writer.wait_for("written", closed=True)
            reader.do("follow", offset="-1", live="sse")
            wait_for_item(reader, 49)
            assert received(reader) == [*({"n": n} for n in range(3)), *range(50)]
            # The end is known: nothing more is asked for.
            assert len(reader.told("response")) <= 2
        with client_of(server.port, "refused") as writer:
            writer.do("write", contentType="application/json", items=items, produced=[])
            assert writer.wait_for("failed")["status"] == 401


def test_a_body_that_is_sent_in_chunks_is_appended_as_one_message() -> None:
    flags = ("--public", "--ds_write", "--broker=memory")
    with cable_server(*DS, *flags) as server, client_of(server.port, "piped") as client:
        client.do("pipe", parts=["one ", "two ", "three"])
        assert client.wait_for("written")["text"] == "one two three"


def test_a_position_that_is_lost_is_gone(server: CableServer) -> None:
    with client_of(server.port, "gone") as client:
        client.do("read", offset="00000000000000000007_0000")
        assert client.wait_for("failed")["status"] == 410


def test_the_client_of_the_page(server: CableServer) -> None:
    (code,) = blocks("docs/durable-streams.md", "js")
    code = code.replace("http://localhost:8080", f"http://127.0.0.1:{server.port}")
    code = code.replace('"offset", offset)', '"offset", offset); process.exit()')
    script = CLIENTS / f"page-{server.port}.mjs"
    publisher = Publisher(server)
    publisher.publish("chat/42", {"text": "Hello"})
    publisher.close()
    script.write_text(f"globalThis.localStorage = {{ setItem: () => {{}} }}\n{code}")
    try:
        printed = subprocess.run(
            [require_node(), script], capture_output=True, text=True, check=True, timeout=30
        ).stdout
    finally:
        script.unlink()
    assert printed == "{ text: 'Hello' }\n"


def test_a_reader_whose_token_is_refused_is_told() -> None:
    flags = ("--broker=memory", f"--secret={SECRET}", "--enforce_jwt")
    with cable_server(*DS, *flags) as server:
        query = f"?signed={signed_name('room/1')}"
        with client_of(server.port, "room/1", query, **{"X-JID": "no token"}) as client:
            client.do("read", offset="-1")
            assert client.wait_for("failed")["status"] == 401


def test_a_client_that_is_disconnected_remotely_reads_no_more() -> None:
    identifiers = json.dumps({"user": 7})
    flags = ("--broker=memory", f"--jwt_secret={SECRET}", "--enforce_jwt", "--public_streams")
    with cable_server(*DS, *flags, "--ds_poll_interval=60", "--metrics_http=/metrics") as server:
        jid = token({"ext": identifiers})
        with client_of(server.port, "x", **{"X-JID": jid}) as client:
            client.do("follow", offset="now", live="long-poll")
            wait_for_figure(server, "ds_poll_clients_num", 1)
            publisher = Publisher(server)
            publisher.disconnect(identifiers, reconnect=False)
            client.wait_for("response", status=403)
            publisher.close()
        wait_for_figure(server, "ds_poll_clients_num", 0)
        wait_for_figure(server, "open_connections_num", 0)


def wait_for_figure(server: CableServer, name: str, value: int, timeout_s: float = 10) -> None:
    deadline = time.monotonic() + timeout_s
    while scrape(server.port)[name] != value:
        assert time.monotonic() < deadline, name
