"""The memory of a long-polling client that waits is measured and compared with its limit."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_a_small_run_measures() -> None:
    command = [sys.executable, "-m", "bench.long_polling", "--clients=50", "--rounds=1"]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=180)
    # The figure of so few is noise.
    assert run.returncode in (0, 1), run.stderr
    row = run.stdout.splitlines()[2].split("|")
    assert [row[1].strip(), row[3].strip()] == ["memory of a client that waits, KB", "8"]
    assert float(row[2]) > 0
