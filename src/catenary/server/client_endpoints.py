"""Builds the client endpoints of every transport, with their admission and the state that all connections share.

Knows: options, the node, transports. Does not know: ports, other HTTP requests.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable

import msgspec

from catenary.auth.origins import Origins
from catenary.edge.admission import Admission, AdmissionRules
from catenary.edge.deadlines import Deadlines, NoDeadlines
from catenary.edge.handshake_queue import HandshakeQueue
from catenary.edge.refusals import Refusals
from catenary.edge.request import Proxied
from catenary.messages.heartbeat import Heartbeat
from catenary.messages.publications import Publishable
from catenary.node.encoder import Encoders
from catenary.node.hub import Hub
from catenary.node.node import Node
from catenary.node.turns import CLIENTS_BUDGET_US, Turns
from catenary.ports import History, Peers, StreamRecords
from catenary.protocols.table import ACTION_CABLE, ProtocolSet
from catenary.server import replaced_values
from catenary.server.build import ServerBuild
from catenary.server.connect_limits import build_connect_limits, build_publish_limit
from catenary.server.trusted_proxies import build_proxies
from catenary.transports.asgi_edge import AsgiEdge, AsgiEndpoint
from catenary.transports.asgi_event_stream import AsgiEventStreamEndpoint
from catenary.transports.asgi_websocket import AsgiWebSocketEndpoint
from catenary.transports.event_stream import StreamLimits, StreamServices
from catenary.transports.event_stream_endpoint import EventStreamEndpoint
from catenary.transports.event_stream_requests import EventStreamRequests
from catenary.transports.request_body import BodyReading
from catenary.transports.websocket import WebSocketLimits, WebSocketServices
from catenary.transports.websocket_endpoint import WebSocketEndpoint
from catenary.wire.request_memory import RequestMemory


class ClientEndpoints:
    """Builds the endpoints of one node, each at most once, and provides the parts from which the modules of other protocols build
    theirs.

    ``token_header`` carries tokens, "" where there are none. ``keeps_sessions`` says that clients may resume. ``hub`` and
    ``history`` are those of the node, ``peers`` the other nodes if there are any, ``records`` those of durable streams; ``send``
    is that of the pub/sub.
    """

    def __init__(
        self,
        build: ServerBuild,
        node: Node,
        token_header: str,
        *,
        hub: Hub,
        history: History,
        peers: Peers | None,
        records: StreamRecords | None,
        send: Callable[[tuple[Publishable, ...]], Awaitable[None] | None],
        keeps_sessions: bool,
    ) -> None:
        options, counters = build.options, build.counters
        call_soon = asyncio.get_running_loop().call_soon
        self.build = build
        self._options = options
        self.counters = counters
        self._tracer = build.tracer
        self.node = node
        self.hub = hub
        self.history = history
        self.peers = peers
        self.records = records
        self.send = send
        self._token_header = token_header
        self._keeps_sessions = keeps_sessions
        self.encoders = Encoders(build.observers)
        self.turns = Turns(CLIENTS_BUDGET_US, call_soon)
        limits = options.limits
        self.deadlines = Deadlines(limits.handshake_timeout_s, time.monotonic)
        self.memory = RequestMemory(limits.max_pending_requests_size_bytes, counters)
        self.refusals = Refusals(counters, build.observers)
        queue = HandshakeQueue(limits.max_waiting_handshakes, counters, call_soon)
        self.handshake_queue = queue
        self.proxies = build_proxies(build)
        self.connect_limits = build_connect_limits(build, hub)
        self.publish_limit = build_publish_limit(build)
        build.figures.queue("handshakes", queue.__len__, limits.max_waiting_handshakes)

    def websockets(self) -> WebSocketEndpoint:
        """Cables over WebSockets."""
        return self.websocket_endpoint(ACTION_CABLE, self.rules())

    def websocket_endpoint(
        self, protocols: ProtocolSet, rules: AdmissionRules, *, is_limited: bool = True
    ) -> WebSocketEndpoint:
        """WebSockets of other protocols. ``is_limited`` as for :meth:`admission`."""
        return WebSocketEndpoint(
            self.websocket_services(),
            self.admission(rules, is_limited=is_limited),
            protocols,
            self.encoders,
            compresses=self._options.websocket.enable_compression,
        )

    def event_streams(self) -> EventStreamEndpoint:
        """Event streams (SSE)."""
        return EventStreamEndpoint(self._stream_services())

    def asgi_edge(self) -> AsgiEdge:
        """For the clients of another ASGI server that hosts this cable."""
        endpoints: dict[str, AsgiEndpoint] = {
            "websocket": AsgiWebSocketEndpoint(
                self.websocket_services(),
                self.admission(self.rules()),
                ACTION_CABLE,
                self.encoders,
            )
        }
        if self._options.sse.enabled:
            endpoints["http"] = AsgiEventStreamEndpoint(self._stream_services())
        return AsgiEdge(
            endpoints=endpoints,
            queue=self.handshake_queue,
            handshake_timeout_s=self._options.limits.handshake_timeout_s,
            refusals=self.refusals,
            counters=self.counters,
        )

    def admission(self, rules: AdmissionRules, *, is_limited: bool = True) -> Admission:
        """An admission with these rules, which counts connections with those of all other endpoints. With ``is_limited=False``
        another part checks :attr:`connect_limits`."""
        limits = self.connect_limits if is_limited else None
        return Admission(rules, self.counters, self._tracer, limits)

    def rules(self) -> AdmissionRules:
        """The rules of cables over WebSockets; an endpoint with other rules replaces fields of them."""
        options = self._options
        return AdmissionRules(
            origins=replaced_values.origins(self.build, lambda new: new.server.allowed_origins),
            proxied=Proxied(
                options.rpc.proxy_headers, options.rpc.proxy_cookies, self._token_header
            ),
            heartbeat=Heartbeat(
                options.ping.interval_s,
                options.ping.timestamp_precision,
                is_native=options.ping.native,
            ),
            pong_timeout_s=options.ping.pong_timeout_s,
            keeps_sessions=self._keeps_sessions,
            max_connections=options.server.max_conn,
        )

    def _stream_rules(self, pages: Origins) -> AdmissionRules:
        """The client of an event stream sends nothing, so no pong can be expected."""
        rules = self.rules()
        heartbeat = msgspec.structs.replace(rules.heartbeat, is_native=False)
        return msgspec.structs.replace(
            rules, origins=pages, heartbeat=heartbeat, pong_timeout_s=0, transport="sse"
        )

    def _stream_services(self) -> StreamServices:
        pages = replaced_values.origins(
            self.build, lambda new: new.sse.allowed_origins or new.server.allowed_origins
        )
        limits = self.websocket_limits()
        return StreamServices(
            self.node,
            self.encoders,
            EventStreamRequests(self.admission(self._stream_rules(pages)), pages),
            StreamLimits(high_water=limits.high_water, close_timeout_s=limits.close_timeout_s),
            self.counters,
            self.refusals,
            self.turns,
            self.bodies(limits.max_message_bytes),
        )

    def bodies(self, max_bytes: int) -> BodyReading:
        """How the bodies of requests of one endpoint are read."""
        return BodyReading(max_bytes, self.deadlines, self.memory, self.counters)

    def websocket_services(self) -> WebSocketServices:
        """The services that all WebSockets share, whichever protocol they speak."""
        timeout_s = self._options.limits.message_timeout_s
        return WebSocketServices(
            self.node,
            self.websocket_limits(),
            self.counters,
            Deadlines(timeout_s, time.monotonic) if timeout_s else NoDeadlines(),
            self.turns,
        )

    def websocket_limits(self) -> WebSocketLimits:
        """The limits of each WebSocket."""
        options = self._options
        return WebSocketLimits(
            max_message_bytes=options.websocket.max_message_size_bytes,
            max_pending_bytes=options.websocket.max_pending_size_bytes,
            close_timeout_s=options.websocket.write_timeout_s,
            max_message_rate=options.limits.max_message_rate,
        )
