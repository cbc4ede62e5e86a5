"""Listening sockets for the ports that options name, and their TCP settings.

Knows: hosts, ports, options by their names. Does not know: what is served there.
"""

import errno
import socket
from collections.abc import Collection, Sequence
from typing import Final

import msgspec

from catenary.config.urls import is_everywhere, joined
from catenary.errors import ConfigError

BACKLOG: Final = 4096
"""Connections that the kernel queues until they are accepted; it caps this at net.core.somaxconn."""


class ListenAddress(msgspec.Struct, frozen=True):
    """A port on the addresses of a host; ``port_option`` and ``host_option`` name the options for error messages.

    An empty host, and ``::``, mean every IPv4 and IPv6 address of this machine: container platforms use ``::`` for
    that, and so does Linux by default (``bindv6only``, ipv6(7)). ``0.0.0.0`` means the IPv4 addresses.
    """

    host: str
    port: int
    port_option: str = "port"
    host_option: str = "host"

    @property
    def key(self) -> tuple[str, int]:
        """Equal for addresses that can share their sockets."""
        host = self.host.removeprefix("[").removesuffix("]")
        return ("" if is_everywhere(host) and host != "0.0.0.0" else host, self.port)  # noqa: S104

    def __str__(self) -> str:
        host, port = self.key
        return joined(host or "*", port)


def socket_addresses(where: ListenAddress) -> dict[object, int]:
    """The addresses of the host with the port, as ``getsockname`` returns them, with their families.

    Raises :class:`ConfigError` if the host is unknown.
    """
    host, port = where.key
    try:
        found = socket.getaddrinfo(
            host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
    except (OSError, UnicodeError) as error:
        raise ConfigError(
            f"{where.host_option}: expected a name or an address, got {where.host!r}: {error}"
        ) from error
    return {address: family for family, _, _, _, address in found}


def bind(
    where: ListenAddress, *, shared: bool = False, present: Collection[object] = ()
) -> list[socket.socket]:
    """Opens a listening socket for each address of the host, except for the ``present`` ones.

    With ``shared``, other processes of this user can listen on the same port, and the kernel distributes
    connections among them (SO_REUSEPORT). Raises :class:`ConfigError` with the name of the option if the port is
    taken or not permitted, or the host is unknown.
    """
    sockets: list[socket.socket] = []
    failure: OSError | None = None
    for address, family in socket_addresses(where).items():
        if address in present:
            continue
        try:
            sockets.append(_listening(family, address, shared=shared))
        except OSError as error:
            # A machine without IPv6 may still list ::1 in /etc/hosts.
            failure = error
    if failure is not None and (failure.errno == errno.EADDRINUSE or not (sockets or present)):
        for each in sockets:
            each.close()
        raise ConfigError(_refusal(where, failure))
    return sockets


def _refusal(where: ListenAddress, failure: OSError) -> str:
    """Why an address can't be listened on, with the option to change."""
    start = f"{where.port_option}: can't listen on {where}"
    match failure.errno:
        case errno.EADDRINUSE:
            return (
                f"{start}: the port is in use by another program; stop it, or set"
                f" {where.port_option} to another port"
            )
        case errno.EACCES:
            return (
                f"{start}: only a privileged user may use this port; set {where.port_option} to one"
                " from 1024 on, or grant CAP_NET_BIND_SERVICE"
            )
        case errno.EADDRNOTAVAIL:
            return (
                f"{start}: this machine has no such address; set {where.host_option} to one that it"
                " has, or to 0.0.0.0 for all"
            )
    return f"{start}: {failure}"


def _listening(family: int, address: object, *, shared: bool) -> socket.socket:
    listening = socket.socket(family, socket.SOCK_STREAM)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            # IPv4 has a socket of its own, so that logs and applications see plain IPv4 addresses.
            listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listening.bind(address)  # type: ignore[arg-type]
        listening.listen(BACKLOG)
        # All processes that share the socket share this setting: dup() would set what this object has.
        listening.setblocking(False)
    except OSError:
        listening.close()
        raise
    return listening


def enable_tcp_keepalive(sockets: Sequence[socket.socket], timeout_s: int) -> None:
    """Closes connections of these listening sockets whose peer leaves TCP unanswered for ``timeout_s``; 0 leaves the
    system's settings.

    Accepted connections inherit the options, so this costs none of them a call or a byte. TCP_USER_TIMEOUT limits how
    long sent data may stay unacknowledged, which the system would retransmit for a quarter of an hour; keep-alive
    probes idle connections. Source: tcp(7).
    """
    if timeout_s == 0:
        return
    for listening in sockets:
        if listening.family == socket.AF_UNIX:
            continue
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for name, value in (
            ("TCP_KEEPIDLE", max(timeout_s // 4, 1)),
            ("TCP_KEEPINTVL", max(timeout_s // 4, 1)),
            ("TCP_KEEPCNT", 3),
            ("TCP_USER_TIMEOUT", timeout_s * 1000),
        ):
            # macOS lacks some of them.
            if hasattr(socket, name):
                listening.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
