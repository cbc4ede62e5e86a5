"""Fixtures for code workers."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.parts.reloadable_server import ReloadableServer, reloadable_server


@pytest.fixture
def reloadable(tmp_path: Path) -> Iterator[ReloadableServer]:
    """A server with an application that can be replaced."""
    with reloadable_server(tmp_path) as reloadable:
        yield reloadable


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty directory, in which the test runs."""
    monkeypatch.chdir(tmp_path)
    return tmp_path
