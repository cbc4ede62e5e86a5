"""What a crowd leaves behind when it has gone: nothing."""

import subprocess
import sys
import time
from pathlib import Path

from tests.parts.server import CableServer, cable_server

CROWD = 10_000
ROUNDS = 3
TOLERANCE = 0.15
"""What the allocator's pieces vary by; 400 bytes that each client leaves behind are more in two rounds."""
IDLE_KB = 5
"""What an idle connection may cost."""


def memory_kb(server: CableServer) -> int:
    """What is the process's own (proc(5), smaps_rollup): libraries are shared with whoever else runs."""
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
    deadline = time.monotonic() + 20
    while descriptors(server) > before + 1:
        assert time.monotonic() < deadline, "connections are kept"
        time.sleep(0.05)
    return with_crowd


def settled_kb(server: CableServer) -> int:
    """The memory when the wheel of pings, which forgets who left, has turned."""
    time.sleep(1.5)
    return memory_kb(server)


def test_memory_returns_to_where_it_was() -> None:
    """The first crowd warms the allocator up, which keeps what it once had in pieces; from the
    second on, each must leave what the one before it left."""
    with cable_server(
        "--public", "--norpc", "--broadcast_adapter=http", "--ping_interval=1"
    ) as server:
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
