"""What a worker is told by the process that started it: its number, its sockets, its way to others.

Told in an environment variable, beside the same command line and files that its parent has.
Knows: file descriptors. Does not know: how workers are started.
"""

import contextlib
import os
import socket
from collections.abc import Mapping
from typing import Final

import msgspec

VARIABLE: Final = "CATENARY_WORKER"


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """One worker's place.

    ``sockets`` are descriptors of listening sockets by port. ``nats_url`` is the embedded NATS of
    the parent, empty where there is none; it contains a secret. The worker writes a byte to
    ``ready`` when it serves, and ends when ``lifeline`` does, because its parent has died.
    """

    number: int
    sockets: dict[int, list[int]]
    nats_url: str
    ready: int
    lifeline: int

    def listening(self, port: int) -> list[socket.socket]:
        """The sockets of a port."""
        return [socket.socket(fileno=number) for number in self.sockets[port]]

    def tell_ready(self) -> None:
        """Says that clients are served."""
        with contextlib.suppress(BrokenPipeError):
            # Its parent has died: the lifeline says so, too.
            os.write(self.ready, b"!")
        os.close(self.ready)


_write: Final = msgspec.json.Encoder().encode
_read: Final = msgspec.json.Decoder(Place).decode


def told(environ: Mapping[str, str]) -> Place | None:
    """The place of this process; None where it was not started as a worker."""
    text = environ.get(VARIABLE)
    return None if text is None else _read(text)


def told_to(place: Place) -> dict[str, str]:
    """What to add to the environment of a worker."""
    return {VARIABLE: _write(place).decode()}
