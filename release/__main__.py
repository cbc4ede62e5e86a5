"""Builds and checks what a release consists of; with more words, prepares or tags one.

python -m release                      builds sdist, wheel and bill of materials into dist/, and tries them
python -m release --prepare 0.2.0      writes the version and its section of the changelog: review and commit
python -m release --tag                as the first, and then tags the commit, which must be that of a prepared version
"""

import argparse
import datetime as dt
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

from release import artifacts, changelog, interpreters
from release.artifacts import ROOT
from release.changelog import ReleaseError

_CHANGELOG = ROOT / "CHANGELOG.md"


def main() -> int:
    parser = argparse.ArgumentParser(
        "release", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--prepare", metavar="VERSION")
    parser.add_argument("--tag", action="store_true")
    arguments = parser.parse_args()
    try:
        if arguments.prepare:
            prepare(arguments.prepare, ROOT, dt.datetime.now(dt.UTC).date())
        else:
            release(is_tagged=arguments.tag)
    except ReleaseError as error:
        print(f"release: {error}", file=sys.stderr)
        return 1
    return 0


def release(*, is_tagged: bool) -> None:
    """Builds, checks and tries; then tags. Checks first whether the tag can be made."""
    version = artifacts.version()
    said = ""
    if is_tagged:
        said = changelog.notes(_CHANGELOG.read_text(), version)
        if not artifacts.is_clean():
            raise ReleaseError("the work tree has changes that are not committed")
    dist = ROOT / "dist"
    shutil.rmtree(dist, ignore_errors=True)
    built = artifacts.build(dist)
    artifacts.check(built)
    for each in built:
        print(each.relative_to(ROOT))
    pythons = interpreters.found()
    for wanted in interpreters.VERSIONS:
        python = pythons.get(wanted)
        if python is None:
            if is_tagged:
                raise ReleaseError(f"no Python {wanted} on this machine: see RELEASE_PYTHONS")
            print(f"Python {wanted}: not on this machine")
            continue
        interpreters.try_wheel(python, built.wheel)
        print(f"Python {wanted}: installed, started, and carried a message")
    if is_tagged:
        artifacts.tag(f"v{version}", f"Catenary {version}\n\n{said}\n")
        print(f"tagged v{version}")


def prepare(version: str, root: Path, date: dt.date) -> None:
    """Writes the version into the files that have it. Raises :class:`ReleaseError`, and changes nothing then."""
    changed: dict[Path, Callable[[str], str]] = {
        root / "CHANGELOG.md": lambda text: changelog.cut(text, version, date)
    }
    replaced: dict[str, tuple[str, str]] = {
        "src/catenary/__init__.py": (r'^__version__ = ".+"$', f'__version__ = "{version}"'),
        "deploy/heroku/requirements.txt": (r"catenary-[^-]+-py3", f"catenary-{version}-py3"),
        "deploy/kubernetes/deployment.yaml": (r"(/catenary):\S+$", rf"\1:{version}"),
    }
    for name, (pattern, text) in replaced.items():
        changed[root / name] = _replacing(pattern, text)
    written = {path: change(path.read_text()) for path, change in changed.items()}
    for path, text in written.items():
        path.write_text(text)


def _replacing(pattern: str, replacement: str) -> Callable[[str], str]:
    def replaced(text: str) -> str:
        changed, number = re.subn(pattern, replacement, text, flags=re.MULTILINE)
        if number != 1:
            raise ReleaseError(f"expected {pattern} once, got it {number} times")
        return changed

    return replaced


if __name__ == "__main__":
    sys.exit(main())
