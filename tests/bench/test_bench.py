import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def bench(*arguments: str, anycable_go: str = "") -> subprocess.CompletedProcess[str]:
    """Runs the benchmark to its end, as `make bench` does."""
    return subprocess.run(
        [sys.executable, "-m", "bench", *arguments],
        cwd=ROOT,
        env={**os.environ, "ANYCABLE_GO": anycable_go},
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_a_quick_run_measures_all_figures_of_a_scenario(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    run = bench("--quick", "--only", "fanout", "--json", str(path))
    assert run.returncode == 0, run.stdout + run.stderr
    document = json.loads(path.read_bytes())
    assert document["complete"] is True
    (result,) = document["results"]
    assert result["problems"] == []
    assert result["worked"]["received"] == result["worked"]["expected"] == 200 * 100
    assert [row["figure"] for row in document["rows"]] == [
        "cpu_us_per_delivery",
        "p50_ms",
        "p99_ms",
    ]
    for row in document["rows"]:
        assert row["ours"] > 0
        assert row["theirs"] is row["ratio"] is None
        assert row["title"] in run.stdout
    assert run.stderr == "", "no progress line where there is no terminal"


def test_a_server_that_can_not_be_measured_is_told_and_fails_the_run() -> None:
    run = bench("--quick", "--only", "connect", "--clients", "10", anycable_go="false")
    assert run.returncode == 1, run.stdout + run.stderr
    assert "connect, anycable-go, round 1: INCOMPLETE: nothing listens" in run.stdout


def test_more_clients_than_open_files_are_refused() -> None:
    limited = ["sh", "-c", 'ulimit -n 500 && exec "$@"', "sh"]
    run = subprocess.run(
        [*limited, sys.executable, "-m", "bench", "--clients", "400"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert run.returncode == 2
    assert "expected at most 300 clients (open files: 500), got 400" in run.stderr
