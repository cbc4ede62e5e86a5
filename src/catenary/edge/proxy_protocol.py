"""Connections that begin with a header of the PROXY protocol, which names the client.

It comes before TLS. Only trusted proxies send it, and they must: whether a header is there is never guessed from the
bytes, because a client could then send one through a proxy that sends none.
Source: "The PROXY protocol", section 2, https://www.haproxy.org/download/2.9/doc/proxy-protocol.txt.
Knows: asyncio, trusted proxies. Does not know: requests.
"""

import asyncio
import functools
import ssl
from collections.abc import Callable
from typing import Any, cast

import msgspec
from uvicorn.config import Config

from catenary.edge.addresses import address_of
from catenary.edge.connection import ClientConnection, PortState, Stage, UvicornContext
from catenary.edge.proxies import TrustedProxies
from catenary.edge.refusals import Refusals
from catenary.edge.request import Peer
from catenary.edge.sniffer import at_last
from catenary.errors import RequestRefused
from catenary.messages.environment import Requester
from catenary.metrics.counters import Counters
from catenary.ports import Watch
from catenary.wire import http1
from catenary.wire.proxy_protocol import (
    MAX_V2,
    SHORTEST,
    ProxyHeader,
    ProxyHeaderError,
    read_header,
)

First = Callable[[ClientConnection, UvicornContext], Stage]

_USUAL_BYTES = 512


class ProxiedPort(msgspec.Struct, frozen=True, eq=False, kw_only=True):
    """Shared by all connections of one port.

    ``first`` builds the first stage of a connection, ``late`` that of an upgrade on a connection with requests before it.
    With ``tls``, the TLS handshake follows the header. ``watch`` and ``handshake_timeout_s`` limit the time for each.
    """

    first: First
    late: First
    proxies: TrustedProxies
    refusals: Refusals
    counters: Counters
    watch: Watch
    handshake_timeout_s: float
    tls: ssl.SSLContext | None


class ProxiedConnection(ClientConnection):
    """A connection of the client that a ``header`` names."""

    __slots__ = ("_header", "_port")

    def __init__(
        self, port: ProxiedPort, header: ProxyHeader, first: First, **uvicorn: Any
    ) -> None:
        self._port = port
        self._header = header
        super().__init__(first, **uvicorn)

    def peer(self, asked_at: float = 0.0) -> Peer:
        scheme = "https" if self._header.is_tls else super().peer().scheme
        return Peer(scheme, self._header.address, asked_at)

    def _introduce(self, protocol: asyncio.Protocol, transport: asyncio.Transport) -> None:
        """Uvicorn reads the address of the peer from the socket."""
        super()._introduce(protocol, transport)
        port, header = self._port, self._header
        served = cast("Any", protocol)
        served.client = (header.address, header.port)
        if header.is_tls:
            served.scheme = {"http": "https", "ws": "wss"}.get(served.scheme, served.scheme)
        served.ws_protocol_class = functools.partial(ProxiedConnection, port, header, port.late)


class ProxyHeaderReader(asyncio.BufferedProtocol):
    """Reads the header of one connection, and no byte more if TLS follows it.

    uvicorn creates one for each connection, as its HTTP protocol class. Peers that are no trusted proxies send no header.
    """

    __slots__ = (
        *("_buffer", "_is_last", "_length", "_missing", "_port", "_task", "_uvicorn", "transport"),
    )

    def __init__(
        self,
        port: ProxiedPort,
        *,
        config: Config,
        server_state: PortState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        self._port = port
        self._uvicorn = UvicornContext(config, server_state, app_state)
        self.transport: asyncio.Transport
        self._buffer = bytearray()
        self._length = 0
        self._missing = SHORTEST
        self._task: asyncio.Task[None] | None = None
        # Whether the server is shutting down
        self._is_last = False

    # asyncio.BufferedProtocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self._connections.add(self)
        if self._port.proxies.trust(self._address):
            self._buffer = bytearray(_USUAL_BYTES)
            self._port.watch.watch(self)
        else:
            # uvloop may read once more before TLS gets the transport.
            self._buffer = bytearray(_USUAL_BYTES)
            self._enter(self._connection(None), b"")

    def get_buffer(self, sizehint: int) -> memoryview:
        """A part of the buffer: as much as is surely missing if TLS follows, else all of it."""
        length = self._length
        is_exact = self._port.tls is not None
        return memoryview(self._buffer)[length : length + self._missing if is_exact else None]

    def buffer_updated(self, nbytes: int) -> None:
        self._length += nbytes
        if self._task is not None:
            self.transport.pause_reading()
            return
        data = bytes(memoryview(self._buffer)[: self._length])
        try:
            header = read_header(data)
        except ProxyHeaderError as error:
            self._refuse(str(error))
            return
        if isinstance(header, int):
            self._missing = header
            lacking = self._length + header - len(self._buffer)
            if lacking > 0:
                self._buffer = bytearray(data).ljust(MAX_V2 + len(data), b"\0")
            return
        self._port.watch.forget(self)
        self._enter(self._connection(header), data[header.size :])

    def eof_received(self) -> None:
        """Closes the transport."""

    def connection_lost(self, exc: Exception | None) -> None:
        self._port.watch.forget(self)
        self._connections.discard(self)

    # The next protocol

    @property
    def _connections(self) -> set[object]:
        return cast("set[object]", self._uvicorn.server_state.connections)

    @property
    def _address(self) -> str:
        return address_of(self.transport.get_extra_info("peername"))

    def _connection(self, header: ProxyHeader | None) -> ClientConnection:
        port, uvicorn = self._port, self._uvicorn._asdict()
        if header is None or not header.address:
            return ClientConnection(port.first, **uvicorn)
        return ProxiedConnection(port, header, port.first, **uvicorn)

    def _enter(self, connection: ClientConnection, rest: bytes) -> None:
        tls = self._port.tls
        if tls is None:
            self._connections.discard(self)
            self._hand_on(connection, self.transport, rest)
        else:
            # The next byte belongs to TLS; start_tls resumes reading.
            self.transport.pause_reading()
            loop = asyncio.get_running_loop()
            self._length = 0
            self._task = loop.create_task(self._secure(loop, connection, tls))

    async def _secure(
        self, loop: asyncio.AbstractEventLoop, connection: ClientConnection, tls: ssl.SSLContext
    ) -> None:
        early = _EarlyData()
        timeout_s = self._port.handshake_timeout_s
        try:
            handshake = loop.create_task(
                loop.start_tls(
                    self.transport, early, tls, server_side=True, ssl_handshake_timeout=timeout_s
                )
            )
            await asyncio.sleep(0)
            if self._length:
                # TLS has been given the transport, and reads from the next turn of the loop on.
                await asyncio.sleep(0)
                _feed(self.transport.get_protocol(), bytes(self._buffer[: self._length]))
            secured = await handshake
        except OSError:
            # As on a port without this protocol, a failed TLS handshake closes the connection.
            self.transport.abort()
            return
        finally:
            self._connections.discard(self)
            self._task = None
        if secured is not None and not early.is_lost:
            self._hand_on(connection, secured, bytes(early.data))

    def _hand_on(
        self, connection: ClientConnection, transport: asyncio.Transport, rest: bytes
    ) -> None:
        _hand_on(connection, transport, rest)
        if self._is_last:
            # The next protocol, which may be uvicorn's own.
            cast("ClientConnection", transport.get_protocol()).shutdown()

    # Ends

    def _refuse(self, reason: str) -> None:
        port = self._port
        port.watch.forget(self)
        port.counters.refused_proxy_headers_total += 1
        refused = RequestRefused(400, reason)
        port.refusals.note(refused, Requester(self._address))
        if port.tls is None:
            self.transport.write(http1.refusal(refused))
        self.transport.close()

    def time_out(self) -> None:
        """The header was not complete in time."""
        self._port.counters.late_handshakes_total += 1
        self.transport.close()

    def shutdown(self) -> None:
        """Called by uvicorn when the server stops: serves one request that is on its way, and ends the connection."""
        self._is_last = True
        at_last(self._end)

    def _end(self) -> None:
        if self in self._connections:
            self.transport.close()


class _EarlyData(asyncio.Protocol):
    """Collects what arrives together with the end of the TLS handshake."""

    def __init__(self) -> None:
        self.data = bytearray()
        self.is_lost = False

    def data_received(self, data: bytes) -> None:
        self.data += data

    def connection_lost(self, exc: Exception | None) -> None:
        self.is_lost = True


def _feed(protocol: asyncio.BaseProtocol, data: bytes) -> None:
    """Passes ``data`` to the protocol of TLS as if the transport had read it."""
    tls = cast("asyncio.BufferedProtocol", protocol)
    while data:
        buffer = cast("memoryview", tls.get_buffer(len(data)))
        part = data[: len(buffer)]
        buffer[: len(part)] = part
        tls.buffer_updated(len(part))
        data = data[len(part) :]


def _hand_on(connection: ClientConnection, transport: asyncio.Transport, rest: bytes) -> None:
    connection.connection_made(transport)
    transport.set_protocol(connection)
    if rest:
        connection.data_received(rest)
