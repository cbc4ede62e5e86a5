"""The source of the previous version comes from the history; a clone without it says so."""

import subprocess
from pathlib import Path

import pytest
from _pytest.outcomes import Skipped

from tests.parts import previous_version


def test_a_shallow_clone_names_the_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def git(*words: str) -> None:
        identity = ("-c", "user.name=test", "-c", "user.email=test@example.com")
        subprocess.run(["git", *identity, *words], cwd=tmp_path, check=True, capture_output=True)

    git("init", "whole")
    for message in ("first", "second"):
        git("-C", "whole", "commit", "--allow-empty", "--message", message)
    git("clone", "--depth=1", f"file://{tmp_path}/whole", "shallow")
    monkeypatch.setattr(previous_version, "ROOT", tmp_path / "shallow")
    commit = previous_version.FIRST
    with pytest.raises(
        Skipped, match=f"{commit}.* is missing: .*shallow.*git fetch --unshallow --tags"
    ):
        previous_version.server_of(commit, tmp_path)
