"""The life of the process: what ends it, and with which status."""

import signal
import subprocess
import sys

import pytest

from tests.parts.ports import free_port
from tests.parts.raw_socket import RawSocket, masked
from tests.parts.server import cable_server

FLAGS = ("--public", "--norpc", "--broadcast_adapter=http")

SABOTAGED = """
import sys
from catenary.cli import main
from catenary.process.listener import Listener

async def on_tick(self, counter):
    {}

Listener.on_tick = on_tick
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.parametrize(
    ("ending", "word"),
    [
        ("raise TypeError('odd')", "TypeError: odd"),
        ("raise SystemExit(0)", "SystemExit ended the server"),
        ("import asyncio; asyncio.current_task().cancel()", "CancelledError"),
        ("return True", "a listener has ended unexpectedly"),
    ],
)
def test_a_listener_that_ends_ends_the_process_with_status_1(ending: str, word: str) -> None:
    """A process whose listener has ended must not keep running as if it served clients."""
    port = free_port()
    ended = subprocess.run(
        [
            *(sys.executable, "-c", SABOTAGED.format(ending)),
            *(*FLAGS, f"--port={port}", f"--http_broadcast_port={port}"),
        ],
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert ended.returncode == 1
    assert word in ended.stderr


def test_a_second_signal_ends_the_delay_and_a_third_one_the_process() -> None:
    with cable_server(*FLAGS, "--shutdown_delay=30", "--ws_write_timeout=30") as server:
        clients = [RawSocket(server.port).open() for _ in range(3)]
        server.process.send_signal(signal.SIGINT)
        server.wait_for_output("a second signal hastens that, a third one exits at once")
        clients[0].send(masked(b"x", 0x9))
        assert clients[0].frame() == (0xA, b"x")  # still served
        server.process.send_signal(signal.SIGINT)
        for client in clients:
            assert client.message()["type"] == "disconnect"  # long before the delay is over
            assert client.goodbye()[0] == 1001
        # They do not answer, so the server waits for them.
        server.process.send_signal(signal.SIGINT)
        assert server.process.wait(20) == 130
        for client in clients:
            assert client.wait_for_end() == b""
            client.socket.close()


def test_without_a_delay_a_second_signal_exits_at_once() -> None:
    with cable_server(*FLAGS, "--ws_write_timeout=30") as server, RawSocket(server.port) as client:
        client.open()
        server.process.send_signal(signal.SIGTERM)
        server.wait_for_output("a second signal exits at once")
        assert client.message()["type"] == "disconnect"
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(20) == 143
