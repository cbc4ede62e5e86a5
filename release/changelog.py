"""The changelog of a release, made from the section Unreleased.

Source: https://keepachangelog.com/en/1.1.0/. Knows: text. Does not know: files, git.
"""

import datetime as dt
import re
from typing import Final

UNRELEASED: Final = "## Unreleased"
_SECTION: Final = re.compile(r"^## (\S+)(?: - \S+)?$", re.MULTILINE)
_VERSION: Final = re.compile(r"[0-9]+\.[0-9]+\.[0-9]+(?:(?:a|b|rc)[0-9]+)?")
_ORDER: Final = ("Added", "Changed", "Deprecated", "Removed", "Fixed", "Security")


class ReleaseError(Exception):
    """A release that must not be made, and why."""


def cut(text: str, version: str, date: dt.date) -> str:
    """The changelog in which what is unreleased is the section of a version, below an empty section Unreleased.

    Raises :class:`ReleaseError` if there is nothing to release, or the version is there already.
    """
    if not _VERSION.fullmatch(version):
        raise ReleaseError(f"expected a version such as 1.2.3 or 1.2.3rc1, got {version!r}")
    if version in _SECTION.findall(text):
        raise ReleaseError(f"the changelog has a section {version} already")
    head, found, rest = text.partition(f"{UNRELEASED}\n")
    if not found:
        raise ReleaseError(f"the changelog has no section {UNRELEASED}")
    end = _SECTION.search(rest)
    body, below = (rest[: end.start()], rest[end.start() :]) if end else (rest, "")
    body = _in_order(body)
    if not body:
        raise ReleaseError("nothing is unreleased")
    section = f"## {version} - {date.isoformat()}\n\n{body}\n"
    return f"{head}{UNRELEASED}\n\n{section}" + (f"\n{below}" if below else "")


def notes(text: str, version: str) -> str:
    """The section of a version in the changelog. Raises :class:`ReleaseError`."""
    found = re.search(
        rf"^## {re.escape(version)} - [^\n]*\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL
    )
    if found is None:
        raise ReleaseError(f"the changelog has no section {version}: see python -m release --help")
    return found[1].strip()


def _in_order(body: str) -> str:
    """The parts of a section, each heading once: merges may have left one twice, or an empty one."""
    parts: dict[str, list[str]] = {}
    for part in re.split(r"^### ", body, flags=re.MULTILINE)[1:]:
        name, _, entries = part.partition("\n")
        if entries.strip():
            parts.setdefault(name.strip(), []).append(entries.strip())
    unknown = parts.keys() - set(_ORDER)
    if unknown:
        raise ReleaseError(f"expected one of {', '.join(_ORDER)}, got {', '.join(sorted(unknown))}")
    return "\n\n".join(
        f"### {name}\n\n" + "\n".join(parts[name]) for name in _ORDER if name in parts
    )
