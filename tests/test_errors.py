"""Commands that errors suggest work for the installation at hand."""

import json
import shlex
import subprocess
import sys
from importlib import metadata

import pytest

from catenary.errors import MissingExtra, install_command


def test_from_a_clone_the_command_is_one_that_pip_takes() -> None:
    """This suite runs from a clone; that of an index would not find it there."""
    words = shlex.split(install_command("redis"))
    assert words[:4] == [sys.executable, "-m", "pip", "install"]
    here = ["--dry-run", "--no-deps", "--no-index", "--no-build-isolation"]
    done = subprocess.run(
        [*words[:4], *here, *words[4:]], capture_output=True, text=True, timeout=90
    )
    assert done.returncode == 0, done.stderr
    assert "does not provide the extra" not in done.stderr


@pytest.mark.parametrize(
    ("origin", "expected"),
    [
        (None, "'catenary[redis]'"),
        ({"url": "file:///a%20b/c", "dir_info": {}}, "'/a b/c[redis]'"),
        (
            {"url": "file:///c", "dir_info": {"editable": True}},
            "--editable '/c[redis]'",
        ),
        (
            {"url": "https://host/c.git", "vcs_info": {"vcs": "git", "commit_id": "1"}},
            "'catenary[redis] @ git+https://host/c.git'",
        ),
        ({"url": "https://host/c.whl", "archive_info": {}}, "'catenary[redis]'"),
    ],
)
def test_it_says_where_the_installation_came_from(
    origin: object, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Installed:
        def read_text(self, name: str) -> str | None:
            assert name == "direct_url.json"
            return None if origin is None else json.dumps(origin)

    monkeypatch.setattr(metadata, "distribution", lambda name: Installed())
    assert str(MissingExtra("redisx", "redis")).endswith(f" -m pip install {expected}")
