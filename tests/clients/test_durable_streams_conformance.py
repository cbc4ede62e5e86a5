"""``@durable-streams/server-conformance-tests`` against a server that is written and read.

``durable_streams_expected.json`` lists each test that fails, with the reason: a test that begins to pass or to fail is noticed.
"""

import json
import os
import subprocess
from pathlib import Path
from typing import Any, Final

from tests.parts.node import CLIENTS, PACKAGES, require_node, require_packages
from tests.parts.server import cable_server

FLAGS = (
    *("--public", "--norpc", "--broker=memory", "--history_limit=2000"),
    *("--ds", "--ds_write", "--ds_path=/v1/stream", "--ds_poll_interval=1"),
)
SLOW: Final = "Property-Based Tests|Chunking and Large Payloads"
"""These take as long as all others, which run beside them."""

LEAST: Final = 250
"""Tests that pass: with fewer, the suite has not run."""


def test_the_server_conforms_but_for_what_is_listed(tmp_path: Path) -> None:
    require_packages()
    with cable_server(*FLAGS) as server:
        halves = [
            vitest(server.port, tmp_path / f"{number}.json", names)
            for number, names in enumerate((SLOW, f"^(?!.*({SLOW})).*$"))
        ]
        for each in halves:
            each.wait(timeout=240)
    tests = [found for number in range(2) for found in results(tmp_path / f"{number}.json")]
    groups = json.loads((CLIENTS / "durable_streams_expected.json").read_text())
    assert all(each["reason"] for each in groups)
    expected = {name for each in groups for name in each["failed"]}
    failed = {name for name, status in tests if status == "failed"}
    assert sorted(failed - expected) == [], "these begin to fail"
    assert sorted(expected - failed) == [], "these pass now"
    assert sum(status == "passed" for _, status in tests) >= LEAST


def vitest(port: int, output: Path, names: str) -> "subprocess.Popen[bytes]":
    """Runs the tests with these names, each again if it fails: some of them measure seconds."""
    return subprocess.Popen(
        [
            *(require_node(), str(PACKAGES / "vitest" / "vitest.mjs"), "run", "--root", "."),
            *("--reporter=json", f"--outputFile={output}", "--testTimeout=60000", "--retry=1"),
            *("durable_streams.test.mjs", "-t", names),
        ],
        cwd=CLIENTS,
        env={**os.environ, "DS_URL": f"http://localhost:{port}"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def results(output: Path) -> list[tuple[str, str]]:
    """The name of each test that ran, after those of its groups, and its status."""
    report: dict[str, Any] = json.loads(output.read_text())
    return [
        (" > ".join((*each["ancestorTitles"], each["title"])), each["status"])
        for file in report["testResults"]
        for each in file["assertionResults"]
        if each["status"] in ("passed", "failed")
    ]
