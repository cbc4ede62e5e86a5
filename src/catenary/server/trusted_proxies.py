"""Builds what finds the clients behind reverse proxies and load balancers.

Knows: options. Does not know: ports, endpoints.
"""

from catenary.edge.proxies import TrustedProxies
from catenary.server.build import ServerBuild


def build_proxies(build: ServerBuild) -> TrustedProxies | None:
    """None if no proxy is trusted."""
    server = build.options.server
    if not server.trusted_proxies:
        return None
    return TrustedProxies(server.trusted_proxies, server.client_address_header, build.counters)
