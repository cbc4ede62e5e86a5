"""uvicorn's HTTP protocol with limits on the size and the duration of each request head.

uvicorn itself buffers a head of any size, for any time.
Knows: the bytes of request heads. Does not know: what is requested.
"""

import asyncio
from collections.abc import Callable
from typing import Any, Final

import httptools
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from catenary.edge.connection import ClientConnection, PortState, UvicornContext
from catenary.edge.proxies import TrustedProxies, proxy_headers_of
from catenary.edge.sniffer import RequestSniffer, at_last
from catenary.errors import RequestRefused
from catenary.messages.environment import Requester
from catenary.messages.ip_addresses import plain
from catenary.metrics.counters import Counters
from catenary.ports import Watch
from catenary.wire import http1
from catenary.wire.request_memory import RequestMemory, too_many

_BEGINS_HERE: Final = -1

Report = Callable[[Requester, int, str], None]
"""Reports a refused request: its sender, the status and the reason."""


class BoundedHttp(HttpToolsProtocol):
    """Refuses a request whose head exceeds ``max_head_bytes`` or is not complete in time.

    Gives the ``connection`` back to its ``sniffer`` for a request of an endpoint: proxies and browsers send any requests one after
    another on the same connection.
    """

    def __init__(
        self,
        config: Config,
        server_state: PortState,
        app_state: dict[str, Any],
        *,
        connection: ClientConnection,
        sniffer: RequestSniffer,
        max_head_bytes: int,
        watch: Watch,
        memory: RequestMemory,
        counters: Counters,
        report: Report,
        proxies: TrustedProxies | None,
    ) -> None:
        super().__init__(config, server_state, app_state)
        self._port = server_state
        self._connection = connection
        self._sniffer = sniffer
        self._max_head_bytes = max_head_bytes
        self._watch = watch
        self._memory = memory
        self._counters = counters
        self._report = report
        self._proxies = proxies
        self._in_work: RequestResponseCycle | None = None
        """The request that the application works on: with pipelining, not the last one, which is uvicorn's ``cycle``."""
        # From the first byte of a request to its last
        self._is_in_request = False
        # Bytes received of an incomplete head; None between heads.
        self._head_bytes: int | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if self.client is not None:
            self.client = (plain(self.client[0]), self.client[1])

    def data_received(self, data: bytes) -> None:
        if self._is_between_requests and self._sniffer.is_for_endpoint(data):
            self._give_back(data)
            return
        self._feed(data)
        if self._head_bytes is None or self.transport.is_closing():
            return
        if self._head_bytes == _BEGINS_HERE:
            # It is unknown how many of these bytes belong to the head: counting starts with the next read.
            self._head_bytes = 0
            self._watch.watch(self)
            self._memory.hold(self, len(data))
            return
        self._head_bytes += len(data)
        self._memory.hold(self, self._head_bytes)
        if self._head_bytes > self._max_head_bytes:
            self._counters.oversized_heads_total += 1
            limit = self._max_head_bytes
            self._refuse(RequestRefused(431, f"expected a request head of up to {limit} bytes"))

    def _feed(self, data: bytes) -> None:
        """As uvicorn's own ``data_received``, except that a refusal is reported with the address of the client, not logged
        without it."""
        self._unset_keepalive_if_required()
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            if self._should_upgrade():
                self.handle_websocket_upgrade()
            else:
                self._unsupported_upgrade_warning()
        except httptools.HttpParserError as error:
            self._refuse(_refusal_of(error))

    @property
    def _is_between_requests(self) -> bool:
        # None before the first request.
        cycle: RequestResponseCycle | None = self.cycle
        return (
            not self._is_in_request
            and (cycle is None or cycle.response_complete)
            and not self.transport.is_closing()
        )

    def _give_back(self, data: bytes) -> None:
        self._watch.forget(self)
        self._memory.release(self)
        self._unset_keepalive_if_required()
        self.connections.discard(self)
        self._connection.take_back(self.transport, self._sniffer, data)

    def connection_lost(self, exc: Exception | None) -> None:
        self._watch.forget(self)
        self._memory.release(self)
        if self._in_work is not None:
            # uvicorn tells the last request only; the response of this one would be written to a closed connection.
            self._in_work.disconnected = True
            self._in_work.message_event.set()
            self._in_work = None
        super().connection_lost(exc)

    def shutdown(self) -> None:
        """Called by uvicorn at the shutdown: waits for the response, or for a request that is on its way."""
        if self._in_work is None:
            at_last(self._end)
        else:
            super().shutdown()

    def _end(self) -> None:
        # It is no member after an upgrade, or when the connection was given back.
        if self._in_work is None and self in self.connections:
            self.transport.close()

    # httptools calls

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._is_in_request = True
        self._head_bytes = _BEGINS_HERE

    def on_headers_complete(self) -> None:
        if self._head_bytes != _BEGINS_HERE:
            self._watch.forget(self)
            self._memory.release(self)
        self._head_bytes = None
        if not self.url.startswith(b"/"):
            self._make_origin_form()
        super().on_headers_complete()
        # None for an upgrade
        cycle: RequestResponseCycle | None = self.cycle
        if cycle is not None and not self._port.keeps_connections:
            cycle.keep_alive = False
        if not self.pipeline:
            self._in_work = self.cycle

    def on_message_complete(self) -> None:
        self._is_in_request = False
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """Called by uvicorn at the end of a response; begins the next request, if one waits."""
        self._in_work = self.pipeline[-1][0] if self.pipeline else None
        super().on_response_complete()

    def _make_origin_form(self) -> None:
        """Routes and applications expect a path, and the host in the header Host."""
        scheme, authority, target = http1.origin_form(self.url.decode("latin-1"))
        self.url = target.encode("latin-1")
        if scheme:
            self.headers[:] = [each for each in self.headers if each[0] != b"host"]
            self.headers.append((b"host", authority.encode("latin-1")))

    # Refusals

    def give_up(self) -> None:
        """Gives up for lack of memory (:class:`catenary.wire.request_memory.Holder`)."""
        self._refuse(too_many())

    def time_out(self) -> None:
        """The head of a request was not complete in time."""
        self._counters.late_handshakes_total += 1
        self._refuse(RequestRefused(408, "expected the rest of the request"))

    def _refuse(self, error: RequestRefused) -> None:
        self._report(self._requester(), error.status, str(error))
        # None before the first request.
        cycle: RequestResponseCycle | None = self.cycle
        if cycle is None or cycle.response_complete:
            self.transport.write(http1.refusal(error))
        elif self._head_bytes is None and not cycle.response_started and not self.pipeline:
            # Within a body. The application is told that the client has disconnected.
            cycle.disconnected = True
            cycle.message_event.set()
            self.transport.write(http1.refusal(error))
        self.transport.close()

    def _requester(self) -> Requester:
        """The sender of the request, as far as that was read."""
        address = self.client[0] if self.client else ""
        # None before the first request.
        fields: list[tuple[bytes, bytes]] | None = self.headers
        if fields is None:
            return Requester(address)
        if self._proxies is not None and self._proxies.trust(address):
            address = self._proxies.origin(proxy_headers_of(fields), address).address
        return Requester(address, path=self.url.partition(b"?")[0].decode("latin-1"))


def _refusal_of(error: httptools.HttpParserError) -> RequestRefused:
    """The refusal that an error of the parser causes."""
    reason = error.__context__ if isinstance(error, httptools.HttpParserCallbackError) else error
    if isinstance(reason, RequestRefused):
        return reason
    if isinstance(reason, httptools.HttpParserInvalidMethodError):
        return RequestRefused(405, "expected another method", (("Allow", "GET, POST"),))
    if reason is not error:
        return RequestRefused(400, "expected a path in the request line")
    return RequestRefused(400, f"expected an HTTP/1.1 request: {error}")


class HttpFallback:
    """Satisfies :data:`catenary.edge.routes.Fallback`: uvicorn serves the connection from its first byte."""

    __slots__ = ("_counters", "_max_head_bytes", "_memory", "_proxies", "_report", "_watch")

    def __init__(
        self,
        max_head_bytes: int,
        watch: Watch,
        memory: RequestMemory,
        counters: Counters,
        *,
        report: Report,
        proxies: TrustedProxies | None,
    ) -> None:
        """``report`` is called once for each refused request; ``proxies`` are trusted to name its client."""
        self._max_head_bytes = max_head_bytes
        self._watch = watch
        self._memory = memory
        self._counters = counters
        self._report = report
        self._proxies = proxies

    def __call__(
        self, connection: ClientConnection, uvicorn: UvicornContext, path: str, data: bytes
    ) -> None:
        sniffer = connection.stage
        assert isinstance(sniffer, RequestSniffer)
        protocol = BoundedHttp(
            *uvicorn,
            connection=connection,
            sniffer=sniffer,
            max_head_bytes=self._max_head_bytes,
            watch=self._watch,
            memory=self._memory,
            counters=self._counters,
            report=self._report,
            proxies=self._proxies,
        )
        connection.hand_over(protocol, data)


class HostedWebSockets:
    """Satisfies :data:`catenary.edge.routes.Fallback` for upgrades: uvicorn serves the WebSockets of a hosted application.

    ``build`` builds uvicorn's protocol. It is None if no application is hosted, or no library for it is installed; then
    the path is refused with 404.
    """

    __slots__ = ("_build",)

    def __init__(self, build: Callable[..., asyncio.Protocol] | None) -> None:
        self._build = build

    def __call__(
        self, connection: ClientConnection, uvicorn: UvicornContext, path: str, data: bytes
    ) -> None:
        if self._build is None:
            raise RequestRefused(404, f"expected the path of a cable, got {path[:100]!r}")
        connection.hand_over(self._build(**uvicorn._asdict()), data)
