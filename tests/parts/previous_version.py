"""The source of the previous version: the last tag, before this commit, or what ``PREVIOUS_VERSION`` names.

Until there is a tag, it is the commit at which nodes of two versions were first tried together.
"""

import os
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FIRST = "636ee7b50b41f0733184600782c85a34bbc9cab2"


def previous_version() -> str:
    """A name of the commit."""
    given = os.environ.get("PREVIOUS_VERSION")
    if given:
        return given
    tagged = _git("describe", "--tags", "--abbrev=0", "--match=v*", "HEAD^")
    return tagged.stdout.strip() if tagged.returncode == 0 else FIRST


def server_of(commit: str, directory: Path) -> tuple[tuple[str, ...], dict[str, str]]:
    """Unpacks the source of a commit; returns the command that starts a server of it, and its variables.

    Skips the test in a copy of the project without its history, which nothing can install:
    tests/cluster/test_wire_formats.py compares the formats of both versions there, too.
    """
    archive = directory / "source.tar"
    done = _git("archive", f"--output={archive}", commit, "src")
    if done.returncode:
        pytest.skip(f"the source of {commit} is missing: {_remedy(done.stderr.strip())}")
    with tarfile.open(archive) as packed:
        packed.extractall(directory)
    # Compiled once, and not by each of its servers.
    source = directory / "src"
    subprocess.run([sys.executable, "-m", "compileall", "-q", str(source)], check=True)
    return (sys.executable, "-m", "catenary"), {"PYTHONPATH": str(source)}


def _remedy(error: str) -> str:
    if _git("rev-parse", "--is-shallow-repository").stdout.strip() == "true":
        return "this clone is shallow, run git fetch --unshallow --tags"
    return f"clone the repository with its history ({error})"


def _git(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True)
