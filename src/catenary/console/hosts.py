"""Host names under which a console without a key is served.

A page of another site can point a name of its own at this server (DNS rebinding): for a browser, the console under that name is a part of
that site, which could read and change everything. Such a site can't choose an IP address or ``localhost`` as its name.
Source: RFC 9110, section 7.2, for Host; RFC 6761, section 6.3, for localhost.
Knows: names. Does not know: requests, keys.
"""

import ipaddress
from typing import Final

from catenary.auth.origins import Origins

_SCHEMES: Final = ("http", "https")


class OwnHosts:
    """IP addresses, localhost, the configured ``name``, and the hosts of ``origins`` unless these are open."""

    __slots__ = ("_name", "_origins")

    def __init__(self, name: str, origins: Origins) -> None:
        self._name = name.lower()
        self._origins = origins

    def include(self, host: str) -> bool:
        """Whether the console is served under this value of the header Host; it may have a port."""
        host = host.lower()
        name = _without_port(host).removesuffix(".")
        if name == "localhost" or name.endswith(".localhost") or _is_address(name):
            return True
        if not name:
            return False
        if name == self._name:
            return True
        return not self._origins.is_open and any(
            self._origins.allow(f"{scheme}://{host}") for scheme in _SCHEMES
        )


def _without_port(host: str) -> str:
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0]


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
