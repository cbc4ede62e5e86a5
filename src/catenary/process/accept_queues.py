"""The connections that wait in the kernel until the process that has replaced this one accepts them.

Both processes share the listening sockets, so the queue of a socket shows whether the other one keeps up. Of a listening socket,
TCP_INFO has the length of the queue in the field ``tcpi_unacked``, and its limit, beyond which the kernel drops connection requests,
in ``tcpi_sacked``. Source: tcp(7), ``tcp_get_info`` in net/ipv4/tcp.c of Linux.
Knows: listening sockets. Does not know: why connections are made.
"""

import contextlib
import socket
import struct
from collections.abc import Iterable
from typing import Final

LONG: Final = 64
"""A queue of so many connections is long, or of a quarter of its limit if that is less: clients wait in it for fractions of a
second."""

_LENGTH_AND_LIMIT: Final = struct.Struct("24x2I")


class AcceptQueues:
    """The queues of some listening sockets. Holds the sockets open until :meth:`close`."""

    def __init__(self, sockets: Iterable[socket.socket]) -> None:
        """Skips sockets whose queue the system does not show: Unix sockets, and all on other systems than Linux."""
        self._sockets: list[socket.socket] = []
        for each in sockets:
            with contextlib.suppress(OSError, AttributeError, struct.error):
                _length_and_limit(each)
                self._sockets.append(each.dup())

    @property
    def are_long(self) -> bool:
        """Whether one of them is long."""
        return any(
            length >= min(LONG, max(limit // 4, 1))
            for length, limit in map(_length_and_limit, self._sockets)
        )

    def close(self) -> None:
        """Lets go of the sockets."""
        for each in self._sockets:
            each.close()
        self._sockets.clear()


def _length_and_limit(listening: socket.socket) -> tuple[int, int]:
    """Raises OSError, AttributeError or struct.error where they are unknown."""
    info = listening.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _LENGTH_AND_LIMIT.size)
    found: tuple[int, int] = _LENGTH_AND_LIMIT.unpack(info)
    return found
