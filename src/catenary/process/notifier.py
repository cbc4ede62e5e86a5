"""Notifies systemd when this server is ready, reloads and stops, what it does, and that its event loop runs.

Source: sd_notify(3), systemd.service(5) (Type=notify, WatchdogSec=). Knows: the socket of systemd, time. Does not know: what
is served.
"""

import asyncio
import functools
import logging
import os
import socket
import time
from collections.abc import Callable, MutableMapping
from typing import Final, Self

_log: Final = logging.getLogger("catenary.server")

INTERVAL_S: Final = 5.0
"""Time between two reports of the status, unless the watchdog needs them more often."""

EXTENSION_S: Final = 30.0
"""How long systemd waits for the next report of a server that shuts down, beyond its own TimeoutStopSec=."""


class Notifier:
    """Sends nothing if the process was not started by systemd with Type=notify.

    ``watchdog_s`` is WatchdogSec=, 0 without one: systemd ends a server that does not report for so long. A timer of the
    event loop reports, so a loop that hangs does not. ``describe`` returns the status, one line.
    """

    def __init__(self, path: str = "", watchdog_s: float = 0) -> None:
        """``path`` is that of systemd's socket; @ at the beginning means the abstract namespace, unix(7)."""
        self._path = "\0" + path[1:] if path.startswith("@") else path
        self.watchdog_s: Final = watchdog_s
        self.describe: Callable[[], str] = str
        self._socket: socket.socket | None = None
        self._status = ""
        self._is_stopping = False
        self._timer: asyncio.TimerHandle | None = None

    @classmethod
    def from_environ(cls, environ: MutableMapping[str, str]) -> Self:
        """Reads and removes the variables of systemd: children, such as workers, do not speak for this process."""
        path, period, pid = (
            environ.pop(name, "") for name in ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID")
        )
        is_watched = period.isdigit() and pid in ("", str(os.getpid()))
        return cls(path, int(period) / 1e6 if is_watched else 0)

    def ready(self) -> None:
        """The server serves. The first call starts the regular reports."""
        self._send("READY=1", self._new_status())
        if self._timer is None:
            self._report_later()

    def stopping(self) -> None:
        """The server shuts down."""
        self._is_stopping = True
        self._send("STOPPING=1", self._new_status())
        self._extend()

    def during(self, reload: Callable[[], "asyncio.Future[None] | None"]) -> Callable[[], None]:
        """A function that calls ``reload``, and reports its beginning and its end; that of a future is when it is done."""

        def call() -> None:
            self._send("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")
            future = None
            try:
                future = reload()
            finally:
                if future is None:
                    self.ready()
            if future is not None:
                future.add_done_callback(lambda _: self.ready())

        return call if self._path else functools.partial(_call, reload)

    def close(self) -> None:
        """Reports no more."""
        if self._timer is not None:
            self._timer.cancel()
        if self._socket is not None:
            self._socket.close()
            self._socket = None
        self._path = ""

    def _report_later(self) -> None:
        if not self._path:
            return
        # Twice within the period, as sd_watchdog_enabled(3) recommends.
        interval_s = min(INTERVAL_S, self.watchdog_s / 2 or INTERVAL_S)
        self._timer = asyncio.get_running_loop().call_later(interval_s, self._report)

    def _report(self) -> None:
        self._report_later()
        self._send("WATCHDOG=1" if self.watchdog_s else "", self._new_status())
        if self._is_stopping:
            self._extend()

    def _extend(self) -> None:
        self._send(f"EXTEND_TIMEOUT_USEC={round(EXTENSION_S * 1e6)}")

    def _new_status(self) -> str:
        """The assignment of the status; empty if it has not changed."""
        if not self._path:
            return ""
        status = self.describe()
        if status == self._status:
            return ""
        self._status = status
        return f"STATUS={status}"

    def _send(self, *assignments: str) -> None:
        given = "\n".join(each for each in assignments if each)
        if not (self._path and given):
            return
        try:
            if self._socket is None:
                self._socket = socket.socket(
                    socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
                )
                self._socket.connect(self._path)
            self._socket.send(given.encode())
        except BlockingIOError:
            # systemd is behind with reading; a later report follows.
            _log.debug("The socket of systemd is full: %s", given)
        except OSError as error:
            _log.warning("Can't notify systemd (NOTIFY_SOCKET): %s", error)
            self.close()


def _call(reload: Callable[[], object]) -> None:
    reload()
