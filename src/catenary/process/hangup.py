"""SIGHUP: operators send it to reload something, the system when a terminal is closed.

A process without a handler ends. A server never does: it reloads what it can, else it logs that there is
nothing to reload. Only a closed terminal means the end, in order.
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
    """For a process that starts: SIGHUP has no effect until :func:`listen` gives it one."""
    had_terminal = os.isatty(0)

    def hang_up(number: int, frame: object) -> None:
        if had_terminal and not os.isatty(0):
            raise SystemExit(128 + number)

    signal.signal(signal.SIGHUP, hang_up)


def listen(reload: Callable[[], None]) -> None:
    """Calls ``reload`` for each SIGHUP to the running loop; replaces what was called before.

    Where the terminal was closed instead, it asks for an orderly end (SIGTERM).
    """
    had_terminal = os.isatty(0)

    def hang_up() -> None:
        if had_terminal and not os.isatty(0):
            _log.warning("SIGHUP: the terminal was closed")
            signal.raise_signal(signal.SIGTERM)
        else:
            reload()

    asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, hang_up)


def nothing_to_reload(hint: str) -> Callable[[], None]:
    """A ``reload`` that logs that nothing is reloaded, and the ``hint`` what to do instead."""
    return functools.partial(_log.warning, "SIGHUP: nothing to reload: %s", hint)
