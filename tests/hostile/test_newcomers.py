"""Clients that come by the hundred wait for the application; those who are there are answered."""

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.hostile.slow_app import ANSWER_S
from tests.parts.ports import free_port
from tests.parts.raw_socket import RawSocket, command
from tests.parts.server import CableServer, cable_server

ROOT = Path(__file__).parents[2]
ROOM = json.dumps({"channel": "Room"})
CONCURRENCY = 5


@pytest.fixture
def server() -> Iterator[CableServer]:
    port = free_port()
    with subprocess.Popen(
        [sys.executable, "-m", "tests.hostile.slow_app", str(port)],
        stdout=subprocess.PIPE,
        cwd=ROOT,
    ) as app:
        assert app.stdout is not None
        assert app.stdout.readline() == b"ready\n"
        with cable_server(
            f"--rpc_host=http://127.0.0.1:{port}/_anycable",
            f"--rpc_concurrency={CONCURRENCY}",
            "--broadcast_adapter=http",
            "--broadcast_key=k",
            "--ping_interval=100",
        ) as server:
            yield server
        app.terminate()


def median_s(client: RawSocket, number: int) -> float:
    """How long an action takes to be answered."""
    delays = []
    for at in range(number):
        begun = time.perf_counter()
        client.send(command("message", ROOM, data=f'"{at}"'))
        assert client.message() == str(at)
        delays.append(time.perf_counter() - begun)
    return sorted(delays)[number // 2]


def test_a_storm_of_newcomers_keeps_nobody_waiting(server: CableServer) -> None:
    with RawSocket(server.port) as client:
        client.open()
        client.send(command("subscribe", ROOM))
        assert client.message()["type"] == "confirm_subscription"
        calm_s = median_s(client, 10)
        with subprocess.Popen(
            [sys.executable, "-m", "tests.hostile.attacks", "arrivals", str(server.port)],
            stdout=subprocess.PIPE,
            cwd=ROOT,
        ) as arrivals:
            assert arrivals.stdout is not None
            assert arrivals.stdout.readline() == b"here\n"
            # 500 calls of 20 ms, 5 at once: two seconds' work.
            busy_s = median_s(client, 15)
            assert arrivals.poll() is None, "they were there all the while"
            assert arrivals.wait(20) == 0
        print(f"an action: {calm_s * 1000:.0f} → {busy_s * 1000:.0f} ms")
        # A slot becomes free every ANSWER_S / CONCURRENCY, every other one for who is there.
        assert busy_s <= max(2 * calm_s, 4 * ANSWER_S)
