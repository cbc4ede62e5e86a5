"""Several processes on one port: each a node, replaced when it dies, ended together."""

import json
import os
import re
import signal
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.parts.cable_client import CableClient, confirmed, delivered
from tests.parts.ports import free_port
from tests.parts.server import OURS, CableServer, cable_server

FLAGS = ("--public", "--norpc", "--broadcast_adapter=http", "--workers=2")
STREAM = json.dumps({"channel": "$pubsub", "stream_name": "s"})


@pytest.fixture
def server() -> Iterator[CableServer]:
    with cable_server(*FLAGS) as server:
        server.wait_for_output("Worker 1 serves")
        server.wait_for_output("Worker 2 serves")
        yield server


def workers_of(server: CableServer) -> list[int]:
    """The processes that serve now."""
    pids: dict[str, int] = {}
    for number, pid in re.findall(r"Worker (\d) serves \(pid (\d+)\)", server.output()):
        pids[number] = int(pid)
    return list(pids.values())


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"


def until(predicate: Callable[[], bool], timeout_s: float = 30) -> None:
    deadline = time.monotonic() + timeout_s
    while not predicate():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


def publish(server: CableServer, message: object) -> None:
    body = json.dumps({"stream": "s", "data": json.dumps(message)}).encode()
    request = urllib.request.Request(server.broadcast_url, body)
    assert urllib.request.urlopen(request, timeout=20).status == 201


def member(server: CableServer, stack: ExitStack) -> CableClient:
    client = stack.enter_context(CableClient(server.cable_url))
    client.receive_welcome()
    assert client.subscribe(STREAM) == confirmed(STREAM)
    return client


def test_what_one_worker_is_told_all_clients_hear(server: CableServer) -> None:
    with ExitStack() as stack:
        clients = [member(server, stack) for _ in range(12)]
        for number in range(8):
            publish(server, number)
        for client in clients:
            assert [client.receive() for _ in range(8)] == [
                delivered(STREAM, number) for number in range(8)
            ]


def test_a_worker_that_dies_is_replaced_and_the_port_is_never_closed(server: CableServer) -> None:
    victim, other = workers_of(server)
    os.kill(victim, signal.SIGKILL)
    with ExitStack() as stack:
        clients = [member(server, stack) for _ in range(12)]
        server.wait_for_output(f"(pid {victim}) has died")
        until(lambda: victim not in workers_of(server) and len(workers_of(server)) == 2)
        assert other in workers_of(server)
        clients += [member(server, stack) for _ in range(6)]
        publish(server, "again")
        for client in clients:
            assert client.receive() == delivered(STREAM, "again")


def test_an_orderly_end_says_goodbye_and_leaves_nobody(server: CableServer) -> None:
    workers = workers_of(server)
    with ExitStack() as stack:
        clients = [member(server, stack) for _ in range(6)]
        assert server.stop() == 0
        for client in clients:
            assert client.receive()["type"] == "disconnect"
    assert not any(map(is_alive, workers))


def test_workers_end_when_their_parent_is_killed(server: CableServer) -> None:
    workers = workers_of(server)
    server.process.kill()
    server.process.wait()
    until(lambda: not any(map(is_alive, workers)))


def refused(*flags: str) -> str:
    done = subprocess.run([*OURS, *flags], capture_output=True, text=True, timeout=20)
    assert done.returncode == 1, done
    return done.stderr


def test_a_port_that_is_taken_is_told_in_one_line(server: CableServer) -> None:
    """Also where the other one has workers itself, and would share its port."""
    line = refused(*FLAGS, "--host=127.0.0.1", f"--port={server.port}").splitlines()[-1]
    assert line.startswith(f"catenary: port: can't listen on 127.0.0.1:{server.port}")


def test_the_memory_of_one_process_is_refused() -> None:
    line = refused(*FLAGS, "--broker=memory")
    assert line.startswith("catenary: workers: ")
    assert "--broker=nats" in line.replace("broker=", "--broker=")
    assert line.count("\n") == 1


def test_workers_that_can_not_start_end_the_start() -> None:
    ports = (f"--port={free_port()}", f"--http_broadcast_port={free_port()}")
    line = refused(
        *FLAGS, "--host=127.0.0.1", *ports, "--ssl_cert=/no", "--ssl_key=/no"
    ).splitlines()[-1]
    assert "could not be started" in line


def test_workers_tell_their_clients_one_after_the_other() -> None:
    flags = (*FLAGS, "--shutdown_slowdrain", "--shutdown_timeout=4")
    with cable_server(*flags) as server, ExitStack() as stack:
        for number in (1, 2):
            server.wait_for_output(f"Worker {number} serves")
        clients = [member(server, stack) for _ in range(12)]
        stopped_at = time.monotonic()
        server.process.send_signal(signal.SIGTERM)
        with ThreadPoolExecutor(len(clients)) as pool:
            told_at = sorted(pool.map(_told_at, clients))
        # Each worker spreads its own clients over 3.2 s; the kernel decides which worker has how many.
        assert told_at[-1] - stopped_at > 1
        assert server.process.wait(30) == 0


def _told_at(client: CableClient) -> float:
    assert client.receive()["type"] == "disconnect"
    at = time.monotonic()
    client.close()
    return at


def test_a_second_signal_hastens_the_drain_of_the_workers() -> None:
    flags = (*FLAGS, "--shutdown_slowdrain", "--shutdown_timeout=600")
    with cable_server(*flags) as server, ExitStack() as stack:
        for number in (1, 2):
            server.wait_for_output(f"Worker {number} serves")
        clients = [member(server, stack) for _ in range(12)]
        server.process.send_signal(signal.SIGTERM)
        server.wait_for_output("Disconnecting ")
        server.process.send_signal(signal.SIGTERM)
        server.wait_for_output("no longer wait; the next one exits at once")
        for client in clients:
            assert client.receive()["type"] == "disconnect"
        assert server.process.wait(60) == 0


def test_a_worker_that_hangs_is_replaced() -> None:
    with cable_server(*FLAGS, "--worker_timeout=3") as server:
        for number in (1, 2):  # in either order
            server.wait_for_output(f"Worker {number} serves")
        hung, other = workers_of(server)
        os.kill(hung, signal.SIGSTOP)
        server.wait_for_output(f"(pid {hung}) has not reported for 3 s: killing it")
        until(lambda: hung not in workers_of(server))
        assert other in workers_of(server)
        assert is_alive(other)
