"""A release, made in a clone: the files, what is in them, the bill of materials, the tag, and a wheel that works."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from release.interpreters import carry_a_message, found
from tests.parts.bare_venv import link_packages

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clone of the last commit; in a copy of the project without its history, one of the files that are there."""
    there = tmp_path_factory.mktemp("release") / "clone"
    if (ROOT / ".git").exists():
        git(ROOT, "clone", "--quiet", "--shared", str(ROOT), str(there))
        return there
    shutil.copytree(ROOT, there, ignore=shutil.ignore_patterns(".*_cache", ".venv", "node_modules"))
    git(there, "init", "--quiet")
    git(there, "add", "--all")
    git(there, "commit", "--quiet", "--message", "All files")
    return there


@pytest.fixture(scope="module")
def dist(clone: Path) -> Path:
    """The files of a release, built and checked there."""
    code = (
        "from pathlib import Path; from release import artifacts; "
        "built = artifacts.build(Path('dist').resolve()); artifacts.check(built)"
    )
    done = python(clone, "-c", code)
    assert done.returncode == 0, done.stderr
    return clone / "dist"


def git(directory: Path, *words: str) -> str:
    who = ["-c", "user.name=Test", "-c", "user.email=test@localhost"]
    done = subprocess.run(["git", *who, *words], cwd=directory, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def python(directory: Path, *words: str) -> subprocess.CompletedProcess[str]:
    environment = {
        **os.environ,
        "GIT_COMMITTER_NAME": "Test",
        "GIT_COMMITTER_EMAIL": "test@localhost",
    }
    command = [sys.executable, *words]
    return subprocess.run(command, cwd=directory, env=environment, capture_output=True, text=True)


def test_the_wheel_works_in_a_bare_venv(dist: Path, tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "venv"], check=True)
    link_packages(tmp_path / "venv", "catenary[server]", without="catenary")
    (wheel,) = dist.glob("*.whl")
    pip = [sys.executable, "-m", "pip", f"--python={tmp_path}/venv/bin/python", "install"]
    subprocess.run([*pip, "--quiet", "--no-deps", "--no-index", wheel], check=True)
    carry_a_message(tmp_path / "venv" / "bin", tmp_path)


def test_the_bill_of_materials_is_the_lock(dist: Path) -> None:
    """It is validated by its schema when it is made."""
    (path,) = dist.glob("*.cdx.json")
    bom = json.loads(path.read_text())
    lock = (ROOT / "requirements/run.txt").read_text()
    pinned = re.findall(r"^([\w-]+)==(\S+)", lock, re.MULTILINE)
    assert bom["bomFormat"] == "CycloneDX"
    assert sorted((each["name"], each["version"]) for each in bom["components"]) == sorted(pinned)
    assert all(each["purl"].startswith("pkg:pypi/") for each in bom["components"])
    hashes = [
        reference["hashes"]
        for each in bom["components"]
        for reference in each["externalReferences"]
    ]
    assert all(hashes)


def test_a_file_that_is_not_committed_is_in_no_release(clone: Path, dist: Path) -> None:
    git(clone, "rm", "--quiet", "--cached", "src/catenary/py.typed")
    code = (
        "from pathlib import Path; from release import artifacts; dist = Path('dist'); "
        "artifacts.check(artifacts.Artifacts(*dist.glob('*.gz'), *dist.glob('*.whl'), dist))"
    )
    refused = python(clone, "-c", code), python(clone, "-m", "release", "--tag")
    git(clone, "reset", "--quiet")
    assert "the sdist lacks [], and has ['src/catenary/py.typed'] more" in refused[0].stderr
    assert (refused[1].returncode, refused[1].stderr[:9]) == (1, "release: ")


def test_a_version_is_prepared_and_tagged(clone: Path, dist: Path) -> None:
    before = git(clone, "tag")
    git(clone, "checkout", "--quiet", "-b", "next")
    assert python(clone, "-m", "release", "--prepare", "9.8.7").returncode == 0
    changed = git(clone, "diff", "--name-only").split()
    assert changed == [
        "CHANGELOG.md",
        "deploy/heroku/requirements.txt",
        "deploy/kubernetes/deployment.yaml",
        "src/catenary/__init__.py",
    ]
    code = "from release import artifacts; artifacts.tag('v9.8.7', 'Catenary 9.8.7')"
    assert "not committed" in python(clone, "-c", code).stderr
    assert git(clone, "tag") == before
    git(clone, "commit", "--quiet", "--all", "--message", "Release 9.8.7")
    done = python(clone, "-c", code)
    assert done.returncode == 0, done.stderr
    assert git(clone, "cat-file", "-t", "v9.8.7") == "tag\n"
    assert "exists already" in python(clone, "-c", code).stderr
    again = python(clone, "-m", "release", "--prepare", "9.8.7")
    assert "has a section 9.8.7 already" in again.stderr


def test_interpreters_are_found() -> None:
    """The one that runs this, above all."""
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    pythons = found({**os.environ, "RELEASE_PYTHONS": sys.executable})
    assert pythons[version] == sys.executable


def test_versions_are_those_of_the_classifiers() -> None:
    from release.interpreters import VERSIONS

    text = (ROOT / "pyproject.toml").read_text()
    assert tuple(re.findall(r"Python :: (3\.\d+)", text)) == VERSIONS
