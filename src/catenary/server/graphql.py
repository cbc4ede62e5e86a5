"""Clients of Apollo GraphQL: builds their endpoint, for the clients' port or for a cable in another ASGI server.

Knows: options, clocks. Does not know: messages.
"""

import time

import msgspec

from catenary.edge.deadlines import Deadlines
from catenary.edge.introductions import Introductions
from catenary.protocols.graphql import GraphqlRules
from catenary.protocols.graphql_protocols import graphql_protocols
from catenary.server.build import ServerBuild
from catenary.server.client_endpoints import ClientEndpoints
from catenary.server.http_routes import announce
from catenary.server.ports import PortSpec
from catenary.transports.asgi_edge import AsgiEdge, AsgiPaths
from catenary.transports.asgi_websocket import AsgiWebSocketEndpoint
from catenary.transports.websocket_endpoint import WebSocketEndpoint


def add_graphql(build: ServerBuild, main: PortSpec, clients: ClientEndpoints) -> None:
    """Adds the endpoint, if it has a path."""
    options = build.options
    if not options.graphql.path:
        return
    announce(build, options.server.port, "GraphQL", "ws", options.graphql.path)
    endpoint = WebSocketEndpoint(
        msgspec.structs.replace(clients.websocket_services(), node=_introductions(build, clients)),
        clients.admission(clients.rules()),
        graphql_protocols(_rules(build, clients)),
        clients.encoders,
        compresses=options.websocket.enable_compression,
    )
    main.endpoints.append((options.graphql.path, endpoint))


def with_graphql(build: ServerBuild, edge: AsgiEdge, clients: ClientEndpoints) -> AsgiEdge:
    """The edge of a cable in another ASGI server, with the endpoint below the path of the cable, if it has a path."""
    path = build.options.graphql.path
    if not path:
        return edge
    endpoint = AsgiWebSocketEndpoint(
        msgspec.structs.replace(clients.websocket_services(), node=_introductions(build, clients)),
        clients.admission(clients.rules()),
        graphql_protocols(_rules(build, clients)),
        clients.encoders,
    )
    websockets = AsgiPaths([(path, endpoint)], edge.endpoints["websocket"])
    endpoints = {**edge.endpoints, "websocket": websockets}
    return msgspec.structs.replace(edge, endpoints=endpoints)


def _introductions(build: ServerBuild, clients: ClientEndpoints) -> Introductions:
    deadlines = Deadlines(build.options.graphql.idle_timeout_s, time.monotonic)
    return Introductions(clients.node, deadlines, clients.counters)


def _rules(build: ServerBuild, clients: ClientEndpoints) -> GraphqlRules:
    options = build.options
    return GraphqlRules(
        channel=options.graphql.channel,
        action=options.graphql.action,
        token_param=options.jwt.param,
        token_header=clients.rules().proxied.token_header,
        pings=options.ping.interval_s > 0,
    )
