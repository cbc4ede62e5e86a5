"""Builds the sdist and the wheel, and checks what is in them."""

import os
import re
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path
from typing import Final, NamedTuple

from release.changelog import ReleaseError

ROOT: Final = Path(__file__).parents[1]
_OURS: Final = "src/catenary/"


class Artifacts(NamedTuple):
    """The files of a release."""

    sdist: Path
    wheel: Path
    bom: Path


def version() -> str:
    """The version of the source."""
    text = (ROOT / "src/catenary/__init__.py").read_text()
    (found,) = re.findall(r'^__version__ = "(.+)"$', text, re.MULTILINE)
    return str(found)


def build(directory: Path) -> Artifacts:
    """Builds each twice, and compares; the second wheel is built from the sdist. Raises :class:`ReleaseError`."""
    sdist, wheel = _built("sdist", ROOT, directory), _built("wheel", ROOT, directory)
    with tempfile.TemporaryDirectory() as there:
        unpack = ["tar", "--extract", "--file", str(sdist), "--directory", there]
        subprocess.run(unpack, check=True)
        (unpacked,) = Path(there).iterdir()
        again = Path(there) / "again"
        for first, second in (
            (sdist, _built("sdist", ROOT, again)),
            (wheel, _built("wheel", unpacked, again)),
        ):
            if first.read_bytes() != second.read_bytes():
                raise ReleaseError(f"{first.name} is another when it is built again")
    return Artifacts(sdist, wheel, _bom(directory / f"catenary-{version()}.cdx.json"))


def _built(target: str, source: Path, directory: Path) -> Path:
    """The sdist or the wheel of a directory. Every time in it is that of the last commit."""
    command = [sys.executable, "-m", "hatchling", "build", "-t", target, "-d", str(directory)]
    environment = {**os.environ, "SOURCE_DATE_EPOCH": _git("log", "-1", "--format=%ct").strip()}
    done = subprocess.run(command, cwd=source, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise ReleaseError(f"hatchling: {done.stderr}")
    end = ".tar.gz" if target == "sdist" else "-py3-none-any.whl"
    return directory / f"catenary-{version()}{end}"


def check(artifacts: Artifacts) -> None:
    """Checks contents and metadata. Raises :class:`ReleaseError`."""
    tracked = set(_git("ls-files").split("\n")) - {""}
    with tarfile.open(artifacts.sdist) as sdist:
        found = {name.partition("/")[2] for name in sdist.getnames()} - {"", "PKG-INFO"}
    _compare("the sdist", found, tracked)
    with zipfile.ZipFile(artifacts.wheel) as wheel:
        names = {name for name in wheel.namelist() if ".dist-info/" not in name}
    expected = {each.removeprefix("src/") for each in tracked if each.startswith(_OURS)}
    _compare("the wheel", names, expected)
    twine = [sys.executable, "-m", "twine", "check", "--strict"]
    files = [str(artifacts.sdist), str(artifacts.wheel)]
    done = subprocess.run([*twine, *files], capture_output=True, text=True)
    if done.returncode:
        raise ReleaseError(f"twine: {done.stdout}{done.stderr}")


def _compare(what: str, found: set[str], expected: set[str]) -> None:
    if found != expected:
        missing, more = sorted(expected - found), sorted(found - expected)
        raise ReleaseError(f"{what} lacks {missing[:5]}, and has {more[:5]} more than the commit")


def _bom(path: Path) -> Path:
    """The software bill of materials: CycloneDX in JSON, from the lock; the tool validates it by its schema."""
    lock = [str(ROOT / "requirements/run.txt"), "--pyproject", str(ROOT / "pyproject.toml")]
    form = ["--mc-type=application", "--output-reproducible", "--validate", "--of=JSON"]
    command = [sys.executable, "-W", "ignore", "-m", "cyclonedx_py", "requirements", *lock, *form]
    done = subprocess.run([*command, "-o", str(path)], capture_output=True, text=True)
    if done.returncode:
        raise ReleaseError(f"cyclonedx-py: {done.stderr}")
    return path


def is_clean() -> bool:
    """Whether every file of the work tree is that of the last commit."""
    return not _git("status", "--porcelain")


def tag(name: str, message: str) -> None:
    """Makes an annotated tag of the last commit. Raises :class:`ReleaseError`."""
    if not is_clean():
        raise ReleaseError("the work tree has changes that are not committed")
    if _git("tag", "--list", name).strip():
        raise ReleaseError(f"the tag {name} exists already")
    _git("tag", "--annotate", name, "--cleanup=verbatim", "--message", message)


def _git(*words: str) -> str:
    done = subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        raise ReleaseError(f"git {words[0]}: {done.stderr}")
    return done.stdout
