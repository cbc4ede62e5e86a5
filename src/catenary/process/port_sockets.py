"""The listening sockets of each port: inherited from systemd or from an earlier version of the server, else bound here.

A socket that two processes share has one queue of connections: a connection that one of them has not accepted when it
closes its descriptor waits for the other. Sockets of their own with SO_REUSEPORT have a queue each, and the kernel
resets the connections in the queue of the one that is closed (unless ``net.ipv4.tcp_migrate_req`` is set).
Knows: sockets, addresses. Does not know: who passed them, what is served there.
"""

import logging
import socket
from collections.abc import Sequence
from typing import Final

import msgspec

from catenary.config.urls import joined
from catenary.errors import ConfigError
from catenary.process.binding import ListenAddress, bind, socket_addresses
from catenary.process.worker_context import WorkerContext

_log: Final = logging.getLogger("catenary.server")

MAIN_PORT_OPTION: Final = "port"
"""Unix sockets without a name of their own serve the clients."""


class Inherited(msgspec.Struct, frozen=True):
    """A listening socket that another process opened.

    ``name`` is FileDescriptorName= of systemd: the name of a port's option (``port``, ``http_broadcast_port``, …) assigns
    the socket to that port; any other name leaves that to the number of the port. It is empty for a socket that an
    earlier server bound by its own options: this one uses it only for the same address.
    """

    socket: socket.socket
    name: str = ""

    def __str__(self) -> str:
        where = self.socket.getsockname()
        if self.socket.family == socket.AF_UNIX:
            return f"unix:{where}"
        return joined(where[0], where[1])


class PortSockets:
    """Opens the sockets of each port once. ``worker`` is the context of a worker process, whose parent has opened them."""

    def __init__(
        self, inherited: Sequence[Inherited] = (), worker: WorkerContext | None = None
    ) -> None:
        self._inherited = list(inherited)
        self._worker = worker
        self._opened: list[Inherited] = []

    def open(self, address: ListenAddress) -> list[socket.socket]:
        """The sockets of a port. Raises :class:`ConfigError`."""
        if self._worker is not None and address.port in self._worker.sockets:
            return self._worker.listening(address.port)
        return [each.socket for each in self._open(address, shared=False)]

    def open_shares(self, address: ListenAddress, number: int) -> list[list[socket.socket]]:
        """The sockets of a port for ``number`` workers: one or more for each. Raises :class:`ConfigError`.

        Sockets that are bound here are one for each worker (SO_REUSEPORT). Inherited ones are distributed; if they are
        fewer than the workers, several workers share one, because a queue of connections of their own would be lost
        when they end.
        """
        if not any(self._matches(each, address) for each in self._inherited):
            refuse_taken(address)
            shares = [
                [Inherited(each) for each in bind(address, shared=True)] for _ in range(number)
            ]
            self._opened += [each for share in shares for each in share]
            return [[each.socket for each in share] for share in shares]
        # One list for each address (IPv4 and IPv6), so that each worker gets sockets of all of them.
        by_address: dict[object, list[socket.socket]] = {}
        for each in self._open(address, shared=True):
            by_address.setdefault(each.socket.getsockname(), []).append(each.socket)
        return [
            [
                each
                for found in by_address.values()
                for each in (found[index::number] or [found[index % len(found)]])
            ]
            for index in range(number)
        ]

    def close_unused(self) -> None:
        """Called when all ports are open: closes inherited sockets without a port.

        Raises :class:`ConfigError` for those of systemd: it would queue connections that nobody accepts.
        """
        named = [f"{each} ({each.name})" for each in self._inherited if each.name]
        for each in self._inherited:
            if not each.name:
                _log.info("No longer listening at %s", each)
            each.socket.close()
        self._inherited.clear()
        if named:
            raise ConfigError(
                "LISTEN_FDS: expected sockets for the ports of this server (options port, http_broadcast_port, …),"
                f" by number or FileDescriptorName=, got {', '.join(named)}"
            )

    @property
    def transferable(self) -> list[Inherited]:
        """The sockets that a later version of the server can inherit: those that are still open."""
        return [each for each in self._opened if each.socket.fileno() >= 0]

    def _open(self, address: ListenAddress, *, shared: bool) -> list[Inherited]:
        """Inherited sockets of an address; those of its IP addresses that were not inherited are bound."""
        found = [each for each in self._inherited if self._matches(each, address)]
        self._inherited = [each for each in self._inherited if each not in found]
        if not found:
            found = [Inherited(each) for each in bind(address, shared=shared)]
        elif not any(each.name for each in found):
            present = {each.socket.getsockname() for each in found}
            found += [Inherited(each) for each in bind(address, shared=shared, present=present)]
        self._opened += found
        return found

    def _matches(self, inherited: Inherited, address: ListenAddress) -> bool:
        if inherited.name == address.port_option:
            return True
        where = inherited.socket.getsockname()
        if inherited.socket.family == socket.AF_UNIX:
            return address.port_option == MAIN_PORT_OPTION and not _is_port_option(inherited.name)
        if inherited.name:
            return not _is_port_option(inherited.name) and bool(where[1] == address.port)
        return where in socket_addresses(address)


def _is_port_option(name: str) -> bool:
    return name == MAIN_PORT_OPTION or name.endswith("_port")


def refuse_taken(address: ListenAddress) -> None:
    """Raises :class:`ConfigError` if the port is taken: the kernel would grant a shared socket on a port that another
    server of this user shares among its workers."""
    for each in bind(address):
        each.close()
