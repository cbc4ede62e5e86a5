"""The route table: finds the endpoint of a path such as ``/cable``, ``/admin/*``, ``/app/{tenant}/cable``.

Source: ``--path`` of docs/configuration.md (anycable), whose patterns are those of go-chi.
"""

import re
from collections.abc import Callable, Sequence
from typing import Generic, Protocol, TypeVar

from catenary.edge.connection import ClientConnection, Stage, UvicornContext
from catenary.edge.request import Peer
from catenary.errors import ConfigError
from catenary.wire.http1 import RequestHead

_PART = re.compile(r"\{([^{}:]+)(?::((?:[^{}]|\{[^{}]*\})+))?\}|\*|[^{}*]+|[{}]")

_T = TypeVar("_T")


class Endpoint(Protocol):
    """Serves the clients of some paths: a row of the route table."""

    def open(self, request: RequestHead, peer: Peer, connection: ClientConnection) -> Stage:
        """Returns the stage that serves a request. Nothing is sent before the connection enters the stage. Raises
        :class:`catenary.errors.RequestRefused`.

        ``connection.stage`` is the sniffer: a stage whose connection may have further requests enters it again."""
        ...


class ChoosingEndpoint:
    """Satisfies :class:`Endpoint`, for paths whose endpoint depends on each request: ``choose`` returns it."""

    __slots__ = ("_choose",)

    def __init__(self, choose: Callable[[RequestHead, Peer], Endpoint]) -> None:
        self._choose = choose

    def open(self, request: RequestHead, peer: Peer, connection: ClientConnection) -> Stage:
        return self._choose(request, peer).open(request, peer, connection)


Fallback = Callable[[ClientConnection, UvicornContext, str, bytes], None]
"""Serves a path without an endpoint, from the first byte of its request: exchanges the stage of the connection or
hands its transport over. Raises :class:`catenary.errors.RequestRefused`."""


class RouteTable(Generic[_T]):
    """Endpoints by path. Patterns match the whole path, case-sensitively, without the query. A path without wildcards takes
    precedence over patterns; of several patterns, the first that matches."""

    __slots__ = ("_exact", "_patterns")

    def __init__(self, rows: Sequence[tuple[str, _T]]) -> None:
        """Raises :class:`ConfigError` for an invalid pattern."""
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
        """The endpoint of a path; None if there is none."""
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
            parts.append("(?s:.*)")  # a name may have line breaks
        elif name is not None:
            parts.append(f"(?:{rule})" if rule else "[^/]*")
        else:
            parts.append(re.escape(text))
    try:
        return re.compile("".join(parts))
    except re.error as error:
        raise ConfigError(f"path: expected a regular expression in {pattern!r}: {error}") from error
