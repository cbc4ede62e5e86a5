"""The load generator against servers that keep everything, and against some that can't."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.parts.server import OURS, CableServer, cable_server
from tests.terminal.shell import SECRET, beside, catenary

FLAGS = ("--noauth", "--public_streams", "--norpc", "--broadcast_adapter=http", "--broker=memory")


@pytest.fixture(scope="module")
def server() -> Iterator[CableServer]:
    with cable_server(*FLAGS, f"--secret={SECRET}") as server:
        yield server


def bench(server: CableServer, *words: str, status: int = 0) -> dict[str, Any]:
    """The report of a run, as data."""
    done = catenary("bench", *words, "--json", **beside(server, SECRET))
    assert done.returncode == status, done.stdout + done.stderr
    assert done.stderr == "", "no bar where there is no terminal"
    report: dict[str, Any] = json.loads(done.stdout)
    assert bool(report["problems"]) is bool(status), report["problems"]
    return report


def test_connecting(server: CableServer) -> None:
    report = bench(server, "connect", "--clients=50", "--rate=500")
    assert report["connected"]["ready"] == 50
    assert report["connected"]["seconds"] > 49 / 500 * 0.9  # timers are a little early
    assert report["worked"] is None
    latency = report["connected"]["latency"]
    assert 0 < latency["p50_ms"] <= latency["p95_ms"] <= latency["p99_ms"] <= latency["max_ms"]


@pytest.mark.parametrize(("streams", "received"), [("1", 20 * 10), ("4", 20 * 10 // 4)])
def test_publications_to_all(server: CableServer, streams: str, received: int) -> None:
    words = ("fanout", "--clients=20", "--rate=50", "--seconds=0.2", f"--streams={streams}")
    worked = bench(server, *words)["worked"]
    assert (worked["published"], worked["received"], worked["expected"]) == (10, received, received)
    assert worked["latency"]["max_ms"] > 0


def test_whispers(server: CableServer) -> None:
    words = ("echo", "--action=", "--clients=4", "--seconds=0.3", "--plain")
    worked = bench(server, *words)["worked"]
    assert worked["received"] == worked["expected"] > 4


def test_calls_of_an_action() -> None:
    command = (*OURS, "tests.terminal.benchmark:cable")
    with cable_server("--broadcast_adapter=http", command=command) as server:
        worked = bench(server, "echo", "--clients=3", "--seconds=0.3")["worked"]
        assert worked["received"] == worked["expected"] > 3
        words = ("echo", "--action=forget", "--clients=3", "--seconds=0.1", "--patience=0.2")
        report = bench(server, *words, status=1)
        assert report["problems"] == ["3 lost"]
        report = bench(server, "echo", "--channel=Other", "--clients=3", status=1)
        assert report["problems"][0] == "3 not connected"
        assert "reject_subscription" in report["problems"][1]


def test_all_come_back_and_have_everything(server: CableServer) -> None:
    words = ("resume", "--clients=30", "--rate=50", "--seconds=0.2", "--missed=15")
    report = bench(server, *words)
    resumed, worked = report["resumed"], report["worked"]
    assert (resumed["returned"], resumed["restored"], resumed["rejected_histories"]) == (30, 30, 0)
    assert worked["received"] == worked["expected"] == 30 * (1 + 15 + 10)
    assert resumed["seconds"] > 0


def test_a_history_that_is_too_short_is_found_out() -> None:
    with cable_server(*FLAGS, f"--secret={SECRET}", "--history_limit=5") as server:
        words = ("resume", "--clients=3", "--rate=50", "--seconds=0.1", "--patience=0.2")
        report = bench(server, *words, "--missed=20", status=1)
    problems = " ".join(report["problems"])
    assert "3 histories that did not reach back" in problems
    assert f"{3 * 20} lost" in problems


def test_a_refused_publisher_is_found_out(server: CableServer) -> None:
    words = ("bench", "--clients=2", "--rate=50", "--seconds=0.1", "--patience=0.2", "--json")
    around = beside(server)
    done = catenary(*words, f"--publish-url={server.broadcast_url}", **around)
    assert done.returncode == 1
    problems = json.loads(done.stdout)["problems"]
    assert problems == ["10 lost", "5 publications not accepted"]


def test_people_get_a_table(server: CableServer) -> None:
    words = ("bench", "--clients=2", "--rate=50", "--seconds=0.1")
    done = catenary(*words, **beside(server, SECRET))
    assert (done.returncode, done.stderr) == (0, "")
    names = [line.split("  ")[0] for line in done.stdout.splitlines()]
    assert names == ["clients", "connect", "arrived", "delivery", "irregular", "this tool"]
    assert "0 lost, 0 twice, 0 out of order" in done.stdout


def test_nobody_listens() -> None:
    done = catenary("bench", "--clients=2", "--url=ws://127.0.0.1:1/cable")
    assert done.returncode == 1
    assert "2 not connected" in done.stdout
    assert "Connect" in done.stdout.splitlines()[-1]
