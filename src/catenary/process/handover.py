"""Passes the listening sockets of a running server to a later version of it, so that no connection is refused in between.

Both know the path of a Unix socket. The later server connects there when it starts and receives the descriptors
(SCM_RIGHTS, unix(7)); when it serves, it notifies the running one, which then stops. If the later one fails before that, the
running one continues.

Packets (SOCK_SEQPACKET), all from the running server but the last:

1. JSON arrays of the names of at most :data:`SOCKETS_PER_PACKET` sockets, with their descriptors, until an empty one;
2. :data:`SERVING` from the later server.

Knows: sockets, paths. Does not know: what the sockets are for, how a server stops.
"""

import asyncio
import contextlib
import logging
import os
import socket
import struct
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, Self

import msgspec

from catenary.errors import ConfigError
from catenary.process.port_sockets import Inherited

_log: Final = logging.getLogger("catenary.server")

SOCKETS_PER_PACKET: Final = 200
"""Linux passes at most 253 descriptors at once (SCM_MAX_FD)."""

MAX_PACKET_BYTES: Final = 65536
SERVING: Final = b"serving"

ANSWER_S: Final = 5.0
"""How long the running server may take to answer: its event loop is delayed by load, not by clients."""


class Predecessor:
    """A running server that has passed its sockets, and waits for this one to serve."""

    def __init__(self, connection: socket.socket, sockets: Sequence[Inherited]) -> None:
        self._connection = connection
        self.sockets: Final = sockets

    @classmethod
    def find(cls, path: str) -> Self | None:
        """Asks the server at ``path`` for its sockets. None if there is no server. Raises :class:`ConfigError`."""
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        connection.settimeout(ANSWER_S)
        sockets: list[Inherited] = []
        try:
            connection.connect(path)
            while names := _received(connection, sockets):
                if len(names) == 0:
                    break
        except (FileNotFoundError, ConnectionRefusedError):
            # The path does not exist, or the server that created it was killed.
            connection.close()
            return None
        except (OSError, msgspec.DecodeError) as error:
            connection.close()
            for each in sockets:
                each.socket.close()
            reason: object = error
            if isinstance(error, TimeoutError):
                reason = "it does not answer"
            elif isinstance(error, ConnectionResetError):
                reason = "it is shutting down, or another server takes over from it"
            raise ConfigError(
                f"handover_socket: can't take over the sockets of the server at {path}: {reason}"
            ) from error
        return cls(connection, sockets)

    def replace(self) -> None:
        """Notifies the running server that this one serves."""
        with contextlib.suppress(OSError):  # It has ended meanwhile.
            self._connection.send(SERVING)
        self._connection.close()


def _received(connection: socket.socket, sockets: list[Inherited]) -> list[str]:
    """Adds the sockets of one packet; returns their names. Raises OSError, also if the running server has ended."""
    data, descriptors, _, _ = socket.recv_fds(connection, MAX_PACKET_BYTES, SOCKETS_PER_PACKET)
    opened = [socket.socket(fileno=each) for each in descriptors]
    for each in opened:
        each.setblocking(False)
    if not data:
        raise ConnectionResetError
    names = msgspec.json.decode(data, type=list[str])
    sockets += map(Inherited, opened, names)
    return names


class HandoverSocket:
    """Waits at a path for a later server: passes it the sockets that ``sockets`` returns, and calls ``stop`` when it serves."""

    def __init__(
        self, path: str, sockets: Callable[[], Sequence[Inherited]], stop: Callable[[], None]
    ) -> None:
        self._path = Path(path)
        self._temporary = self._path.with_name(f".{self._path.name}.{os.getpid()}")
        self._sockets = sockets
        self._stop = stop
        self._listening: socket.socket | None = None
        self._inode = 0
        self._task: asyncio.Task[None] | None = None

    def prepare(self) -> None:
        """Tries the directory: until this server serves, the path belongs to the one that runs.

        Raises :class:`ConfigError` if it can't be used.
        """
        try:
            self._open().close()
            self._temporary.unlink()
        except OSError as error:
            raise ConfigError(f"handover_socket: can't listen at {self._path}: {error}") from error

    def listen(self) -> None:
        """Takes the path over. Called when this server serves."""
        try:
            listening = self._open()
            self._inode = self._temporary.stat().st_ino
            self._temporary.rename(self._path)
        except OSError as error:
            _log.error("No later server can take over from this one: %s", error)
            return
        self._listening = listening
        self._task = asyncio.create_task(self._serve(listening), name="handover")

    def _open(self) -> socket.socket:
        """A socket under another name. It has that name for a moment only, so that a server that is killed while it starts
        leaves no file. Raises OSError."""
        listening = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            self._temporary.unlink(missing_ok=True)
            listening.bind(str(self._temporary))
            self._temporary.chmod(0o600)
            listening.listen()
        except OSError:
            listening.close()
            raise
        listening.setblocking(False)
        return listening

    async def close(self, timeout_s: float) -> None:
        """Passes the sockets to nobody from now on."""
        if self._listening is None:
            return
        self._listening.close()
        self._listening = None
        if self._task is not None:
            self._task.cancel()
        with contextlib.suppress(OSError):
            if self._path.stat().st_ino == self._inode:
                self._path.unlink()

    async def _serve(self, listening: socket.socket) -> None:
        """One later server at a time."""
        loop = asyncio.get_running_loop()
        while True:
            connection, _ = await loop.sock_accept(listening)
            with connection:
                connection.setblocking(False)
                try:
                    is_replaced = await self._hand_over(connection)
                except OSError as error:
                    _log.warning("Handing over the listening sockets failed: %s", error)
                    continue
            if is_replaced:
                _log.info("A new server has taken over the ports")
                self._stop()
                return

    async def _hand_over(self, connection: socket.socket) -> bool:
        """Whether the later server serves."""
        pid, user, _ = struct.unpack(
            "3i",
            connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i")),
        )
        if user not in (0, os.geteuid()):
            _log.warning("Handing over no socket to user %d (pid %d)", user, pid)
            return False
        sockets = self._sockets()
        _log.info("Handing over %d listening sockets to a new server (pid %d)", len(sockets), pid)
        for start in range(0, len(sockets), SOCKETS_PER_PACKET):
            packet = sockets[start : start + SOCKETS_PER_PACKET]
            names = msgspec.json.encode([each.name for each in packet])
            socket.send_fds(connection, [names], [each.socket.fileno() for each in packet])
        connection.send(b"[]")
        answer = await asyncio.get_running_loop().sock_recv(connection, len(SERVING))
        if answer != SERVING:
            _log.warning("The new server (pid %d) ended before it served: this one continues", pid)
        return answer == SERVING
