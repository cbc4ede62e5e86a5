"""The documentation of the options is that of the code."""

from pathlib import Path

from tests.config.docs import page


def test_page_of_options_is_up_to_date() -> None:
    written = Path(__file__).parents[2] / "docs" / "options.md"

    assert written.read_text() == page(), "run: make docs"
