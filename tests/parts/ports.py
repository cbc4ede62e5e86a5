"""Free ports, and waiting until one is listened on."""

import itertools
import os
import socket
import time
from typing import Protocol

_FIRST = 12_000
_EACH = 2_500
_worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
_start = _FIRST + _worker % 8 * _EACH
_offset = os.getpid() * 17 % _EACH
_ports = itertools.cycle([_start + (_offset + each * 7) % _EACH for each in range(_EACH)])


class HasUrl(Protocol):
    """A server, by the URL of its port."""

    @property
    def url(self) -> str: ...


def free_port(following: int = 0) -> int:
    """A free TCP port of the loopback interface; those after it are free, too.

    Out of the range of this process of the tests, below those that the kernel gives to connections:
    no other process takes it before it is used.
    """
    while True:
        port = next(_ports)
        if all(_is_free(port + each) for each in range(following + 1)):
            return port


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def wait_until_listening(port: int, timeout_s: float = 30) -> None:
    """Returns once a connection to the port is accepted. Raises TimeoutError."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        try:
            socket.create_connection(("127.0.0.1", port), 0.2).close()
        except OSError:
            time.sleep(0.02)
        else:
            return
    raise TimeoutError(f"no listener on port {port} after {timeout_s} s")
