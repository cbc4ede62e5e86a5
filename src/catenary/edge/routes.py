"""Which endpoint serves a path: ``/cable``, ``/admin/*``, ``/app/{tenant}/cable``.

Source: ``--path`` of docs/configuration.md (anycable), whose patterns are those of go-chi.
"""

import re
from collections.abc import Callable, Sequence
from typing import Generic, Protocol, TypeVar

from catenary.edge.connection import ClientConnection, Host, Stage
from catenary.edge.request import Peer
from catenary.errors import ConfigError
from catenary.wire.http1 import Request

_PART = re.compile(r"\{([^{}:]+)(?::((?:[^{}]|\{[^{}]*\})+))?\}|\*|[^{}*]+|[{}]")

_T = TypeVar("_T")


class Endpoint(Protocol):
    """Serves clients on some paths: one row of the route table."""

    def open(self, request: Request, peer: Peer, connection: ClientConnection) -> Stage:
        """The stage in which a request goes on. It begins when the connection enters it; until then
        nothing is sent. Raises :class:`catenary.errors.RequestRefused`."""
        ...


Fallback = Callable[[ClientConnection, Host, str, bytes], None]
"""Serves a path that no endpoint has, from the first byte of its request: takes the connection to another stage or
hands it over. Raises :class:`catenary.errors.RequestRefused`."""


class RouteTable(Generic[_T]):
    """Endpoints by patterns of paths. Matching is by whole path, case-sensitive, without the query; the first
    row that matches counts, but a path without wildcards goes before patterns."""

    __slots__ = ("_exact", "_patterns")

    def __init__(self, rows: Sequence[tuple[str, _T]]) -> None:
        """Raises :class:`ConfigError` for what is not a pattern."""
        self._exact: dict[str, _T] = {}
        self._patterns: list[tuple[re.Pattern[str], _T]] = []
        for pattern, endpoint in rows:
            if not pattern.startswith("/"):
                raise ConfigError(f"path: expected a path that begins with /, got {pattern!r}")
            if set("{}*") & set(pattern):
                self._patterns.append((_compile(pattern), endpoint))
            else:
                self._exact.setdefault(pattern, endpoint)

    def find(self, path: str) -> _T | None:
        """The endpoint of a path; None where there is none."""
        endpoint = self._exact.get(path)
        if endpoint is None:
            for pattern, each in self._patterns:
                if pattern.fullmatch(path):
                    return each
        return endpoint


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
