"""Which addresses belong to one host.

Knows: IP addresses. Does not know: who connects.
"""

import ipaddress


def host_of(address: str) -> str:
    """The address, or the /64 network of an IPv6 address: a host has all 2^64 addresses of it (RFC 4291, section 2.5.4). A server
    that listens on :: sees an IPv4 host under an address of IPv6, all in one network (section 2.5.5.2): it is taken out."""
    address = address.removeprefix("::ffff:")
    if ":" not in address:
        return address
    try:
        return str(ipaddress.ip_network((address.partition("%")[0], 64), strict=False))
    except ValueError:
        return address
