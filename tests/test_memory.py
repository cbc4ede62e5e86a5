"""A crowd of clients that has left takes no memory."""

import subprocess
import sys
import time
from pathlib import Path

from tests.parts.cable_client import CableClient
from tests.parts.server import CableServer, cable_server

CROWD = 10_000
ROUNDS = 3
TOLERANCE = 0.15
"""Fragmentation of the allocator; 400 bytes that each client leaves exceed it in two rounds."""
IDLE_KB = 5
"""Limit of the memory of an idle connection."""


def memory_kb(server: CableServer) -> int:
    """The process's own memory (proc(5), smaps_rollup), without libraries that it shares with others."""
    for line in Path(f"/proc/{server.process.pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss_Anon:"):
            return int(line.split()[1])
    raise AssertionError("expected Pss_Anon in smaps_rollup")


def descriptors(server: CableServer) -> int:
    return len(list(Path(f"/proc/{server.process.pid}/fd").iterdir()))


def come_and_go(server: CableServer) -> int:
    """Opens a crowd and drops it at once; returns the memory while it was there."""
    before = descriptors(server)
    with subprocess.Popen(
        [sys.executable, "-m", "tests.parts.crowd", str(server.port), str(CROWD)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=Path(__file__).parents[1],
    ) as crowd:
        assert crowd.stdin is not None
        assert crowd.stdout is not None
        assert crowd.stdout.readline() == b"open\n"
        assert descriptors(server) >= CROWD
        with_crowd = memory_kb(server)
        crowd.communicate(b"\n")
    assert crowd.returncode == 0
    deadline = time.monotonic() + 60
    while descriptors(server) > before + 1:
        assert time.monotonic() < deadline, "connections are kept"
        time.sleep(0.05)
    return with_crowd


def settled_kb(server: CableServer) -> int:
    """The memory after a turn of the wheel of pings, which drops clients that have left."""
    with CableClient(server.cable_url) as client:
        client.receive_welcome()
        for _ in range(3):
            assert client.receive_any()["type"] == "ping"
    return memory_kb(server)


def test_memory_returns_to_where_it_was() -> None:
    """The first crowd warms up the allocator, which keeps memory once it was used; from the second on,
    the memory must stay the same."""
    flags = ("--public", "--norpc", "--broadcast_adapter=http", "--ping_interval=1")
    # A fork shares memory with the tests until it changes it.
    with cable_server(*flags, is_forked=False) as server:
        empty = memory_kb(server)
        with_crowd = come_and_go(server)
        left = []
        for _ in range(ROUNDS):
            come_and_go(server)
            left.append(settled_kb(server))
        assert max(left) <= left[0] * (1 + TOLERANCE), left
        assert (with_crowd - empty) / CROWD < IDLE_KB
        # All rounds together may not leave more than one crowd took, either.
        assert left[-1] <= with_crowd * 1.4, (empty, with_crowd, left)
