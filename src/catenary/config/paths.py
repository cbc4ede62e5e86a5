"""Checks of the paths in options: each is served by one feature.

Knows: which features are on, and at which port. Does not know: patterns; see ``edge/routes.py``.
"""

import re
from collections.abc import Iterator
from typing import Final

from catenary.config.effective import effective, serves_api
from catenary.config.options import Options
from catenary.errors import ConfigError

_UNREACHABLE: Final = re.compile(r"//|[?#\s\x00-\x1f\x7f]|/\.\.?(?:/|\Z)")
"""Parts of a path that no client can request: they end the path, or the client removes them. A redirect to ``//host``
leads to that host."""


def check_paths(options: Options) -> None:
    """Raises :class:`catenary.errors.ConfigError` for a path that does not begin with a slash, and for a path that another
    feature has at the same port: one of them could not be reached."""
    for name, path in _given(options):
        if not path.startswith("/"):
            raise ConfigError(f"{name}: expected a path that begins with /, got {path!r}")
        if _UNREACHABLE.search(path) is not None:
            raise ConfigError(
                f"{name}: expected a path that clients can request (no //, . and .., spaces, ?, #), got {path!r}"
            )
        _check_is_no_station(options, name, path)
    _check_is_no_station(options, "api_path", f"{options.api.path}/publish")
    found = effective(options)
    taken: dict[tuple[int, str], str] = {}
    for name, path in _of_clients(found):
        _check_is_free(name, path, taken.setdefault((found.server.port, path), name))
    for port, name, path in _of_requests(found):
        _check_is_free(name, path, taken.setdefault((port, path), name))
    if found.admin.enabled:
        _check_console(found)


def _check_is_free(name: str, path: str, owner: str) -> None:
    if owner != name:
        raise ConfigError(
            f"{name}: expected a path of its own, got {path!r}, which the option {owner} has, too"
        )


def _check_console(options: Options) -> None:
    """Refuses a console whose path has another feature at it or below it. Takes effective options."""
    port, console = options.admin.port, options.admin.path
    served = [(options.server.port, name, path) for name, path in _of_clients(options)]
    for other_port, name, path in (*served, *_of_requests(options)):
        is_below = other_port == port and f"{path}/".startswith(f"{console}/")
        if is_below and name != "admin_path":
            raise ConfigError(
                f"admin_path: expected a path of its own, got {console!r}, below which {name} is: {path!r}"
            )


def _given(options: Options) -> Iterator[tuple[str, str]]:
    """The paths of all features, with the names of their options; those without a default only if they are given."""
    yield "health-path", options.server.health_path
    yield "ready-path", options.server.ready_path
    yield "http_broadcast_path", options.http_broadcast.path
    yield "api_path", options.api.path
    yield "admin_path", options.admin.path
    yield from (("path", path) for path in options.websocket.paths)
    yield "sse_path", options.sse.path
    yield "ds_path", options.ds.path
    yield "poll_path", options.poll.path
    for name, path in (
        ("ocpp_path", options.ocpp.path),
        ("graphql_path", options.graphql.path),
        ("metrics_http", options.metrics.http_path),
    ):
        if path:
            yield name, path


def _of_clients(options: Options) -> Iterator[tuple[str, str]]:
    """The paths of clients that are served. Takes effective options."""
    yield from (("path", path) for path in options.websocket.paths)
    if options.sse.enabled:
        yield "sse_path", options.sse.path
    if options.ds.enabled:
        yield "ds_path", options.ds.path.rstrip("/")
    if options.poll.enabled:
        yield "poll_path", options.poll.path
    if options.graphql.path:
        yield "graphql_path", options.graphql.path


def _of_requests(options: Options) -> Iterator[tuple[int, str, str]]:
    """The port, the name of the option and the path of other requests. Takes effective options."""
    port, http, metrics = options.server.port, options.http_broadcast, options.metrics
    yield port, "health-path", options.server.health_path
    if options.server.ready_path != options.server.health_path:  # else /health answers for both
        yield port, "ready-path", options.server.ready_path
    if "http" in options.broadcast.adapters:
        yield http.port, "http_broadcast_path", http.path
    if metrics.http_path:
        yield metrics.port, "metrics_http", metrics.http_path
    if serves_api(options):
        yield options.api.port, "api_path", f"{options.api.path}/publish"
    if options.admin.enabled:
        yield options.admin.port, "admin_path", options.admin.path


def _check_is_no_station(options: Options, name: str, path: str) -> None:
    """Refuses an ``ocpp_path`` with the path of another feature below it: that path would also be the path of a station."""
    prefix = options.ocpp.path
    if prefix and path.rpartition("/")[0] == prefix.rstrip("/") and name != "ocpp_path":
        raise ConfigError(
            f"ocpp_path: expected a prefix of its own, such as /ocpp, got {prefix!r}, below which"
            f" {name} is: {path!r}"
        )
