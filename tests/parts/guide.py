"""The files that a guide of docs/ consists of: each block of code begins with its name.

Templates of Django have it in a comment.
"""

import json
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
_BLOCK = re.compile(r"^```(\w+)\n(?:# |{# )([\w./]+)(?: #})?\n(.*?)^```$", re.DOTALL | re.MULTILINE)


def write(guide: str, directory: Path) -> Path:
    """Writes the files of a guide into a directory, which it returns."""
    text = (ROOT / "docs" / f"{guide}.md").read_text()
    blocks = _BLOCK.findall(text)
    commands = text.count("\n```sh\n")
    assert len(blocks) == text.count("\n```") / 2 - commands, "expected its file atop each block"
    for _, name, code in blocks:
        assert not (directory / name).exists(), f"expected one block for {name}"
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        (directory / name).write_text(code)
    return directory


def run(directory: Path, *arguments: str, env: dict[str, str] | None = None) -> None:
    """Runs Python there; every warning is an error."""
    done = subprocess.run(
        [sys.executable, "-W", "error", *arguments],
        cwd=directory,
        env=env,
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def check_types(directory: Path) -> None:
    """Checks the files with mypy as this repository is checked, which is strict.

    So it finds the package in the cache of ``make lint``.
    """
    files = sorted(map(str, directory.rglob("*.py")))
    assert files
    run(ROOT, "-m", "mypy", *files)


def check_types_by_pyright(directory: Path, *guides: str) -> None:
    """Checks the files with pyright, as editors do; ``guides`` are directories of one guide each."""
    config = {
        "typeCheckingMode": "strict",
        "pythonVersion": "3.11",
        "executionEnvironments": [{"root": each} for each in guides or (".",)],
    }
    (directory / "pyrightconfig.json").write_text(json.dumps(config))
    run(directory, "-m", "basedpyright", "--project", ".", "--pythonpath", sys.executable)
