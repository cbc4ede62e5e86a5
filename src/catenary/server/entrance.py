"""The entrance: who may come in by a WebSocket, and what the answer to their handshake says.

Knows: paths, origins, limits, subprotocols, compression. Does not know: where bytes come from, what
else is served at the same port.
"""

import asyncio
import logging
from collections.abc import Callable
from typing import Final

import msgspec

from catenary.api.intake import IntakeRules
from catenary.auth.origins import Origins
from catenary.edge.deadlines import Deadlines
from catenary.edge.handshake_queue import HandshakeQueue
from catenary.edge.request import Proxied, environment_of, heartbeat_of, resumed_sid
from catenary.edge.routes import CablePaths
from catenary.errors import RequestRefused
from catenary.messages.heartbeat import Heartbeat
from catenary.metrics.counters import Counters
from catenary.node.complaints import Complaints
from catenary.node.encoder import Encoders
from catenary.node.node import Node
from catenary.node.session import Traits
from catenary.node.turns import Turns
from catenary.ports import Watch
from catenary.protocols.table import ClientProtocol, ProtocolSet
from catenary.transports.websocket import Acceptance, WebSocketLimits
from catenary.wire import deflate, handshake, http1
from catenary.wire.framing import websocket_framing
from catenary.wire.request_memory import RequestMemory

_log: Final = logging.getLogger("catenary.door")

LATER: Final = (("Retry-After", "5"),)
"""Headers for whom there is no place now."""


class HeadLimits(msgspec.Struct, frozen=True):
    """How long the head of a request may be, in bytes and in lines."""

    max_bytes: int = http1.MAX_HEADER_BYTES
    max_lines: int = http1.MAX_HEADERS


class CableRules(msgspec.Struct, frozen=True):
    """Which clients may connect, and how the server speaks to them.

    ``max_connections`` 0 means no limit.
    """

    paths: CablePaths
    origins: Origins
    proxied: Proxied
    heartbeat: Heartbeat
    limits: WebSocketLimits
    protocols: ProtocolSet
    encoders: Encoders
    pong_timeout_s: float = 0
    keeps_sessions: bool = False
    max_connections: int = 0
    compresses: bool = False
    head: HeadLimits = HeadLimits()

    def traits_of(self, request: http1.Request, protocol: ClientProtocol) -> Traits:
        """How a client is pinged, and whether its session may be resumed.

        Pongs are expected where the protocol has them, and from all where pings are the transport's own.
        """
        heartbeat = heartbeat_of(request, self.heartbeat)
        if self.pong_timeout_s > 0 and (protocol.answers_pings or heartbeat.is_native):
            heartbeat = msgspec.structs.replace(heartbeat, pong_timeout_s=self.pong_timeout_s)
        if not (protocol.is_resumable and self.keeps_sessions):
            return Traits(heartbeat)
        return Traits(heartbeat, is_resumable=True, resumes=resumed_sid(request))


class Entrance:
    """What the doors of one port share; no ``intake`` where publications go elsewhere.

    ``deadlines`` and ``memory`` are those of requests, ``late_messages`` those of messages that have begun; large
    reads are served in ``turns``.
    ``guest_websockets`` builds uvicorn's own protocol for WebSockets on other paths than cables.
    """

    __slots__ = (
        "complaints",
        "counters",
        "deadlines",
        "guest_websockets",
        "intake",
        "late_messages",
        "memory",
        "node",
        "queue",
        "rules",
        "turns",
    )

    def __init__(
        self,
        node: Node,
        rules: CableRules,
        counters: Counters,
        *,
        deadlines: Deadlines,
        late_messages: Watch,
        memory: RequestMemory,
        queue: HandshakeQueue,
        turns: Turns,
        intake: IntakeRules | None = None,
        guest_websockets: Callable[..., asyncio.Protocol] | None = None,
    ) -> None:
        self.node = node
        self.rules = rules
        self.counters = counters
        self.deadlines = deadlines
        self.late_messages = late_messages
        self.memory = memory
        self.queue = queue
        self.turns = turns
        self.complaints = Complaints(_log)
        self.intake = intake
        self.guest_websockets = guest_websockets

    def accept(self, request: http1.Request, scheme: str, remote_addr: str) -> Acceptance:
        """Checks a handshake and prepares its answer. Raises :class:`RequestRefused`."""
        rules = self.rules
        accept = handshake.check_upgrade(request)
        self.check(request)
        compression = (
            deflate.agree(handshake.offered_extensions(request)) if rules.compresses else None
        )
        protocol, subprotocol = rules.protocols.choose(handshake.offered_subprotocols(request))
        environment = environment_of(
            request, scheme=scheme, remote_addr=remote_addr, proxied=rules.proxied
        )
        traits = rules.traits_of(request, protocol)
        framing = websocket_framing(
            is_binary=protocol.is_binary,
            window_bits=0 if compression is None else compression.window_bits,
        )
        encoder = rules.encoders.encoder(protocol, framing)
        if compression is None:
            response = handshake.switching(accept, subprotocol)
            return Acceptance(environment, encoder, traits, response)
        return Acceptance(
            environment,
            encoder,
            traits,
            handshake.switching(
                accept, subprotocol, (("Sec-WebSocket-Extensions", compression.answer),)
            ),
            deflate.inflated,
        )

    def check(self, request: http1.Request) -> None:
        """May somebody with this request come in now? Raises :class:`RequestRefused`."""
        rules = self.rules
        if not rules.origins.allow(request.headers.get("origin", "")):
            raise RequestRefused(403, "expected an allowed origin")
        if 0 < rules.max_connections <= self.counters.open_cables_num:
            self.counters.refused_connections_total += 1
            raise RequestRefused(503, "too many connections", LATER)
