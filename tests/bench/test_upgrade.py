"""Clients are rolled through an upgrade without loss: the short form of ``python -m bench.upgrade``."""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_an_upgrade_loses_nothing() -> None:
    """Both servers share a Redis; messages go out meanwhile."""
    command = [sys.executable, "-m", "bench.upgrade", "--clients=300", "--slow=0"]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=240)
    figures = dict(re.findall(r"^(.*?) {2,}(.*)$", run.stdout, re.MULTILINE))
    assert run.returncode == 0, run.stdout + run.stderr
    assert figures["sessions resumed"] == "300"
    for name in ("messages lost", "messages doubled", "connections refused"):
        assert figures[name] == "0"
