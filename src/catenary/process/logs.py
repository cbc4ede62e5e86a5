"""Configures logging to standard error: text for people, JSON for programs.

Source: ``log_level`` and ``log_format`` of docs/configuration.md (anycable).
"""

import logging
import os
import sys
from typing import Final, Literal

from catenary.logs.formats import JsonFormatter, Process, TextFormatter
from catenary.logs.rate_limited import RateLimit

_LIBRARIES: Final = ("uvicorn.error", "asyncio", "websockets.server")
"""Loggers of libraries that clients can make write lines."""

_LEVELS: Final = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warn": logging.WARNING,
    "error": logging.ERROR,
}

_process: Final = Process()


def set_up(level: str, form: Literal["text", "json"], *, node: str = "", worker: int = 0) -> None:
    """Logs everything from ``level`` (debug, info, warn, error) upwards to standard error.

    ``node`` is the name of this node, if it has one; ``worker`` the number of a worker process, else 0. Both are in each line.
    """
    _process.node, _process.is_named, _process.worker = node, bool(node), worker
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        JsonFormatter(_process)
        if form == "json"
        else TextFormatter(_process, colours=_has_colours())
    )
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    for name in _LIBRARIES:
        log = logging.getLogger(name)
        log.addFilter(RateLimit(log))
    set_level(level)


def set_level(level: str) -> None:
    """Logs everything from ``level`` (debug, info, warn, error) upwards from now on."""
    logging.getLogger("catenary").setLevel(_LEVELS[level])


def name_node(name: str) -> None:
    """Names a node that was given no name: by the one that the other nodes know."""
    if not _process.is_named:
        _process.node = name


def _has_colours() -> bool:
    """Source: https://no-color.org: any value but an empty one."""
    environ = os.environ
    return sys.stderr.isatty() and not environ.get("NO_COLOR") and environ.get("TERM") != "dumb"
