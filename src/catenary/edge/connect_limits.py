"""Limits how many clients connect: per second at this process and from an address, and how many of an address are connected.

One object for all endpoints, whatever their transport is. Clients behind the same address (an office, a mobile network)
share its limits, so all of them are off by default.
Knows: addresses, the time as an argument. Does not know: requests, sessions.
"""

from collections.abc import Callable, Iterable
from typing import Final

import msgspec

from catenary.edge.addresses import host_of
from catenary.edge.refusals import too_many, unavailable
from catenary.messages.environment import Environment
from catenary.messages.reasons import Reason
from catenary.node.observers import ObserverGroup
from catenary.node.rates import Rates
from catenary.silent_observer import SilentObserver

_ALL: Final = ""


class ConnectRules(msgspec.Struct, frozen=True):
    """0 means no limit.

    ``max_connect_rate`` limits handshakes per second at this process, ``max_address_connect_rate`` those from an address, and
    ``max_address_connections`` the connections that an address has open. An IPv6 /64 network is one address.
    """

    max_connect_rate: int = 0
    max_address_connect_rate: int = 0
    max_address_connections: int = 0


class ConnectLimits:
    """Belongs to one event loop. ``clock`` is monotonic, in seconds; ``addresses`` returns those of all connected clients."""

    __slots__ = ("_addresses", "_clock", "_connections", "_observers", "_rates", "_rules")

    def __init__(
        self,
        rules: ConnectRules,
        observers: ObserverGroup,
        addresses: Callable[[], Iterable[str]],
        clock: Callable[[], float],
    ) -> None:
        self._observers = observers
        self._addresses = addresses
        self._clock = clock
        self._rates = Rates()
        self._connections: _Connections | None = None
        self.replace(rules)

    def replace(self, rules: ConnectRules) -> None:
        """Limits by these rules from now on. Connections are counted from the first rule about their number on."""
        self._rules: ConnectRules | None = rules if rules != ConnectRules() else None
        if rules.max_address_connections and self._connections is None:
            self._connections = _Connections(self._addresses())
            self._observers.attach(self._connections)

    def check(self, address: str) -> None:
        """A client asks to connect. Raises :class:`catenary.errors.RequestRefused` with 429 for its address and with 503 for all,
        both with the time after which it may come back."""
        if self._rules is not None:
            self._check(self._rules, host_of(address) if address else "")

    def _check(self, rules: ConnectRules, host: str) -> None:
        now = self._clock()
        if host and self._connections is not None:
            limit = rules.max_address_connections
            if 0 < limit <= self._connections.by_host.get(host, 0):
                raise too_many(f"expected up to {limit} connections from an address")
        if host and rules.max_address_connect_rate:
            limit = rules.max_address_connect_rate
            excess = self._rates.excess(host, limit, now)
            if excess:
                why = f"expected up to {limit} connections per second from an address"
                raise too_many(why, excess / limit)
        if rules.max_connect_rate:
            excess = self._rates.excess(_ALL, rules.max_connect_rate, now)
            if excess:
                raise unavailable(
                    "too many connections per second", excess / rules.max_connect_rate
                )


class _Connections(SilentObserver):
    """How many connections each address has open, from the admission to the end."""

    __slots__ = ("by_host",)

    def __init__(self, addresses: Iterable[str]) -> None:
        self.by_host: dict[str, int] = {}
        """As many entries as there are addresses with a connection."""
        for each in addresses:
            self._add(each)

    def opened(self, environment: Environment) -> None:
        self._add(environment.address)

    def closed(self, environment: Environment, reason: Reason | None, how: str) -> None:
        host = host_of(environment.address)
        left = self.by_host.get(host, 0) - 1
        if left > 0:
            self.by_host[host] = left
        else:
            self.by_host.pop(host, None)

    def _add(self, address: str) -> None:
        host = host_of(address)
        self.by_host[host] = self.by_host.get(host, 0) + 1
