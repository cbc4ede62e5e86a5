"""Listening sockets that systemd opened and passes to this process (socket activation).

Source: sd_listen_fds(3). Knows: environment variables, file descriptors. Does not know: which port is whose.
"""

import os
import socket
from collections.abc import MutableMapping
from typing import Final

from catenary.errors import ConfigError
from catenary.process.port_sockets import Inherited

FIRST_DESCRIPTOR: Final = 3
"""SD_LISTEN_FDS_START: the passed descriptors follow standard input, output and error."""

UNNAMED: Final = "unknown"
"""The name of a socket if systemd passes none, as in sd_listen_fds_with_names(3)."""

_VARIABLES: Final = ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "LISTEN_PIDFDID")


def activated_sockets(environ: MutableMapping[str, str]) -> list[Inherited]:
    """The sockets that were passed to this process, none if it was not activated.

    Removes the variables, so that children do not take the sockets for their own, and closes the descriptors in
    children. Raises :class:`ConfigError` for a descriptor that is not a listening stream socket.
    """
    pid, number, names = (environ.pop(name, "") for name in _VARIABLES[:3])
    environ.pop(_VARIABLES[3], None)
    # A program between systemd and this process may have left the variables for itself only.
    if pid != str(os.getpid()) or not number.isdigit():
        return []
    given = names.split(":") if names else []
    return [
        Inherited(_listening(FIRST_DESCRIPTOR + index), given[index] if names else UNNAMED)
        for index in range(int(number))
        if not names or index < len(given)
    ]


def _listening(descriptor: int) -> socket.socket:
    try:
        os.set_inheritable(descriptor, False)
        found = socket.socket(fileno=descriptor)
        if found.type == socket.SOCK_STREAM and found.getsockopt(
            socket.SOL_SOCKET, socket.SO_ACCEPTCONN
        ):
            found.setblocking(False)
            return found
        found.detach()
        reason = "it does not listen (ListenStream= with Accept=no)"
    except OSError as error:
        reason = str(error)
    raise ConfigError(
        f"LISTEN_FDS: expected a listening stream socket at descriptor {descriptor}: {reason}"
    )
