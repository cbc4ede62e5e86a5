"""Builds what finds the clients behind reverse proxies and load balancers.

Knows: options. Does not know: endpoints.
"""

import functools
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from catenary.config.options import ALL_PORTS, ServerOptions
from catenary.edge.proxies import TrustedProxies
from catenary.edge.proxy_protocol import ProxiedPort, ProxyHeaderReader
from catenary.edge.sniffer import LateUpgradeSniffer, Port, RequestSniffer
from catenary.errors import ConfigError
from catenary.server.build import ServerBuild
from catenary.server.reloads import Settings

if TYPE_CHECKING:
    import uvicorn


def build_proxies(build: ServerBuild) -> TrustedProxies | None:
    """None if no proxy is trusted."""
    server = build.options.server
    if not server.trusted_proxies:
        return None
    proxies = TrustedProxies(server.trusted_proxies, server.client_address_header, build.counters)

    def prepare(settings: Settings) -> Callable[[], None]:
        networks = settings.options.server.trusted_proxies
        return functools.partial(proxies.replace, networks)

    build.reloads.add(["server.trusted_proxies"], prepare)
    return proxies


def check_ports(options: ServerOptions, served: Iterable[int]) -> None:
    """Raises :class:`ConfigError` for a port of ``proxy_protocol`` at which nothing is served."""
    ports = sorted({str(port) for port in served}, key=int)
    for port in options.proxy_protocol:
        if port != ALL_PORTS and port not in ports:
            raise ConfigError(
                f"proxy_protocol: expected ports of this server ({', '.join(ports)}), got {port}"
            )


def expect_headers(build: ServerBuild, number: int, port: Port, config: "uvicorn.Config") -> None:
    """Lets connections at this port begin with a header if the options say so. Takes a loaded ``config``."""
    options = build.options
    if {ALL_PORTS, str(number)}.isdisjoint(options.server.proxy_protocol) or port.proxies is None:
        return
    proxied = ProxiedPort(
        first=functools.partial(RequestSniffer, port),
        late=functools.partial(LateUpgradeSniffer, port),
        proxies=port.proxies,
        refusals=port.refusals,
        counters=build.counters,
        watch=port.deadlines,
        handshake_timeout_s=options.limits.handshake_timeout_s,
        tls=config.ssl,
    )
    # The header comes before the TLS handshake.
    config.ssl = None
    config.http_protocol_class = functools.partial(ProxyHeaderReader, proxied)  # type: ignore[assignment]
