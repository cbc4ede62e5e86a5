"""The ports that a server listens on, and what is served at each: collected here before anything listens.

Knows: addresses, endpoints, routes. Does not know: what they do, sockets.
"""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from starlette.routing import BaseRoute

from catenary.api.intake import IntakeRules
from catenary.edge.routes import Endpoint
from catenary.process.binding import ListenAddress

if TYPE_CHECKING:
    from catenary.server.hosted_application import HostedApplication


@dataclass
class PortSpec:
    """Everything that one port serves; ``address`` has the options' names of the first feature that requested the port.

    ``endpoints`` are client endpoints by path, ``routes`` other HTTP requests, ``intake`` publications, ``hosted`` the
    hosted application, which gets everything else.
    """

    address: ListenAddress
    routes: list[BaseRoute] = field(default_factory=list)
    endpoints: list[tuple[str, Endpoint]] = field(default_factory=list)
    intake: IntakeRules | None = None
    hosted: "HostedApplication | None" = None


class Ports:
    """Each port once, however its address is written."""

    def __init__(self) -> None:
        self._specs: dict[tuple[str, int], PortSpec] = {}

    def at(self, address: ListenAddress) -> PortSpec:
        """The spec of a port, to add to."""
        return self._specs.setdefault(address.key, PortSpec(address))

    @property
    def specs(self) -> tuple[PortSpec, ...]:
        """In the order of the first request for each."""
        return tuple(self._specs.values())
