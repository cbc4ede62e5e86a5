"""The options of a cable inside another server: keywords and the environment, without any I/O.

Options of the host (ports, TLS, paths, its log) are an error among the keywords, and ignored in the
environment, which may be shared with other servers. Publications from outside need a named adapter.
Precedence: defaults < presets < environment < keywords.
"""

from collections.abc import Mapping
from typing import Final

from msgspec.structs import replace

from catenary.config.load import Given, combine, given_by_name, parse_environment
from catenary.config.options import BroadcastOptions, Options
from catenary.errors import ConfigError

_ROOMS: Final = {"http_broadcast", "metrics", "statsd", "log", "ds", "ocpp", "admin"}
_PLACES: Final = {
    "server.host",
    "server.port",
    "server.workers",
    "server.asgi",
    "server.health_path",
    "server.ready_path",
    "server.ssl_cert",
    "server.ssl_key",
    "server.handover_socket",
    "server.trusted_proxies",
    "server.client_address_header",
    "server.proxy_protocol",
    "websocket.paths",
    "websocket.enable_compression",
    "sse.path",
    "ping.native",
    "node.shutdown_delay_s",
    "node.shutdown_slowdrain",
}


def load_hosted(keywords: Mapping[str, object], environ: Mapping[str, str]) -> Options:
    """Reads options by the names of their flags. Raises :class:`catenary.errors.ConfigError`."""
    own = given_by_name(keywords)
    for one in own.values():
        if _is_the_host_s(one.row.place):
            raise ConfigError(
                f"{one.source}: expected no option of the server that hosts the cable"
            )
        if one.row.place == "broadcast.adapters" and "http" in _listed(one):
            raise ConfigError(
                f"{one.source}: expected redis, redisx or nats, got http: the port is the host's"
            )
    around = parse_environment(environ)
    given = {place: one for place, one in around.items() if not _is_the_host_s(place)} | own
    options = combine(given, environ).options
    adapters = options.broadcast.adapters if "broadcast.adapters" in given else ()
    broadcast: BroadcastOptions = replace(options.broadcast, adapters=adapters)
    return replace(options, broadcast=broadcast)


def _is_the_host_s(place: str) -> bool:
    return place in _PLACES or place.partition(".")[0] in _ROOMS


def _listed(one: Given) -> tuple[str, ...]:
    return one.value if isinstance(one.value, tuple) else ()
