"""One listener for each port: the clients' port, and those of publications, API and metrics where they have their own.

Knows: options, uvicorn, sockets. Does not know: what endpoints and routes do.
"""

import asyncio
import functools
import ssl
from collections.abc import Callable
from typing import cast

import uvicorn
from starlette.applications import Starlette
from starlette.types import ASGIApp

from catenary.api.health import with_server_options
from catenary.api.intake import IntakeFallback
from catenary.api.proxied_requests import ProxiedRequests
from catenary.api.refusals import ApiRefusals, RefusalReporter
from catenary.config.options import ServerOptions
from catenary.edge.connection import ClientConnection, Stage, UvicornContext
from catenary.edge.routes import Fallback, RouteTable
from catenary.edge.sniffer import HeadLimits, LateUpgradeSniffer, Port, RequestSniffer
from catenary.edge.uvicorn_http import HostedWebSockets, HttpFallback
from catenary.errors import ConfigError
from catenary.node.node import Node
from catenary.node.occupancy import Occupancy
from catenary.node.reads import Reads
from catenary.process.binding import BACKLOG, enable_tcp_keepalive
from catenary.process.listener import Listener
from catenary.server import http_routes
from catenary.server.applications import Applications
from catenary.server.build import ServerBuild
from catenary.server.client_endpoints import ClientEndpoints
from catenary.server.console import add_console
from catenary.server.durable_streams import add_durable_streams
from catenary.server.graphql import add_graphql
from catenary.server.http_routes import announce
from catenary.server.long_polling import add_long_polling
from catenary.server.metrics_endpoint import add_metrics
from catenary.server.ocpp import add_stations
from catenary.server.ports import Ports, PortSpec
from catenary.server.pusher import add_pusher
from catenary.server.pusher_api import add_pusher_api
from catenary.server.reloads import Settings
from catenary.server.rest import RestServices, add_api
from catenary.server.shutdown_phases import CLOSE_LISTENERS
from catenary.server.trusted_proxies import check_ports, expect_headers


def build_listeners(
    build: ServerBuild,
    node: Node,
    reads: Reads,
    applications: Applications,
    clients: ClientEndpoints,
    *,
    rest: RestServices,
    occupancy: Occupancy | None,
) -> list[Listener]:
    """Binds the ports. Raises :class:`ConfigError`."""
    options = build.options
    port = options.server.port
    ports = Ports()
    main = ports.at(http_routes.main_address(options))
    announce(build, port, "cable", "ws", *options.websocket.paths)
    cable = clients.websockets()
    main.endpoints += [(path, cable) for path in options.websocket.paths]
    if options.sse.enabled:
        announce(build, port, "event streams", "http", options.sse.path)
        main.endpoints.append((options.sse.path, clients.event_streams()))
    add_stations(build, main, clients)
    add_durable_streams(build, main, clients)
    add_long_polling(build, main, clients)
    add_pusher(build, main, clients)
    add_graphql(build, main, clients)
    if applications.hosted is not None:
        announce(build, port, options.server.asgi, "http", "/")
        main.hosted = applications.hosted
    http_routes.add_health(build, main)
    http_routes.add_broadcasts(build, ports, node.publications, clients)
    add_api(build, ports, rest)
    add_pusher_api(build, ports, node.publications, clients, reads=reads, occupancy=occupancy)
    add_metrics(build, ports)
    add_console(build, ports, rest)
    check_ports(options.server, [spec.address.port for spec in ports.specs])
    listeners = [_listener(build, clients, spec) for spec in ports.specs]
    build.sockets.close_unused()
    for listener in listeners:
        build.shutdown.add(CLOSE_LISTENERS, listener.close)
    return listeners


def _listener(build: ServerBuild, clients: ClientEndpoints, spec: PortSpec) -> Listener:
    options = build.options
    port = _port(build, clients, spec)
    refusals = ApiRefusals(build.counters, build.observers)
    own = RefusalReporter(Starlette(routes=spec.routes), refusals)
    app: ASGIApp = own if spec.hosted is None else spec.hosted.after(spec.routes, own)
    if clients.proxies is not None:
        app = ProxiedRequests(app, clients.proxies)
    config = uvicorn.Config(
        with_server_options(app),
        http=_protocol(functools.partial(RequestSniffer, port)),
        ws=_protocol(functools.partial(LateUpgradeSniffer, port)),
        lifespan="off",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        date_header=spec.hosted is not None,
        backlog=BACKLOG,
        ssl_certfile=options.server.ssl_cert or None,
        ssl_keyfile=options.server.ssl_key or None,
        # A request that does not end must leave time for the later phases of the shutdown.
        timeout_graceful_shutdown=max(1, options.node.shutdown_timeout_s * 2 // 3),
    )
    try:
        config.load()
    except OSError as error:
        raise ConfigError(_no_certificate(error)) from error
    if config.ssl is not None:
        _follow_certificate(build, config.ssl)
    expect_headers(build, spec.address.port, port, config)
    sockets = build.sockets.open(spec.address)
    enable_tcp_keepalive(sockets, options.limits.tcp_timeout_s)
    return Listener(config, sockets)


def _follow_certificate(build: ServerBuild, context: ssl.SSLContext) -> None:
    """Serves new connections with the certificate that the files contain at a reload, whether or not their names have changed."""

    def prepare(new: Settings) -> Callable[[], None]:
        server = new.options.server
        check_certificate(server)
        return functools.partial(context.load_cert_chain, server.ssl_cert, server.ssl_key)

    build.reloads.add(("server.ssl_cert", "server.ssl_key"), prepare, are_files=True)


def check_certificate(server: ServerOptions) -> None:
    """Raises :class:`ConfigError` for files that are no certificate and its key."""
    try:
        # Into a context of its own: a failure must not leave half of a pair in use.
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(server.ssl_cert, server.ssl_key)
    except OSError as error:
        raise ConfigError(_no_certificate(error)) from error


def _no_certificate(error: OSError) -> str:
    return f"ssl_cert, ssl_key: expected a certificate and its key in PEM: {error}"


def _port(build: ServerBuild, clients: ClientEndpoints, spec: PortSpec) -> Port:
    """How connections at one port are served, whatever their first request asks for."""
    limits = build.options.limits
    fallback: Fallback = HttpFallback(
        limits.max_header_size_bytes,
        clients.deadlines,
        clients.memory,
        build.counters,
        report=ApiRefusals(build.counters, build.observers).note,
        proxies=clients.proxies,
    )
    if spec.intake is not None:
        fallback = IntakeFallback(spec.intake, fallback)
    return Port(
        routes=RouteTable(spec.endpoints),
        fallback=fallback,
        late_fallback=HostedWebSockets(None if spec.hosted is None else spec.hosted.websockets),
        queue=clients.handshake_queue,
        deadlines=clients.deadlines,
        memory=clients.memory,
        head=HeadLimits(limits.max_header_size_bytes, limits.max_headers),
        counters=build.counters,
        refusals=clients.refusals,
        proxies=clients.proxies,
    )


def _protocol(first: Callable[[ClientConnection, UvicornContext], Stage]) -> type[asyncio.Protocol]:
    """Builds connections for uvicorn, which asks for a class and calls it."""
    return cast("type[asyncio.Protocol]", functools.partial(ClientConnection, first))
