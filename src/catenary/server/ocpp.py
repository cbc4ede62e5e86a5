"""Charging stations (OCPP): builds their endpoint and adds it to the clients' port.

Knows: options, clocks. Does not know: messages of stations.
"""

import logging
import time
import uuid
from typing import Final

import msgspec

from catenary.edge.admission import AdmissionRules
from catenary.edge.deadlines import Deadlines
from catenary.edge.introductions import Introductions
from catenary.logs.rate_limited import RateLimitedLogger
from catenary.messages.heartbeat import Heartbeat
from catenary.protocols.ocpp import Rules
from catenary.protocols.ocpp_commands import WAITING_LIMIT
from catenary.server import replaced_values
from catenary.server.build import ServerBuild
from catenary.server.client_endpoints import ClientEndpoints
from catenary.server.http_routes import announce
from catenary.server.ports import PortSpec
from catenary.transports.ocpp_endpoint import SEGMENT, OcppEndpoint

_limited: Final = RateLimitedLogger(logging.getLogger("catenary.edge"))
_AUTHORIZATION: Final = "authorization"
_SILENT_INTERVALS: Final = 2
"""Heartbeat intervals within which a connected station must send its first message."""


def add_stations(build: ServerBuild, main: PortSpec, clients: ClientEndpoints) -> None:
    """Stations connect at ``PREFIX/{station_id}``, if there is a prefix."""
    options = build.options
    if not options.ocpp.path:
        return
    prefix = options.ocpp.path.rstrip("/")
    announce(build, options.server.port, "charging stations", "ws", f"{prefix}/{{station_id}}")
    endpoint = OcppEndpoint(
        msgspec.structs.replace(clients.websocket_services(), node=_introductions(build, clients)),
        clients.admission(_admission_rules(build, clients.rules())),
        _rules(build),
        clients.encoders,
        clients.refusals,
        compresses=options.websocket.enable_compression,
    )
    main.endpoints.append((f"{prefix}/{SEGMENT}", endpoint))


def _introductions(build: ServerBuild, clients: ClientEndpoints) -> Introductions:
    """Waits for two heartbeats: a station that was only cut off may send nothing else."""
    silent_s = build.options.ocpp.heartbeat_interval_s * _SILENT_INTERVALS
    timeout_s = max(silent_s, build.options.limits.handshake_timeout_s)
    return Introductions(clients.node, Deadlines(timeout_s, time.monotonic), clients.counters)


def _admission_rules(build: ServerBuild, cables: AdmissionRules) -> AdmissionRules:
    """Stations send no Origin. They get WebSocket pings at the interval of heartbeats only, because many have a
    mobile connection. The application always receives their ``Authorization``, whatever the option ``headers`` contains."""
    origins = replaced_values.origins(
        build, lambda new: new.server.allowed_origins, allows_missing=True
    )
    proxied = cables.proxied
    if _AUTHORIZATION not in map(str.lower, proxied.headers):
        headers = (*proxied.headers, _AUTHORIZATION)
        proxied = msgspec.structs.replace(proxied, headers=headers)
    heartbeat = Heartbeat(build.options.ocpp.heartbeat_interval_s, is_native=True)
    return msgspec.structs.replace(cables, origins=origins, proxied=proxied, heartbeat=heartbeat)


def _rules(build: ServerBuild) -> Rules:
    options, counters = build.options.ocpp, build.counters

    def refused(station_id: str) -> None:
        counters.ocpp_refused_commands_total += 1
        text = "A command for the station %.100s was dropped: %d wait for its answers"
        _limited.warning(text, station_id, WAITING_LIMIT)

    return Rules(
        channel=options.channel,
        is_granular=options.granular_actions,
        heartbeat_interval_s=options.heartbeat_interval_s,
        now=time.time,
        clock=time.monotonic,
        new_id=lambda: str(uuid.uuid4()),
        refused=refused,
    )
