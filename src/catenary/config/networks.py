"""Reads entries of ``trusted_proxies``: networks, single addresses, and ``unix`` for peers of Unix sockets.

Source: RFC 4632 and RFC 4291, section 2.3, for prefixes.
Knows: text. Does not know: connections.
"""

import ipaddress
from typing import Final

from catenary.messages.ip_addresses import Network, plain_network

UNIX: Final = "unix"
"""The peers of a Unix socket, which have no address."""


def network(text: str) -> Network | None:
    """The network of an entry; None for ``unix``. Raises ValueError for anything else."""
    entry = text.strip().lower()
    if entry == UNIX:
        return None
    try:
        found = ipaddress.ip_network(entry, strict=False)
    except ValueError:
        raise ValueError(
            "expected a network such as 10.0.0.0/8 or fd00::/8, an address, or unix,"
            f" got {text[:80]!r}"
        ) from None
    # 10.1.2.3/8 is more likely a typing error than the whole of 10.0.0.0/8.
    if "/" in entry and ipaddress.ip_address(entry.partition("/")[0]) != found.network_address:
        raise ValueError(f"expected {found} or a single address, got {text[:80]!r}")
    return plain_network(found)
