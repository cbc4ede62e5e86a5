"""The costs of other clients relative to Action Cable's are measured and compared with their limits."""

import subprocess
import sys
from pathlib import Path

from bench.client_kinds import Row, row, table

ROOT = Path(__file__).parents[2]


def test_a_small_run_measures_all_kinds() -> None:
    command = [sys.executable, "-m", "bench.client_kinds", "--clients=50", "--publications=20"]
    run = subprocess.run(
        [*command, "--rounds=1"], cwd=ROOT, capture_output=True, text=True, timeout=180
    )
    # Ratios of so few are noise.
    assert run.returncode in (0, 1), run.stderr
    rows = [
        [cell.strip() for cell in line.split("|")[1:-1]] for line in run.stdout.splitlines()[2:]
    ]
    assert [(each[0], each[4]) for each in rows] == [
        ("event stream: memory of an idle client, KB", "1.3"),
        ("event stream: CPU of connect and subscription, µs", "none"),
        ("event stream: CPU of a delivery, µs", "1.1"),
        ("Pusher: memory of an idle client, KB", "1.15"),
        ("Pusher: CPU of connect and subscription, µs", "1.15"),
        ("Pusher: CPU of a delivery, µs", "1.15"),
    ]
    # So few take less memory, and less CPU to connect, than is measured.
    assert all(float(cell) > 0 for each in rows if "delivery" in each[0] for cell in each[1:4])


def test_ratios_are_of_rounds_and_the_middle_one_counts() -> None:
    found = row("x", [(1.0, 1.0), (2.0, 8.0), (4.0, 8.0)], 1.5)
    assert found == Row("x", 2.0, 8.0, 2.0, 1.5)
    assert "| x | 2.00 | 8.00 | 2.00 | 1.5 |" in table([found])
