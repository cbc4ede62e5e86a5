"""Workers that are replaced one by one on SIGHUP: their port is always served, and clients come back without loss."""

import json
import os
import signal
import threading
import urllib.request
from collections.abc import Iterator

import pytest

from tests.parts.cable_client import CableClient, confirmed
from tests.parts.configured_server import REFUSED, ConfiguredServer
from tests.process.test_workers import is_alive, until, workers_of

FLAGS = ("--noauth", "--public_streams", "--norpc", "--broadcast_adapter=http", "--workers=2")
ROLLED = "all workers have been replaced"
FIRST_OPTIONS = "broadcast_key = 'old'\n"
ROLLED_OPTIONS = "broadcast_key = 'new'\nmetrics.http = '/m'\n"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ConfiguredServer]:
    running = ConfiguredServer(tmp_path_factory.mktemp("rolling"), FIRST_OPTIONS, *FLAGS)
    try:
        running.wait_for_output(" serves (pid", times=2)
        yield running
    finally:
        running.close()


def status_of(server: ConfiguredServer, path: str) -> int:
    with urllib.request.urlopen(f"http://127.0.0.1:{server.port}{path}", timeout=20) as answer:
        return int(answer.status)


def test_new_workers_have_the_new_options_while_the_port_is_served_and_clients_come_back(
    server: ConfiguredServer,
) -> None:
    before = workers_of(server)
    ending, answers = threading.Event(), list[int]()

    def ask() -> None:
        while not ending.wait(0.01):  # the workers that start need the processor, too
            answers.append(status_of(server, "/health"))

    asking = threading.Thread(target=ask)
    asking.start()
    try:
        with CableClient(server.cable_url) as client:
            client.receive_welcome()
            server.configure(ROLLED_OPTIONS)
            server.wait_for_output(ROLLED, 90)
            goodbye = client.receive()
    finally:
        ending.set()
        asking.join()
    assert goodbye == {"type": "disconnect", "reason": "server_restart", "reconnect": True}
    assert {*answers} == {200}
    after = workers_of(server)
    assert len(after) == 2
    assert not {*before} & {*after}
    assert not any(map(is_alive, before))
    assert "applied by new workers: metrics.http_path: (empty) → /m" in server.output()
    assert status_of(server, "/m") == 200


def test_an_old_secret_is_accepted_by_workers_that_were_replaced(server: ConfiguredServer) -> None:
    body = json.dumps({"stream": "s", "data": "1"}).encode()
    for key in ("old", "new", "old", "new"):
        headers = {"Authorization": f"Bearer {key}"}
        request = urllib.request.Request(server.broadcast_url, body, headers)
        with urllib.request.urlopen(request, timeout=20) as answer:
            assert answer.status == 201


def test_options_that_a_running_process_applies_disconnect_nobody(server: ConfiguredServer) -> None:
    before = workers_of(server)
    with CableClient(server.cable_url) as client:
        client.receive_welcome()
        output = server.output()
        server.configure(f"{ROLLED_OPTIONS}limits.max_subscriptions = 1")
        until(lambda: server.output()[len(output) :].count("options applied: 1") == 2)
        first, second = (json.dumps({"channel": "$pubsub", "stream_name": name}) for name in "ab")
        assert client.subscribe(first) == confirmed(first)
        assert client.subscribe(second)["type"] == "reject_subscription"
    assert workers_of(server) == before


def test_a_configuration_with_which_no_worker_starts_stops_the_roll(
    server: ConfiguredServer,
) -> None:
    before = workers_of(server)
    server.configure(f"{ROLLED_OPTIONS}server.asgi = 'no_such_module:app'")
    server.wait_for_output("Worker 1 can't be replaced")
    server.wait_for_output("Reload: stopped")
    assert workers_of(server) == before
    assert all(map(is_alive, before))


def test_a_port_is_not_changed_by_a_roll(server: ConfiguredServer) -> None:
    before = workers_of(server)
    log = server.configure(f"{ROLLED_OPTIONS}metrics.port = 1")
    assert f"{REFUSED}: metrics.port: changing this needs a restart" in log
    assert workers_of(server) == before


def test_a_worker_that_crashes_starts_with_what_the_others_have(server: ConfiguredServer) -> None:
    victim = workers_of(server)[0]
    server.write("this is no TOML")
    os.kill(victim, signal.SIGKILL)
    server.wait_for_output(f"(pid {victim}) has died")
    until(lambda: victim not in workers_of(server) and len(workers_of(server)) == 2)
    assert {status_of(server, "/m") for _ in range(8)} == {200}


def test_a_shutdown_ends_a_roll_and_no_reload_begins_after_it(server: ConfiguredServer) -> None:
    """The last test: it ends the server."""
    before = len(server.output())
    server.write("metrics.http = '/other'\n")
    server.hang_up()
    server.process.send_signal(signal.SIGHUP)
    assert server.stop() == 0
    log = server.output()[before:]
    assert "replacing the workers one by one" in log
    assert "Reload: stopped, because the server shuts down" in log
    assert "ERROR" not in log
    assert "Traceback" not in log
