"""The section of a release, out of what is unreleased."""

import datetime as dt

import pytest

from release.changelog import ReleaseError, cut, notes

DATE = dt.date(2026, 12, 1)
TEXT = """# Changelog

Kept by hand.

## Unreleased

### Fixed

- A fault.

### Added

- A thing,
  in two lines.

### Changed

### Added

- Another thing.

## 0.1.0 - 2026-11-01

### Added

- The first.
"""


def test_what_is_unreleased_becomes_a_section() -> None:
    """In the usual order, with each heading once, none without entries, and an empty section above."""
    changed = cut(TEXT, "0.2.0", DATE)
    assert changed == (
        "# Changelog\n\nKept by hand.\n\n## Unreleased\n\n## 0.2.0 - 2026-12-01\n\n"
        "### Added\n\n- A thing,\n  in two lines.\n- Another thing.\n\n### Fixed\n\n- A fault.\n\n"
        "## 0.1.0 - 2026-11-01\n\n### Added\n\n- The first.\n"
    )
    assert notes(changed, "0.1.0") == "### Added\n\n- The first."
    assert notes(changed, "0.2.0").startswith("### Added\n\n- A thing,")
    with pytest.raises(ReleaseError, match="nothing is unreleased"):
        cut(changed, "0.3.0", DATE)


def test_the_first_release() -> None:
    text = "# Changelog\n\n## Unreleased\n\n### Added\n\n- All.\n"
    changed = "# Changelog\n\n## Unreleased\n\n## 0.1.0 - 2026-12-01\n\n### Added\n\n- All.\n"
    assert cut(text, "0.1.0", DATE) == changed


@pytest.mark.parametrize(
    ("text", "version", "error"),
    [
        (TEXT, "0.1.0", "has a section 0.1.0 already"),
        (TEXT, "v1", "such as 1.2.3"),
        (TEXT.replace("Unreleased", "Later"), "0.2.0", "no section ## Unreleased"),
        (TEXT.replace("### Fixed", "### Fixes"), "0.2.0", "got Fixes"),
    ],
)
def test_refuses(text: str, version: str, error: str) -> None:
    with pytest.raises(ReleaseError, match=error):
        cut(text, version, DATE)


def test_the_notes_of_a_version_that_is_not_prepared() -> None:
    with pytest.raises(ReleaseError, match=r"no section 0\.2\.0"):
        notes(TEXT, "0.2.0")
