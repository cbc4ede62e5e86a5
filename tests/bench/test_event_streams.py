"""The cost of an event stream relative to a WebSocket is measured and compared with its limit."""

import subprocess
import sys
from pathlib import Path

from bench.event_streams import Row, row, table

ROOT = Path(__file__).parents[2]


def test_a_small_run_measures_both_kinds() -> None:
    command = [sys.executable, "-m", "bench.event_streams", "--clients=300", "--publications=20"]
    run = subprocess.run(
        [*command, "--rounds=1"], cwd=ROOT, capture_output=True, text=True, timeout=180
    )
    # Ratios of so few are noise.
    assert run.returncode in (0, 1), run.stderr
    memory, delivery = (line.split("|") for line in run.stdout.splitlines()[2:])
    assert [memory[1].strip(), memory[5].strip()] == ["memory of an idle client, KB", "1.3"]
    assert [delivery[1].strip(), delivery[5].strip()] == ["CPU of a delivery, µs", "1.1"]
    assert all(float(cell) > 0 for cell in (*memory[2:5], *delivery[2:5]))


def test_ratios_are_of_rounds_and_the_middle_one_counts() -> None:
    found = row("x", [(1.0, 1.0), (2.0, 8.0), (4.0, 8.0)], 1.5)
    assert found == Row("x", 2.0, 8.0, 2.0, 1.5)
    assert "| x | 2.00 | 8.00 | 2.00 | 1.5 |" in table([found])
