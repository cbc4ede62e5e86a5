"""The cost of a client is measured for several numbers of clients."""

import subprocess
import sys
from pathlib import Path

from bench.scale import Row, is_flat

ROOT = Path(__file__).parents[2]


def test_a_small_run_measures() -> None:
    command = [sys.executable, "-m", "bench.scale", "--clients=60", "--seconds=4.5"]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=180)
    assert run.returncode == 0, run.stdout + run.stderr
    row = [cell.strip() for cell in run.stdout.splitlines()[2].split("|")[1:-1]]
    assert row[:2] == ["60", "1"]
    assert row[-1] == "0"
    assert all(float(cell.replace(",", "")) > 0 for cell in row[2:5])


def result(clients: int, kb: float, missed: int = 0) -> Row:
    return Row(clients, 1, 1000, kb, 9, missed)


def test_memory_per_client_must_not_grow_with_their_number() -> None:
    small = result(1_000, 9), result(10_000, 3)
    assert is_flat([*small, result(100_000, 3.5)])
    assert not is_flat([*small, result(100_000, 3.7)])


def test_every_ping_must_arrive() -> None:
    assert not is_flat([result(10_000, 3, missed=1)])
