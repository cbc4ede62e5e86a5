"""A port of this process whose path /cable is a WebSocket endpoint: no options, no assembly."""

import asyncio
import functools
import time
from collections.abc import Callable, Sequence

from uvicorn.config import Config

from catenary.auth.origins import Origins
from catenary.edge.admission import Admission, AdmissionRules
from catenary.edge.connection import ClientConnection, PortState
from catenary.edge.deadlines import Deadlines, NoDeadlines
from catenary.edge.handshake_queue import HandshakeQueue
from catenary.edge.refusals import Refusals
from catenary.edge.request import Proxied
from catenary.edge.routes import Endpoint, RouteTable
from catenary.edge.sniffer import HeadLimits, Port, RequestSniffer
from catenary.edge.uvicorn_http import HostedWebSockets
from catenary.node.encoder import Encoders
from catenary.node.turns import CLIENTS_BUDGET_US, Turns
from catenary.protocols.table import ACTION_CABLE, ProtocolSet
from catenary.transports.websocket import WebSocketLimits, WebSocketServices
from catenary.transports.websocket_endpoint import WebSocketEndpoint
from catenary.wire.request_memory import RequestMemory
from tests.parts.heart import NEVER, Heart

Rows = Callable[[WebSocketServices, Admission], Sequence[tuple[str, Endpoint]]]
"""Makes endpoints and their paths."""


def client_connection(
    heart: Heart,
    state: PortState,
    protocols: ProtocolSet = ACTION_CABLE,
    more: Rows = lambda services, admission: (),
) -> ClientConnection:
    """A connection before its first byte: to be given to a server of asyncio, or a transport. ``more`` are further
    endpoints of the port."""
    counters = heart.counters
    turns = Turns(CLIENTS_BUDGET_US, asyncio.get_running_loop().call_soon)
    rules = AdmissionRules(origins=Origins(()), proxied=Proxied((), ()), heartbeat=NEVER)
    services = WebSocketServices(heart.node, WebSocketLimits(), counters, NoDeadlines(), turns)
    admission = Admission(rules, counters)
    endpoint = WebSocketEndpoint(services, admission, protocols, Encoders())
    port = Port(
        routes=RouteTable([("/cable", endpoint), *more(services, admission)]),
        fallback=HostedWebSockets(None),
        late_fallback=HostedWebSockets(None),
        queue=HandshakeQueue(1, counters, asyncio.get_running_loop().call_soon),
        deadlines=Deadlines(5, time.monotonic),
        memory=RequestMemory(0, counters),
        head=HeadLimits(),
        counters=counters,
        refusals=Refusals(counters),
    )
    sniffer = functools.partial(RequestSniffer, port)
    return ClientConnection(sniffer, config=Config("none"), server_state=state, app_state={})
