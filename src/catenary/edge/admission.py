"""Admission of clients: decides who may connect, and describes them to the node. It is the same for every transport.

Knows: origins, limits, requests, protocols. Does not know: bytes, how a response is sent.
"""

from collections.abc import Callable
from typing import Final

import msgspec

from catenary.auth.origins import Origins
from catenary.edge.connect_limits import ConnectLimits
from catenary.edge.refusals import unavailable
from catenary.edge.request import Peer, Proxied, environment_of, heartbeat_of, resumed_sid
from catenary.errors import RequestRefused
from catenary.messages.environment import Environment, Ingress
from catenary.messages.heartbeat import Heartbeat
from catenary.messages.names import Sid
from catenary.metrics.counters import Counters
from catenary.node.session import Traits
from catenary.protocols.table import ClientProtocol
from catenary.tracer import Tracer
from catenary.wire.http1 import RequestHead

SHARED_INGRESSES: Final = 256
"""Later origins are described for each client of their own: only clients that are no browsers have so many."""

ORIGIN_CHARS: Final = 255
"""Longer origins are cut: a domain name has up to 253 characters (RFC 1035, section 2.3.4)."""


class AdmissionRules(msgspec.Struct, frozen=True, kw_only=True):
    """The rules of an endpoint: which clients may connect, and what is read from their requests.

    ``heartbeat`` is the default for clients that do not ask for another one. With ``pong_timeout_s`` 0, no pong is
    expected. ``keeps_sessions`` says that sessions can be resumed. ``max_connections`` limits the connections of all
    endpoints together; 0 means no limit. ``realm`` names the application that decides about the clients of this endpoint
    (:class:`catenary.routing.router.Router`); empty: the server's. ``transport`` is the name of the endpoint's transport. ``new_sid`` makes the ids of sessions for a protocol that
    prescribes their form.
    """

    origins: Origins
    proxied: Proxied
    heartbeat: Heartbeat
    pong_timeout_s: float = 0
    keeps_sessions: bool = False
    max_connections: int = 0
    realm: str = ""
    transport: str = "websocket"
    new_sid: Callable[[], Sid] | None = None


class Admitted(msgspec.Struct, frozen=True):
    """A client that may connect: its environment and traits for :meth:`catenary.node.node.Node.admit`."""

    environment: Environment
    traits: Traits


class Admission:
    """Admits the clients of one endpoint. The node asks the application afterwards."""

    __slots__ = ("_counters", "_ingresses", "_limits", "_rules", "_tracer")

    def __init__(
        self,
        rules: AdmissionRules,
        counters: Counters,
        tracer: Tracer | None = None,
        limits: ConnectLimits | None = None,
    ) -> None:
        """``limits`` are those of all endpoints together."""
        self._rules = rules
        self._limits = limits
        self._counters = counters
        self._tracer = tracer
        self._ingresses: dict[tuple[str, str], Ingress] = {}

    def admit(self, request: RequestHead, peer: Peer, protocol: ClientProtocol) -> Admitted:
        """Raises :class:`RequestRefused`: 403 for a page of another origin, 503 beyond ``max_connections``, 429 or 503 beyond
        the limits of all endpoints."""
        rules = self._rules
        origin = request.headers.get("origin", "")
        if not rules.origins.allow(origin):
            raise RequestRefused(403, "expected an allowed origin")
        self.check_capacity()
        if self._limits is not None:
            self._limits.check(peer.address)
        environment = environment_of(request, peer, rules.proxied, rules.new_sid)
        environment.ingress = self._ingress(protocol.name, origin)
        return Admitted(environment, self._traits(request, peer, protocol, environment))

    def _ingress(self, protocol: str, origin: str) -> Ingress:
        """The description that clients of the same protocol and origin share."""
        key = (protocol, origin)
        ingress = self._ingresses.get(key)
        if ingress is None:
            rules = self._rules
            ingress = Ingress(rules.realm, rules.transport, protocol, origin[:ORIGIN_CHARS])
            if len(self._ingresses) < SHARED_INGRESSES:
                self._ingresses[key] = ingress
        return ingress

    def check_capacity(self) -> None:
        """Raises :class:`RequestRefused` with 503 beyond ``max_connections``. A connection is counted once the node has
        admitted it, so a transport that waits between both calls this again."""
        if 0 < self._rules.max_connections <= self._counters.open_connections_num:
            raise unavailable("too many connections")

    def _traits(
        self, request: RequestHead, peer: Peer, protocol: ClientProtocol, environment: Environment
    ) -> Traits:
        """Pongs are expected if the protocol has them, or if the transport has pings of its own."""
        rules = self._rules
        heartbeat = heartbeat_of(request, rules.heartbeat)
        if rules.pong_timeout_s > 0 and (protocol.answers_pings or heartbeat.is_native):
            heartbeat = msgspec.structs.replace(heartbeat, pong_timeout_s=rules.pong_timeout_s)
        decode = None if protocol.reader is None else protocol.reader(environment)
        span = None
        if self._tracer is not None:
            span = self._tracer.handshake(environment, request.headers, peer.asked_at)
        if not (protocol.is_resumable and rules.keeps_sessions):
            return Traits(heartbeat, decode=decode, asked_at=peer.asked_at, span=span)
        return Traits(
            heartbeat,
            is_resumable=True,
            resumes=resumed_sid(request),
            decode=decode,
            asked_at=peer.asked_at,
            span=span,
        )
