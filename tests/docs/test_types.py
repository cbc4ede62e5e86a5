"""The files of the guides pass the type checkers that their readers use."""

from pathlib import Path

import pytest

from tests.parts import guide

GUIDES = ("asgi", "channels", "publishing")


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory of each guide."""
    directory = tmp_path_factory.mktemp("guides")
    for each in GUIDES:
        (directory / each).mkdir()
        guide.write(each, directory / each)
    return directory


@pytest.mark.parametrize("name", GUIDES)
def test_a_guide_passes_mypy(written: Path, name: str) -> None:
    guide.check_types(written / name)


def test_the_guides_pass_pyright(written: Path) -> None:
    """All in one run, which reads the package once."""
    guide.check_types_by_pyright(written, *GUIDES)
