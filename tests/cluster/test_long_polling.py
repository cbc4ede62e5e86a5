"""Long polling in a cluster: each poll may land on another node or worker; the session goes on, in order, nothing twice."""

import json
import random
import signal
import socket
import time
from collections.abc import Iterator

import pytest

from tests.clients.test_recovery import Publisher
from tests.parts.cluster import Cluster, nats_cluster, redis_cluster
from tests.parts.long_polling import Poller, subscribe
from tests.parts.server import CableServer, cable_server
from tests.server.test_figures import scrape
from tests.transports.test_long_polling import QUICK, reset, wait_until

FLAGS = ("--poll", *QUICK)
MESSAGES = 60
RESETS = 0.4
"""The part of the polls that a client resets."""


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with redis_cluster(2, *FLAGS, "--metrics_http=/metrics") as cluster:
        yield cluster


def alternating(nodes: list[CableServer], stream: str) -> list[object]:
    """The messages that a client receives when its polls land on one node after the other."""
    client = Poller(nodes[0].port)
    assert client.post(subscribe(stream)).types == ["welcome", "confirm_subscription"]
    publishers = [Publisher(node) for node in nodes]
    found: list[object] = []
    for number in range(1, MESSAGES + 1):
        publishers[number % 2].publish(stream, number)
        if number % 5 == 0:
            found += client.post(port=nodes[number // 5 % 2].port).published
    while MESSAGES not in found:
        response = client.post(port=nodes[len(found) % 2].port)
        assert response.status in (200, 204)
        found += response.published
    for publisher in publishers:
        publisher.close()
    return found


def test_polls_that_land_on_one_node_after_the_other(cluster: Cluster) -> None:
    assert alternating(cluster.nodes, "news") == list(range(1, MESSAGES + 1))
    assert scrape(cluster.nodes[1].port)["long_poll_relayed_total"] > 3
    clients = [scrape(node.port)["long_poll_clients_num"] for node in cluster.nodes]
    assert clients[1] == 0


def test_polls_that_land_on_one_node_after_the_other_on_nats() -> None:
    with nats_cluster(2, *FLAGS) as cluster:
        assert alternating(cluster.nodes, "news") == list(range(1, MESSAGES + 1))


def test_commands_and_waiting_polls_through_another_node(cluster: Cluster) -> None:
    here, there = cluster.nodes
    client = Poller(here.port)
    client.post()
    assert client.post(subscribe("far"), port=there.port).types == ["confirm_subscription"]
    waiting = client.begin(port=there.port)
    publisher = Publisher(here)
    publisher.publish("far", 1)
    assert client.finish(waiting).published == [1]
    assert client.post(port=there.port).status == 204
    # Of two polls, whichever nodes they land on, the older is answered empty.
    older = client.begin(port=there.port)
    wait_until(lambda: scrape(there.port)["long_poll_relayed_total"] >= 4)
    newer = client.begin(port=here.port)
    assert client.finish(older).status == 204
    publisher.publish("far", 2)
    assert client.finish(newer).published == [2]
    publisher.close()


def test_a_large_response_through_another_node_is_whole(cluster: Cluster) -> None:
    here, there = cluster.nodes
    client = Poller(here.port)
    client.post(subscribe("large"))
    publisher = Publisher(here)
    texts = [f"{number}" + "x" * 60_000 for number in range(15)]
    for text in texts:
        publisher.publish("large", text)
    publisher.close()
    found: list[object] = []
    while len(found) < len(texts):
        response = client.post(port=there.port)
        assert response.status in (200, 204)
        found += response.published
    assert found == texts


def test_a_client_that_is_cut_off_at_another_node_misses_nothing(cluster: Cluster) -> None:
    here, there = cluster.nodes
    client = Poller(here.port)
    client.post(subscribe("cut"))
    publisher = Publisher(here)
    # While it waits
    client.begin(port=there.port).close()
    publisher.publish("cut", 1)
    assert client.until(1) == [1]
    # With a response that it does not read
    connection = client.begin(port=there.port)
    publisher.publish("cut", 2)
    assert connection.sock.recv(1, socket.MSG_PEEK)
    reset(connection.sock)
    publisher.publish("cut", 3)
    assert client.until(3) == [2, 3]
    publisher.close()


@pytest.mark.parametrize("arrives", ["arrives", "does not arrive"])
def test_a_client_that_resets_its_polls_and_goes_to_another_node_misses_nothing(
    cluster: Cluster, arrives: str
) -> None:
    """The next poll may reach the session before the news that the connection of the last one was reset."""
    chance, stream = random.Random(15), f"resets {arrives}"
    client = Poller(cluster.nodes[0].port)
    client.post(subscribe(stream))
    publisher = Publisher(cluster.nodes[0])
    found: list[object] = []
    publisher.publish(stream, 1)
    for number in range(2, 2 * MESSAGES + 1):
        connection = client.begin(port=cluster.nodes[number % 2].port)
        is_cut = chance.random() < RESETS
        if is_cut and arrives == "arrives":
            assert connection.sock.recv(1, socket.MSG_PEEK)
        elif not is_cut:
            found += client.finish(connection).published
        # Before the reset: nothing comes between it and the next poll, which has a message to wait for it.
        publisher.publish(stream, number)
        if is_cut:
            reset(connection.sock)
    publisher.close()
    if 2 * MESSAGES not in found:
        found += client.until(2 * MESSAGES)
    assert found == list(range(1, 2 * MESSAGES + 1))


def test_a_stale_session_of_another_node(cluster: Cluster) -> None:
    here, there = cluster.nodes
    client = Poller(here.port)
    client.post()
    client.poll_id = client.poll_id[:-1] + ("A" if client.poll_id[-1] != "A" else "B")
    response = client.post(port=there.port)
    assert (response.status, response.messages[0]["reason"]) == (401, "session_expired")


def test_a_session_ends_with_its_node() -> None:
    with redis_cluster(2, *FLAGS) as cluster:
        here, there = cluster.nodes
        killed, stopped = Poller(here.port), Poller(there.port)
        killed.post(subscribe("x"))
        here.process.send_signal(signal.SIGKILL)
        here.process.wait()
        began = time.monotonic()
        response = killed.post(port=there.port)
        assert (response.status, response.messages[0]["reason"]) == (401, "session_expired")
        assert time.monotonic() - began < 10
        # The new session misses nothing: its client names the position of the last message.
        assert stopped.post(subscribe("x")).status == 200


def test_polls_that_land_on_any_worker() -> None:
    """The kernel chooses a worker for each connection, without a broker, too."""
    flags = ("--public", "--norpc", "--broadcast_adapter=http", "--workers=2", *FLAGS)
    with cable_server(*flags, "--metrics_http=/metrics") as server:
        for worker in ("1", "2"):
            server.wait_for_output(f"Worker {worker} serves")
        server.wait_until_it_hears_others()
        clients = [Poller(server.port) for _ in range(4)]
        publisher = Publisher(server)
        found: list[list[object]] = [[] for _ in clients]
        for client in clients:
            assert client.post(subscribe("news")).status == 200
        for number in range(1, 21):
            publisher.publish("news", number)
            if number % 4 == 0:
                for client, received in zip(clients, found, strict=True):
                    received.extend(client.post().published)
        for client, received in zip(clients, found, strict=True):
            if 20 not in received:
                received.extend(client.until(20))
        publisher.close()
        assert found == [list(range(1, 21))] * len(clients)
        assert scrape(server.port)["long_poll_relayed_total"] > 0


def test_a_new_session_continues_from_the_positions_of_the_old_one(cluster: Cluster) -> None:
    here, there = cluster.nodes
    client = Poller(here.port)
    client.post(subscribe("go on"))
    publisher = Publisher(here)
    publisher.publish("go on", 1)
    (last,) = client.post().messages
    publisher.publish("go on", 2)
    publisher.close()
    position = {"epoch": last["epoch"], "offset": last["offset"]}
    history = {"streams": {last["stream_id"]: position}}
    again = Poller(there.port)
    assert again.post(json.loads(json.dumps(subscribe("go on", history=history)))).published == [2]
