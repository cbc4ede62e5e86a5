"""The form of IP addresses: IPv6 as in RFC 5952, and IPv4 addresses as such, also where they are written as IPv6 addresses.

A socket that listens on ``::`` sees an IPv4 host as ``::ffff:1.2.3.4`` (RFC 4291, section 2.5.5.2). Logs, limits, the
application and the API name it 1.2.3.4, so that one host has one name.
Knows: text, bytes. Does not know: connections.
"""

import ipaddress
from typing import Final

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_MAPPED: Final = bytes(10) + b"\xff\xff"
_MAPPED_TEXT: Final = "::ffff:"


def plain(address: str) -> str:
    """An address as the kernel writes it, or any other text: without the prefix of an IPv4 address."""
    if address.startswith(_MAPPED_TEXT) and "." in address:
        return address[len(_MAPPED_TEXT) :]
    return address


def plain_bytes(address: bytes) -> bytes:
    """16 bytes, or the 4 of an IPv4 address."""
    return address.removeprefix(_MAPPED)


def text_of(address: bytes) -> str:
    """The text of 4 or 16 bytes."""
    address = plain_bytes(address)
    if len(address) == 4:
        return ".".join(map(str, address))  # ipaddress takes five times as long
    return str(ipaddress.IPv6Address(address))


def plain_network(found: Network) -> Network:
    """A network of IPv4 addresses in IPv6 notation as one of IPv4."""
    if isinstance(found, ipaddress.IPv6Network) and found.prefixlen >= 8 * len(_MAPPED):
        address = plain_bytes(found.network_address.packed)
        if len(address) == 4:
            return ipaddress.IPv4Network((address, found.prefixlen - 8 * len(_MAPPED)))
    return found
