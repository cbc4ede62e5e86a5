"""How the Python underneath was compiled; and that ``make setup`` takes one that was compiled well."""

import os
import subprocess
from pathlib import Path

import pytest

from catenary.process.interpreter import is_optimized
from tests.parts.server import cable_server

CHOICE = Path(__file__).parents[2] / ".ci" / "python"
PYENV = "'--prefix=/root/.pyenv/versions/3.11.7' '--enable-shared'"


@pytest.mark.parametrize(
    ("prefix", "arguments", "optimized"),
    [
        ("/opt/python", PYENV, False),
        ("/opt/python", "", False),
        ("/opt/python", f"{PYENV} '--enable-optimizations' '--with-lto'", True),
        ("/usr", "'--enable-shared' '--prefix=/usr'", True),
        ("/usr/local", PYENV, False),
        ("C:\\Python", None, True),
    ],
    ids=["pyenv", "by hand", "asked for", "Debian", "by hand, in the usual place", "Windows"],
)
def test_whether_it_is_optimized(
    monkeypatch: pytest.MonkeyPatch, prefix: str, arguments: str | None, *, optimized: bool
) -> None:
    monkeypatch.setattr("sys.base_prefix", prefix)
    monkeypatch.setattr("sysconfig.get_config_var", {"CONFIG_ARGS": arguments}.__getitem__)
    assert is_optimized() is optimized


def test_a_server_says_when_it_is_not() -> None:
    with cable_server("--norpc", "--broadcast_adapter=http") as server:
        output = server.wait_for_output("Serving cable")
    assert ("This Python was compiled without PGO" in output) is not is_optimized()


def chosen(directory: Path, *, own: str) -> str:
    """What ``.ci/python`` prints where python3 is the given one."""
    python = directory / "python3"
    python.write_text(f"#!/bin/sh\n{own}\n")
    python.chmod(0o755)
    path = f"{directory}:{os.environ['PATH']}"
    answer = subprocess.run(
        [CHOICE], env={**os.environ, "PATH": path}, capture_output=True, text=True, check=True
    )
    return answer.stdout.strip()


def test_the_own_python_is_taken_where_it_is_optimized(tmp_path: Path) -> None:
    assert chosen(tmp_path, own="echo optimized") == "python3"


def test_else_another_one_that_is_or_the_own(tmp_path: Path) -> None:
    other = chosen(tmp_path, own="echo plain")
    if other != "python3":
        assert tells(other, "is_optimized()") == "True"


def test_one_that_will_not_do_is_passed_over(tmp_path: Path) -> None:
    other = chosen(tmp_path, own="exit 1")
    assert tells(other, "sys.version_info >= (3, 11)") == "True"


def tells(python: str, expression: str) -> str:
    """What an expression is in another Python."""
    program = f"import sys; from catenary.process.interpreter import *; print({expression})"
    source = str(CHOICE.parents[1] / "src")
    answer = subprocess.run(
        [python, "-c", program],
        env={**os.environ, "PYTHONPATH": source},
        capture_output=True,
        text=True,
        check=True,
    )
    return answer.stdout.strip()
