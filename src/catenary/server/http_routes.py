"""HTTP requests that are not clients: health, publications, figures. Each function adds to a port.

Knows: options, publications, ``api/``. Does not know: sockets, clients.
"""

from typing import Final

from starlette.convertors import Convertor, register_url_convertor
from starlette.routing import Route

from catenary.api.broadcast import BroadcastEndpoint, BroadcastRules
from catenary.api.health import Readiness, health
from catenary.api.intake import IntakeRules
from catenary.api.refusals import ApiRefusals
from catenary.auth.keys import BROADCAST_PHRASE, BearerKey
from catenary.auth.origins import Origins
from catenary.config.effective import serves_api
from catenary.config.options import Options
from catenary.config.pusher_apps import pusher_apps
from catenary.config.urls import bracketed
from catenary.node.publications import Publications
from catenary.process.binding import ListenAddress
from catenary.server import replaced_values
from catenary.server.build import ServerBuild
from catenary.server.client_endpoints import ClientEndpoints
from catenary.server.ports import Ports, PortSpec

_EXAMPLE: Final = '{"stream":"hello","data":"{\\"text\\":\\"Hello\\"}"}'

ANY_TEXT: Final = "catenary_any_text"
"""The type of a route parameter that accepts every character, for names of streams and users. Starlette's own ``path``
accepts no line break."""


class _AnyText(Convertor[str]):
    regex = "(?s:.*)"

    def convert(self, value: str) -> str:
        return value

    def to_string(self, value: str) -> str:
        return value


register_url_convertor(ANY_TEXT, _AnyText())


def add_health(build: ServerBuild, main: PortSpec) -> None:
    """Health and readiness, at the clients' port."""
    server = build.options.server
    announce(build, server.port, "health", "http", server.health_path)
    announce(build, server.port, "readiness", "http", server.ready_path)
    main.routes += [
        Route(server.health_path, health),
        Route(server.ready_path, Readiness(build.health)),
    ]


def add_broadcasts(
    build: ServerBuild, ports: Ports, publications: Publications, clients: ClientEndpoints
) -> None:
    """Publications over HTTP."""
    options, http = build.options, build.options.http_broadcast
    if "http" not in options.broadcast.adapters:
        return
    key = BearerKey("")
    has_key = replaced_values.add_key(build, lambda found: found.broadcast, BROADCAST_PHRASE, key)
    announce(build, http.port, "broadcasts", "http", http.path)
    build.announcements.append(f"Publishers over HTTP need {'a' if has_key else 'no'} key")
    if options.access.public:
        url = _url(build, http.port, "http", http.path)
        build.announcements.append(f"Try: curl {url} -d '{_EXAMPLE}'")
    broadcasts = BroadcastRules(
        publications.publish_in_turns,
        build.counters,
        key=key,
        pages=publishing_pages(build),
        is_traced=build.tracer is not None,
        limit=clients.publish_limit,
    )
    spec = ports.at(broadcasts_address(options))
    spec.routes.append(Route(http.path, BroadcastEndpoint(broadcasts, clients.memory)))
    spec.intake = IntakeRules(
        path=http.path,
        broadcasts=broadcasts,
        watch=clients.deadlines,
        memory=clients.memory,
        refusals=ApiRefusals(build.counters, build.observers),
        proxies=clients.proxies,
    )


def publishing_pages(build: ServerBuild) -> Origins | None:
    """Pages that may publish; None for none."""
    if not build.options.http_broadcast.cors_headers:
        return None
    return replaced_values.origins(build, lambda options: options.http_broadcast.cors_hosts)


def main_address(options: Options) -> ListenAddress:
    """The address for clients."""
    return ListenAddress(options.server.host, options.server.port)


def broadcasts_address(options: Options) -> ListenAddress:
    """The address for publications over HTTP."""
    return ListenAddress(options.server.host, options.http_broadcast.port, "http_broadcast_port")


def api_address(options: Options) -> ListenAddress:
    """The address of the REST API."""
    return ListenAddress(options.api.host, options.api.port, "api_port", "api.host")


def pusher_api_address(options: Options) -> ListenAddress:
    """The address of Pusher's HTTP API: that of the clients, or a port of its own."""
    server = options.server
    return ListenAddress(server.host, options.pusher.api_port or server.port, "pusher_api_port")


def console_address(options: Options) -> ListenAddress:
    """The address of the console: that of the clients, or a port of its own."""
    return ListenAddress(options.server.host, options.admin.port, "admin_port")


def metrics_address(options: Options) -> ListenAddress:
    """The address of the metrics."""
    host = options.metrics.host or options.server.host
    return ListenAddress(host, options.metrics.port, "metrics_port", "metrics_host")


def shared_addresses(options: Options) -> tuple[ListenAddress, ...]:
    """The addresses that all workers listen on together, each port once."""
    wanted = [main_address(options)]
    if "http" in options.broadcast.adapters:
        wanted.append(broadcasts_address(options))
    if serves_api(options):
        wanted.append(api_address(options))
    if pusher_apps(options):
        wanted.append(pusher_api_address(options))
    if options.admin.enabled:
        wanted.append(console_address(options))
    if options.metrics.http_path:
        wanted.append(metrics_address(options))
    found: dict[int, ListenAddress] = {}
    for each in wanted:
        found.setdefault(each.port, each)
    return tuple(found.values())


def announce(
    build: ServerBuild, port: int, what: str, scheme: str, *paths: str, host: str = ""
) -> None:
    """Adds a line for each URL."""
    for path in paths:
        url = _url(build, port, scheme, path, host)
        build.announcements.append(f"Serving {what} at {url}")


def _url(build: ServerBuild, port: int, scheme: str, path: str, host: str = "") -> str:
    server = build.options.server
    secure = "s" if server.ssl_cert else ""
    name = bracketed((host or server.host or "localhost").strip("[]"))
    return f"{scheme}{secure}://{name}:{port}{path}"
