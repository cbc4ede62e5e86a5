"""Finds the client of a request that a trusted proxy passes on: its address, and the scheme and host that it used.

Knows: networks, the headers of proxies, requests. Does not know: connections, who may connect.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Final, NamedTuple

import msgspec

from catenary.config.networks import network
from catenary.config.options import AddressHeader
from catenary.edge import addresses
from catenary.edge.request import Peer
from catenary.messages.ip_addresses import text_of
from catenary.metrics.counters import Counters
from catenary.wire.forwarded import (
    Hop,
    forwarded_hops,
    last,
    scheme_of,
    x_forwarded_hops,
)
from catenary.wire.http1 import RequestHead, is_host

PROXY_HEADERS: Final = (
    "x-forwarded-for",
    "x-forwarded-proto",
    "x-forwarded-host",
    "x-forwarded-port",
    "x-real-ip",
    "x-request-id",
    "forwarded",
)
"""Headers that only a trusted proxy may send."""

_REMEMBERED: Final = 1024
_HOPS: Final[dict[AddressHeader, Callable[[str], Iterator[Hop]]]] = {
    "x-forwarded-for": x_forwarded_hops,
    "forwarded": forwarded_hops,
}


class Origin(NamedTuple):
    """What a trusted proxy says about the client; ``scheme`` and ``host`` are empty if it does not say them."""

    address: str
    scheme: str = ""
    host: str = ""


class TrustedProxies:
    """The proxies whose headers are believed: those in ``networks`` (:func:`catenary.config.networks.network`).

    ``header`` is the one that they write. A proxy passes the others on as the client sent them, so only one is read.
    Raises ValueError for an entry that is no network.
    """

    __slots__ = ("_counters", "_header", "_hops", "_known", "_networks", "_trusts_unix")

    def __init__(self, networks: Sequence[str], header: AddressHeader, counters: Counters) -> None:
        self._header = header
        self._hops = _HOPS[header]
        self._counters = counters
        self.replace(networks)

    def replace(self, networks: Sequence[str]) -> None:
        """Trusts these proxies from the next request on."""
        found = [network(each) for each in networks]
        self._trusts_unix = None in found
        self._networks = [
            (each.max_prefixlen // 8, int(each.network_address), int(each.netmask))
            for each in found
            if each is not None
        ]
        # Proxies are few, and each brings many requests.
        self._known: dict[str, bool] = {}

    def trust(self, address: str) -> bool:
        """Whether the peer of a connection is a trusted proxy; the address is empty for a Unix socket."""
        known = self._known.get(address)
        if known is None:
            packed = addresses.packed(address.partition("%")[0])
            known = (
                self._contain(packed) if packed is not None else self._trusts_unix and not address
            )
            if len(self._known) < _REMEMBERED:
                self._known[address] = known
        return known

    def client(self, request: RequestHead, peer: Peer) -> tuple[RequestHead, Peer]:
        """The request and the peer as the client's own. The request of an untrusted peer loses the headers of proxies."""
        headers = request.headers
        if not self.trust(peer.address):
            for name in PROXY_HEADERS:
                headers.pop(name, None)
            return request, peer
        origin = self.origin(headers, peer.address)
        if origin.host:
            headers["host"] = origin.host
        if origin.scheme and request.scheme:
            request = msgspec.structs.replace(request, scheme="")
        return request, Peer(origin.scheme or peer.scheme, origin.address, peer.asked_at)

    def origin(self, headers: Mapping[str, str], proxy: str) -> Origin:
        """The client behind a trusted ``proxy``: the rightmost address that is no trusted proxy.

        Where the chain is malformed, or names nobody else, it is the last proxy that is known.
        """
        value = headers.get(self._header, "")
        address, scheme, host = proxy, "", ""
        for hop in self._hops(value) if value else ():
            packed = addresses.packed(hop.address)
            if packed is None:
                self._counters.malformed_forwarding_total += 1
                break
            address, scheme, host = text_of(packed), hop.scheme, hop.host
            if not self._contain(packed):
                break
        if self._header == "x-forwarded-for":
            scheme = scheme_of(last(headers.get("x-forwarded-proto", "")))
            host = last(headers.get("x-forwarded-host", ""))
        return Origin(address, scheme, host if is_host(host) else "")

    def _contain(self, packed: bytes) -> bool:
        number, size = int.from_bytes(packed, "big"), len(packed)
        return any(
            size == length and number & mask == start for length, start, mask in self._networks
        )


def proxy_headers_of(fields: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    """The headers of proxies among those of an ASGI scope, as :class:`catenary.wire.http1.RequestHead` has them."""
    found: dict[str, str] = {}
    for raw, value in fields:
        name = raw.decode("latin-1")
        if name in _PROXY_HEADERS:
            text = value.decode("latin-1")
            found[name] = f"{found[name]}, {text}" if name in found else text
    return found


_PROXY_HEADERS: Final = frozenset(PROXY_HEADERS)
