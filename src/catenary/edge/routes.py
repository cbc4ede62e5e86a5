"""Which paths are cables: ``/cable``, ``/admin/*``, ``/app/{tenant}/cable``.

Source: ``--path`` of docs/configuration.md (anycable), whose patterns are those of go-chi.
"""

import re
from collections.abc import Sequence

from catenary.errors import ConfigError

_PART = re.compile(r"\{([^{}:]+)(?::((?:[^{}]|\{[^{}]*\})+))?\}|\*|[^{}*]+|[{}]")


class CablePaths:
    """Patterns of paths; matching is by whole path, case-sensitive, without the query."""

    __slots__ = ("_exact", "_patterns")

    def __init__(self, patterns: Sequence[str]) -> None:
        """Raises :class:`ConfigError` for what is no pattern."""
        for pattern in patterns:
            if not pattern.startswith("/"):
                raise ConfigError(f"path: expected a path that begins with /, got {pattern!r}")
        self._exact = frozenset(p for p in patterns if not set("{}*") & set(p))
        self._patterns = tuple(_compile(p) for p in patterns if set("{}*") & set(p))

    def match(self, path: str) -> bool:
        """Is this path a cable?"""
        return path in self._exact or any(p.fullmatch(path) for p in self._patterns)


def _compile(pattern: str) -> re.Pattern[str]:
    """One pattern as a regular expression. Raises :class:`ConfigError`."""
    parts: list[str] = []
    for match in _PART.finditer(pattern):
        text, name, rule = match.group(), match.group(1), match.group(2)
        if text in "{}":
            raise ConfigError(f"path: expected braces in pairs, got {pattern!r}")
        if text == "*":
            if match.end() != len(pattern):
                raise ConfigError(f"path: expected * at the end only, got {pattern!r}")
            parts.append(".*")
        elif name is not None:
            parts.append(f"(?:{rule})" if rule else "[^/]*")
        else:
            parts.append(re.escape(text))
    try:
        return re.compile("".join(parts))
    except re.error as error:
        raise ConfigError(f"path: expected a regular expression in {pattern!r}: {error}") from error
