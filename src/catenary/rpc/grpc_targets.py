"""Reads rpc_host: gRPC targets, and their addresses.

Sources: naming.md (grpc/grpc, doc/) for the forms; docs/rpc.md (anycable/anycable) for grpc-list.
Knows: names and addresses. Does not know: connections.
"""

import asyncio
import socket
from typing import Final

import msgspec

from catenary.config.urls import host_and_port, is_ip, joined
from catenary.errors import ConfigError
from catenary.rpc.grpc_dns import lookup

_LIST_SCHEME: Final = "grpc-list://"
_DEFAULT_PORT: Final = 443
_DNS_PORT: Final = 53


class Address(msgspec.Struct, frozen=True):
    """An IP address and a port, or the path of a Unix socket."""

    ip: str = ""
    port: int = 0
    path: str = ""

    def __str__(self) -> str:
        return self.path or joined(self.ip, self.port)


class GrpcTarget(msgspec.Struct, frozen=True):
    """A name with its port, to be resolved, or a list of addresses.

    ``authority`` is sent with requests; ``host`` is the name that a certificate must have. ``server`` is the name server
    to ask; None for the system's resolver.
    """

    authority: str
    host: str
    port: int = 0
    addresses: tuple[Address, ...] = ()
    server: Address | None = None


def targets(rpc_host: str) -> tuple[GrpcTarget, ...]:
    """Reads rpc_host: one target, or each of a grpc-list. Raises :class:`ConfigError`."""
    if not rpc_host.startswith(_LIST_SCHEME):
        return (_target(rpc_host.strip()),)
    names = rpc_host.removeprefix(_LIST_SCHEME).split(",")
    found = tuple(_target(name.strip()) for name in names if name.strip())
    if not found:
        raise ConfigError(f"rpc_host: expected {_LIST_SCHEME}host:port,…, got {rpc_host!r}")
    return found


async def resolve(target: GrpcTarget) -> tuple[Address, ...]:
    """Returns the addresses of a target, each once. Raises OSError."""
    if target.addresses:
        return target.addresses
    if target.server is not None:
        ips = await lookup(target.host, target.server.ip, target.server.port)
        return tuple(Address(ip, target.port) for ip in ips)
    found = await asyncio.get_running_loop().getaddrinfo(
        target.host, target.port, type=socket.SOCK_STREAM
    )
    return tuple(dict.fromkeys(Address(str(each[4][0]), target.port) for each in found))


def _target(text: str) -> GrpcTarget:
    scheme, _, rest = text.partition(":")
    match scheme:
        case "unix":
            path = rest.removeprefix("//")
            if not path or (rest.startswith("//") and not path.startswith("/")):
                raise _unusable(text)
            return GrpcTarget("localhost", "localhost", addresses=(Address(path=path),))
        case "ipv4" | "ipv6":
            return _fixed(text, rest.split(","))
        case "dns":
            return _named(text, *_without_server(text, rest))
        case "passthrough":
            return _named(text, rest.rpartition("/")[2], None)
        case _:
            return _named(text, text, None)


def _without_server(text: str, rest: str) -> tuple[str, Address | None]:
    """Splits "host:port", "///host:port" or "//server/host:port" into the name and its server."""
    if not rest.startswith("//"):
        return rest, None
    server, _, name = rest[2:].partition("/")
    if not server:
        return name, None
    host, port = _split(text, server, _DNS_PORT)
    if not is_ip(host):
        raise ConfigError(f"rpc_host: expected dns://IP:port/host:port, got {text!r}")
    return name, Address(host, port)


def _named(text: str, name: str, server: Address | None) -> GrpcTarget:
    host, port = _split(text, name, _DEFAULT_PORT)
    addresses = (Address(host, port),) if is_ip(host) else ()
    return GrpcTarget(joined(host, port), host, port, addresses, server)


def _fixed(text: str, names: list[str]) -> GrpcTarget:
    pairs = [_split(text, name, _DEFAULT_PORT) for name in names]
    if not all(is_ip(host) for host, _ in pairs):
        raise _unusable(text)
    host, port = pairs[0]
    return GrpcTarget(joined(host, port), host, port, tuple(Address(*pair) for pair in pairs))


def _split(text: str, name: str, default_port: int) -> tuple[str, int]:
    """Splits a host and a port. Raises :class:`ConfigError`."""
    try:
        host, port = host_and_port(name)
    except ValueError as error:
        raise _unusable(text) from error
    return host, port or default_port


def _unusable(text: str) -> ConfigError:
    # A URL may contain a password, which must not be repeated.
    shown = "another form" if "@" in text else repr(text)
    return ConfigError(
        f"rpc_host: expected host:port, dns:///host:port, unix:path or grpc-list://…, got {shown}"
    )
