"""The benchmark as a program: ``python -m bench``."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest

from bench.measure import measure
from bench.report import is_complete
from bench.scenarios import OURS, SCENARIOS, Scenario, missing_requirement, shortened
from bench.servers import Contestant
from tests.parts.missing import missing

ROOT = Path(__file__).parents[2]


def bench(
    *arguments: str, anycable_go: str = "", **environment: str
) -> subprocess.CompletedProcess[str]:
    """Runs the benchmark to its end, as `make bench` does."""
    return subprocess.run(
        [sys.executable, "-m", "bench", *arguments],
        cwd=ROOT,
        env={**os.environ, "ANYCABLE_GO": anycable_go, **environment},
        capture_output=True,
        text=True,
        timeout=180,
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
    assert run.stderr == "", "a progress line needs a terminal"


BY_NAME = {scenario.name: scenario for scenario in SCENARIOS}
AT_ONCE = (
    "extended",
    "workers",
    "idle",
    "resume",
    "jitter",
    "soak",
    *(n for n in BY_NAME if "intake" in n),
)
"""The scenarios of the one run that the tests below share."""


@pytest.fixture(scope="module")
def quick_run(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], Path]:
    """The results of a run, and the directory of its drawings."""
    directory = tmp_path_factory.mktemp("bench")
    only = [argument for name in AT_ONCE for argument in ("--only", name)]
    path, drawings = directory / "results.json", directory / "drawings"
    run = bench("--quick", *only, "--json", str(path), "--svg", str(drawings))
    assert run.returncode == 0, run.stdout + run.stderr
    return json.loads(path.read_bytes()), drawings


@pytest.mark.parametrize("name", AT_ONCE)
def test_every_scenario_has_its_figures_and_loses_nothing(
    name: str, quick_run: tuple[dict[str, Any], Path]
) -> None:
    scenario = BY_NAME[name]
    if reason := missing_requirement(scenario):
        missing(name, reason)
    document, drawings = quick_run
    (result,) = [each for each in document["results"] if each["scenario"] == name]
    assert result["problems"] == []
    assert result["worked"]["received"] >= result["worked"]["expected"] > 0
    assert {figure.name for figure in scenario.figures} <= set(result["figures"])
    assert (drawings / f"{name}.svg").read_text().startswith("<svg ")


def test_a_storm_resumes_every_session(quick_run: tuple[dict[str, Any], Path]) -> None:
    (result,) = [each for each in quick_run[0]["results"] if each["scenario"] == "resume"]
    assert result["worked"]["resumed"] == result["plan"]["clients"] == 200
    assert [sample["name"] for sample in result["samples"]] == ["cut", "back"]


def test_every_client_of_a_jitter_is_away_once(quick_run: tuple[dict[str, Any], Path]) -> None:
    (result,) = [each for each in quick_run[0]["results"] if each["scenario"] == "jitter"]
    assert result["worked"]["resumed"] == result["plan"]["clients"] == 200
    assert result["worked"]["expected"] == 200 * (1 + result["plan"]["publications"])


def test_a_figure_above_its_limit_makes_a_run_incomplete() -> None:
    strict = quick("fanout", limits_of={OURS: {"p50_ms": 0}})
    ours = Contestant(OURS, (sys.executable, "-m", "catenary"))
    (problem,) = measure(strict, ours, 1, on_phase=lambda phase: None).problems
    assert problem.startswith("p50_ms is ")
    assert problem.endswith(", above 0")


def test_written_results_make_the_table_of_the_readme(
    quick_run: tuple[dict[str, Any], Path], tmp_path: Path
) -> None:
    path = tmp_path / "results.json"
    path.write_text(json.dumps(quick_run[0]))
    run = bench("--readme", str(path))
    assert run.returncode == 0, run.stderr
    assert "| 200 cut off at once: messages that arrived twice | 0 |\n" in run.stdout
    path.write_text("{}")
    run = bench("--readme", str(path))
    assert (run.returncode, run.stdout) == (2, "")
    assert run.stderr.startswith("bench: expected results as --json writes them in ")


def test_a_scenario_whose_broker_is_missing_is_left_out_with_a_message() -> None:
    run = bench("--quick", "--only", "intake-redisx", PATH="/nowhere")
    assert run.returncode == 2
    assert run.stderr.splitlines() == [
        "intake-redisx: left out, it needs redis-server: apt-get install redis-server",
        "bench: expected a scenario that can be measured here, got none",
    ]


def test_sessions_that_are_not_resumed_make_a_run_incomplete() -> None:
    without_broker = quick("resume", flags_of={OURS: ("--broker=none",)})
    ours = Contestant(OURS, (sys.executable, "-m", "catenary"))
    result = measure(without_broker, ours, 1, on_phase=lambda phase: None)
    assert result.problems[0] == "200 not resumed"
    assert result.problems[1].endswith(" lost")
    assert not is_complete([result])


def quick(name: str, **changes: Any) -> Scenario:
    """A changed scenario in the size of --quick."""
    scenario = msgspec.structs.replace(BY_NAME[name], **changes)
    return msgspec.structs.replace(scenario, plan=shortened(scenario.plan))


def test_a_server_that_does_not_start_is_reported_and_fails_the_run() -> None:
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
        timeout=180,
    )
    assert run.returncode == 2
    assert "expected at most 300 clients (open files: 500), got 400" in run.stderr
