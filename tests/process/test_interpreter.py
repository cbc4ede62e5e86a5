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


CANDIDATES = ("python3", "/usr/bin/python3", "python3.13", "python3.12", "python3.11")
"""In the order in which ``.ci/python`` tries them."""


@pytest.mark.parametrize(
    ("kinds", "chosen"),
    [
        ({"python3": "optimized", "python3.12": "optimized"}, "python3"),
        ({"python3": "plain", "python3.12": "optimized"}, "python3.12"),
        ({"python3": "plain", "python3.13": "plain"}, "python3"),
        ({"python3.13": "plain", "python3.11": "optimized"}, "python3.11"),
        ({"python3.12": "plain"}, "python3.12"),
        ({"/usr/bin/python3": "optimized", "python3.13": "optimized"}, "/usr/bin/python3"),
    ],
    ids=str,
)
def test_the_first_optimized_python_is_chosen_else_the_first(
    tmp_path: Path, kinds: dict[str, str], chosen: str
) -> None:
    choice = choose(tmp_path, kinds)
    assert (choice.returncode, choice.stdout) == (0, f"{chosen}\n")


def test_without_any_the_error_names_the_package_that_is_missing(tmp_path: Path) -> None:
    choice = choose(tmp_path, {})
    assert choice.returncode == 1
    assert "apt install python3-venv" in choice.stderr


def test_a_real_python_tells_whether_it_is_optimized() -> None:
    choice = subprocess.run([CHOICE], capture_output=True, text=True, check=True)
    code = "import sys; assert sys.version_info >= (3, 11); import ensurepip, venv"
    subprocess.run([choice.stdout.strip(), "-c", code], check=True)


def choose(directory: Path, kinds: dict[str, str]) -> "subprocess.CompletedProcess[str]":
    """Runs ``.ci/python`` beside these Pythons and no others: each says what it is, or can't run at all."""
    script = CHOICE.read_text()
    for candidate in CANDIDATES:
        name = candidate.replace("/", "_")
        assert candidate in script
        python = directory / name
        python.write_text(
            f"#!/bin/sh\necho {kinds[candidate]}\n" if candidate in kinds else "#!/bin/sh\nexit 1\n"
        )
        python.chmod(0o755)
    # An absolute path is not looked up in PATH: the script under test runs the stand-in.
    script = script.replace('"$candidate" -c', '"${candidate//\\//_}" -c')
    (directory / "choice").mkdir()
    (directory / "choice" / "python").write_text(script)
    return subprocess.run(
        ["bash", directory / "choice" / "python"],
        env={**os.environ, "PATH": f"{directory}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=False,
    )
