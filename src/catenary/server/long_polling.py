"""Assembles long polling: its sessions, and its endpoint at the clients' port.

Knows: options, transports. Does not know: what requests and messages mean.
"""

import secrets
import time
from typing import Final

import msgspec

from catenary.edge.deadlines import Deadlines
from catenary.messages.heartbeat import Heartbeat
from catenary.server import replaced_values
from catenary.server.build import ServerBuild
from catenary.server.client_endpoints import ClientEndpoints
from catenary.server.http_routes import announce
from catenary.server.ports import PortSpec
from catenary.server.shutdown_phases import CLOSE_LISTENERS
from catenary.transports.asgi_edge import AsgiEdge, AsgiPaths
from catenary.transports.asgi_long_polling import AsgiLongPollingEndpoint
from catenary.transports.long_polling import PollLimits
from catenary.transports.long_polling_endpoint import LongPollingEndpoint, PollServices
from catenary.transports.long_polling_relay import PollRelay
from catenary.transports.long_polling_requests import PollRequests
from catenary.transports.long_polling_sessions import PollSessions

CONNECTION_IDLE_S: Final = 10
"""A connection without a request is kept for this much longer than a session, so that no poll is sent on a connection that is
just being closed."""


def add_long_polling(build: ServerBuild, main: PortSpec, clients: ClientEndpoints) -> None:
    """Serves long polling at the clients' port, if the options ask for it."""
    options = build.options
    if not options.poll.enabled:
        return
    announce(build, options.server.port, "long polling", "http", options.poll.path)
    main.endpoints.append((options.poll.path, LongPollingEndpoint(poll_services(build, clients))))


def with_long_polling(build: ServerBuild, edge: AsgiEdge, clients: ClientEndpoints) -> AsgiEdge:
    """Serves long polling for a cable inside another ASGI server, if the options ask for it."""
    poll = build.options.poll
    if not poll.enabled:
        return edge
    polling = AsgiLongPollingEndpoint(poll_services(build, clients))
    paths = AsgiPaths([(poll.path, polling)], edge.endpoints.get("http"))
    return msgspec.structs.replace(edge, endpoints={**edge.endpoints, "http": paths})


def poll_services(build: ServerBuild, clients: ClientEndpoints) -> PollServices:
    """The sessions of this node, and how their requests are read. Called once."""
    options, poll = build.options, build.options.poll
    pages = replaced_values.origins(build, lambda new: new.server.allowed_origins)
    rules = msgspec.structs.replace(
        clients.rules(), heartbeat=Heartbeat(0), pong_timeout_s=0, transport="long_polling"
    )
    limits = PollLimits(
        interval_s=poll.interval_s,
        flush_interval_s=poll.flush_interval_ms / 1000,
        keepalive_timeout_s=poll.keepalive_timeout_s,
        max_request_bytes=poll.max_request_size_bytes,
        max_pending_bytes=options.websocket.max_pending_size_bytes,
    )
    peers = clients.peers
    sessions = PollSessions(
        secrets.token_hex(8) if peers is None else peers.node,
        clients.node,
        encoders=clients.encoders,
        turns=clients.turns,
        counters=clients.counters,
        limits=limits,
        clock=time.monotonic,
    )
    build.shutdown.add(CLOSE_LISTENERS, sessions.close)
    relay = None
    if peers is not None:
        relay = PollRelay(peers, sessions, clients.counters, poll.interval_s, time.monotonic)
    return PollServices(
        sessions,
        relay,
        PollRequests(clients.admission(rules), pages, rules.proxied.token_header),
        clients.bodies(poll.max_request_size_bytes),
        clients.refusals,
        Deadlines(poll.keepalive_timeout_s + CONNECTION_IDLE_S, time.monotonic),
    )
