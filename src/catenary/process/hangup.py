"""SIGHUP: operators send it to reload code, the system sends it when a terminal is closed.

A process without a handler is killed by it. A server reloads what it can, or logs that there is nothing to reload; it
shuts down only if its terminal was closed.
Knows: signals, the terminal at standard input. Does not know: what is reloaded.
"""

import asyncio
import functools
import logging
import os
import signal
from collections.abc import Callable
from typing import Final

_log: Final = logging.getLogger("catenary.server")


def survive() -> None:
    """Ignores SIGHUP while a process starts, until :func:`listen` handles it. Exits if its terminal was closed."""
    had_terminal = os.isatty(0)

    def hang_up(number: int, frame: object) -> None:
        if had_terminal and not os.isatty(0):
            raise SystemExit(128 + number)

    signal.signal(signal.SIGHUP, hang_up)


def listen(reload: Callable[[], None]) -> None:
    """Calls ``reload`` for each SIGHUP, in the running loop; replaces the earlier handler.

    If the terminal was closed, it sends SIGTERM to this process instead.
    """
    had_terminal = os.isatty(0)

    def hang_up() -> None:
        if had_terminal and not os.isatty(0):
            _log.warning("SIGHUP: the terminal was closed, shutting down")
            signal.raise_signal(signal.SIGTERM)
        else:
            reload()

    asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, hang_up)


def nothing_to_reload(hint: str) -> Callable[[], None]:
    """Returns a ``reload`` that logs that nothing is reloaded, and a ``hint`` what to do instead."""
    return functools.partial(_log.warning, "SIGHUP: nothing to reload: %s", hint)
