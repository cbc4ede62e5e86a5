"""The context of a worker process: its number, the sockets it inherits, and its pipes to its parent.

The parent passes it in an environment variable; the command line and the configuration are the parent's own.
Knows: file descriptors. Does not know: how workers are started.
"""

import contextlib
import os
import socket
from collections.abc import Mapping
from typing import Final, Self

import msgspec

from catenary.process.heartbeats import Heartbeat

VARIABLE: Final = "CATENARY_WORKER"


class WorkerContext(msgspec.Struct, frozen=True, kw_only=True):
    """``number`` counts from 1. ``sockets`` are descriptors of listening sockets, by port. ``nats_url`` is the
    parent's embedded NATS server, empty without one; it contains a password. The worker writes one byte to
    ``ready`` when it serves, and shuts down when ``lifeline`` is closed: then its parent has died. ``directory`` is for the
    sockets at which the workers ask each other. With ``watchdog_s``, the parent replaces a worker that writes nothing to
    ``heartbeat`` for so long.
    """

    number: int
    sockets: dict[int, list[int]]
    nats_url: str
    ready: int
    lifeline: int
    directory: str = ""
    heartbeat: int = -1
    watchdog_s: float = 0

    @classmethod
    def from_environ(cls, environ: Mapping[str, str]) -> Self | None:
        """Reads the context of this process. None where it was not started as a worker."""
        text = environ.get(VARIABLE)
        return None if text is None else msgspec.json.decode(text, type=cls)

    def to_environ(self) -> dict[str, str]:
        """The variables to add to the environment of the worker."""
        return {VARIABLE: msgspec.json.encode(self).decode()}

    def listening(self, port: int) -> list[socket.socket]:
        """The inherited sockets that listen on a port."""
        sockets = [socket.socket(fileno=number) for number in self.sockets[port]]
        for each in sockets:
            # Shared with other processes, whose event loops a blocking accept would stop.
            each.setblocking(False)
        return sockets

    def report_ready(self) -> None:
        """Notifies the parent that clients are served, and from now on that the event loop runs."""
        if self.watchdog_s:
            Heartbeat(self.heartbeat, self.watchdog_s)
        with contextlib.suppress(BrokenPipeError):
            # The parent has died: the lifeline reports that.
            os.write(self.ready, b"!")
        os.close(self.ready)
