"""The addresses of NATS: servers from the options, and their neighbours in a cluster.

Knows: addresses. Does not know: connections.
"""

import contextlib
import random
from typing import Final

import msgspec

from catenary.adapters.nats.access import ANONYMOUS, NatsAccess
from catenary.config.addresses import NatsAddress, server_address
from catenary.errors import ConfigError


class NatsServers(msgspec.Struct, frozen=True, kw_only=True):
    """The servers of the options.

    ``urls`` are ``nats://USER:PASSWORD@HOST:PORT`` or ``tls://``, tried in random order unless ``in_order``. With
    ``follows_cluster``, neighbours that a server lists are tried, too.
    """

    urls: tuple[str, ...]
    in_order: bool = False
    access: NatsAccess = ANONYMOUS
    follows_cluster: bool = True


class Addresses:
    """The servers in the order in which they are tried. Raises :class:`ConfigError`."""

    __slots__ = ("_given", "_named", "_servers")

    def __init__(self, servers: NatsServers) -> None:
        try:
            self._given: Final = tuple(server_address(url) for url in servers.urls)
        except ValueError as error:
            raise ConfigError(f"nats_servers: {error}") from error
        if not self._given:
            raise ConfigError("nats_servers: expected a URL, got none")
        servers.access.check()
        self._servers = servers
        self._named: tuple[NatsAddress, ...] = ()

    def once_around(self) -> list[NatsAddress]:
        """Returns each server once, those of the options first."""
        given, named = list(self._given), list(self._named)
        if not self._servers.in_order:
            random.shuffle(given)
            random.shuffle(named)
        return given + [each for each in named if each not in given]

    def follow(self, address: NatsAddress, urls: tuple[str, ...]) -> None:
        """Notes the neighbours that a server lists, which accept the same user."""
        if self._servers.follows_cluster:
            self._named = tuple(_neighbours(address, urls))


def _neighbours(address: NatsAddress, urls: tuple[str, ...]) -> list[NatsAddress]:
    found = []
    for url in urls:
        with contextlib.suppress(ValueError):
            other = server_address(url)
            found.append(msgspec.structs.replace(address, host=other.host, port=other.port))
    return found
