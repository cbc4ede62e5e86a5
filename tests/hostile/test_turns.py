"""No attack makes a turn of the loop long: what everybody else waits for.

Delays tell of that only on a quiet machine. The CPU of a turn is the server's own, however busy others
are; so this fails where large reads or handshakes are not taken in turns.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.parts.server import CableServer, cable_server

LONGEST_MS = 20
"""More than twice what the longest takes, which is full of pings that are answered."""

ROOT = Path(__file__).parents[2]


class Watched:
    """A server that says how long its turns are."""

    def __init__(self, server: CableServer, path: Path) -> None:
        self.server = server
        self._path = path

    def longest_ms(self, attack: str) -> float:
        """The longest turn while an attack goes on, which has as much of a core as it can get."""
        code = f"from tests.hostile.attacks import {attack}; {attack}({self.server.port})"
        self._signal()
        subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, timeout=60)
        self._path.unlink(missing_ok=True)
        self._signal()
        deadline = time.monotonic() + 10
        while not self._path.exists():
            assert time.monotonic() < deadline, "it says how long its turns were"
            time.sleep(0.01)
        longest, *others = json.loads(self._path.read_text())
        print(f"{attack}: {longest:.1f} ms, then {others[:3]}")
        return float(longest)

    def _signal(self) -> None:
        os.kill(self.server.process.pid, signal.SIGUSR2)


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    path = tmp_path_factory.mktemp("turns") / "turns"
    with cable_server(
        *("--public", "--norpc", "--broadcast_adapter=http", "--log_level=error"),
        *("--handshake_timeout=1", "--ws_message_timeout=1", "--max_identifier_size=1000"),
        command=(sys.executable, "-m", "tests.hostile.turns", str(path)),
    ) as server:
        yield Watched(server, path)


@pytest.mark.parametrize(
    "attack",
    [
        *("heads", "slow_heads", "slow_frames", "identifiers"),
        *("subscriptions", "commands", "pings", "storm", "arrivals"),
    ],
)
def test_no_turn_is_long(watched: Watched, attack: str) -> None:
    assert watched.longest_ms(attack) < LONGEST_MS
