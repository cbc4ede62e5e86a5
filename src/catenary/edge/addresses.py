"""The addresses of clients, and which of them belong to one host.

Knows: IP addresses. Does not know: who connects.
"""

import ipaddress
import socket
from collections.abc import Mapping
from typing import Any

from catenary.messages.ip_addresses import plain, plain_bytes


def address_of(peer: object) -> str:
    """The address in a peer's name, as a socket (socket(7)) or an ASGI server has it; empty for a Unix socket."""
    return plain(peer[0]) if isinstance(peer, tuple | list) and peer else ""


def client_of(scope: Mapping[str, Any]) -> str:
    """The address of the client of an ASGI scope; empty if it has none."""
    return address_of(scope.get("client"))


def packed(address: str) -> bytes | None:
    """4 or 16 bytes; None if the text is no IP address. An IPv4 address in any IPv6 notation has 4."""
    try:
        if ":" not in address:
            return socket.inet_pton(socket.AF_INET, address)
        return plain_bytes(socket.inet_pton(socket.AF_INET6, address))
    except (OSError, ValueError):
        return None


def host_of(address: str) -> str:
    """The address, or the /64 network of an IPv6 address: a host has all 2^64 addresses of it (RFC 4291, section 2.5.4)."""
    address = plain(address)
    if ":" not in address:
        return address
    try:
        return str(ipaddress.ip_network((address.partition("%")[0], 64), strict=False))
    except ValueError:
        return address
