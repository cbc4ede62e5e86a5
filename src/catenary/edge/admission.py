"""Admission of clients: who may connect, and what the server knows of them. The same for every transport.

Knows: origins, limits, request facts, protocols. Does not know: bytes, how a client is answered.
"""

import msgspec

from catenary.auth.origins import Origins
from catenary.edge.refusals import unavailable
from catenary.edge.request import Peer, Proxied, environment_of, heartbeat_of, resumed_sid
from catenary.errors import RequestRefused
from catenary.messages.environment import Environment
from catenary.messages.heartbeat import Heartbeat
from catenary.metrics.counters import Counters
from catenary.node.session import Traits
from catenary.protocols.table import ClientProtocol
from catenary.wire.http1 import Request


class AdmissionRules(msgspec.Struct, frozen=True, kw_only=True):
    """Which clients may connect to an endpoint, and what is read from their requests.

    ``heartbeat`` is for clients that ask for no other; ``pong_timeout_s`` 0 means that no answer to a
    ping is awaited. ``keeps_sessions`` says that sessions can be resumed. ``max_connections`` is for
    all endpoints together, 0 for no limit.
    """

    origins: Origins
    proxied: Proxied
    heartbeat: Heartbeat
    pong_timeout_s: float = 0
    keeps_sessions: bool = False
    max_connections: int = 0


class Admitted(msgspec.Struct, frozen=True):
    """A client that may connect, as the node is told of it."""

    environment: Environment
    traits: Traits


class Admission:
    """Decides about the clients of one endpoint. The application decides afterwards, asked by the node."""

    __slots__ = ("_counters", "_rules")

    def __init__(self, rules: AdmissionRules, counters: Counters) -> None:
        self._rules = rules
        self._counters = counters

    def admit(self, request: Request, peer: Peer, protocol: ClientProtocol) -> Admitted:
        """Raises :class:`RequestRefused`: 403 for the page of another origin, 503 beyond the limit."""
        rules = self._rules
        if not rules.origins.allow(request.headers.get("origin", "")):
            raise RequestRefused(403, "expected an allowed origin")
        self.check_room()
        environment = environment_of(request, peer, rules.proxied)
        return Admitted(environment, self._traits(request, protocol))

    def check_room(self) -> None:
        """Raises :class:`RequestRefused` with 503 beyond the limit. A connection counts from the moment at which
        the node knows it: a transport that has waited since it was admitted asks again."""
        if 0 < self._rules.max_connections <= self._counters.open_connections_num:
            raise unavailable("too many connections")

    def _traits(self, request: Request, protocol: ClientProtocol) -> Traits:
        """Pongs are expected where the protocol has them, and from all where pings are the transport's own."""
        rules = self._rules
        heartbeat = heartbeat_of(request, rules.heartbeat)
        if rules.pong_timeout_s > 0 and (protocol.answers_pings or heartbeat.is_native):
            heartbeat = msgspec.structs.replace(heartbeat, pong_timeout_s=rules.pong_timeout_s)
        if not (protocol.is_resumable and rules.keeps_sessions):
            return Traits(heartbeat)
        return Traits(heartbeat, is_resumable=True, resumes=resumed_sid(request))
