"""A cable inside another ASGI server: the same node, with the host's WebSockets and requests as clients.

It is started by its lifespan, or else by its first client, in that client's event loop.
Source: ASGI 3.0, https://asgi.readthedocs.io/en/latest/specs/www.html.
Knows: the assembly, ASGI scopes. Does not know: commands of clients, the host.
"""

import asyncio
import contextlib
import logging
import os
from collections.abc import AsyncIterator, Mapping
from time import perf_counter
from typing import Final
from urllib.parse import quote

from starlette.types import Receive, Scope, Send

from catenary.channels.cable import Cable
from catenary.config.effective import effective
from catenary.config.hosted import load_hosted
from catenary.config.options import Options
from catenary.edge.addresses import client_of
from catenary.edge.refusals import unavailable
from catenary.edge.request import Peer, requester_of_scope
from catenary.errors import ConfigError, RequestRefused
from catenary.server.assembly import Assembly
from catenary.transports.asgi_edge import AsgiClient
from catenary.transports.asgi_responses import refusal
from catenary.wire import http1

_log: Final = logging.getLogger("catenary.server")

_SCHEMES: Final = {"ws": "http", "wss": "https", "https": "https"}


class Mounted:
    """An ASGI application (3.0). It can be run again, in another event loop, when the first one is closed."""

    def __init__(self, cable: Cable, keywords: Mapping[str, object]) -> None:
        """``keywords`` are options by the names of their flags; they override the environment. Raises
        :class:`ConfigError`."""
        self._cable = cable
        self._options = effective(load_hosted(keywords, os.environ))
        self._hosted: _Hosted | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._run_lifespan(receive, send)
        else:
            await self._serve_client(scope, receive, send)

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Runs the cable inside the block, and disconnects its clients at the end. Raises :class:`ConfigError`, also if it
        runs in another event loop."""
        hosted = await self._started()
        try:
            yield
        finally:
            await hosted.stop()
            self._hosted = None

    async def _started(self) -> "_Hosted":
        loop = asyncio.get_running_loop()
        hosted = self._hosted
        if hosted is not None and hosted.loop is not loop:
            if not hosted.loop.is_closed():
                raise ConfigError("expected one loop for this cable, got a second")
            self._cable.application.release()
            hosted = None
        if hosted is None:
            if self._cable.application.is_hosted:
                raise ConfigError(
                    "expected a cable that is mounted or in a server of its own, got one that is both"
                )
            hosted = self._hosted = _Hosted(self._cable, self._options)
        try:
            # Several clients may wait for the start; one of them that is cancelled must not cancel it.
            await asyncio.shield(hosted.started)
        except Exception:
            if self._hosted is hosted:
                self._hosted = None
            raise
        return hosted

    async def _serve_client(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves or refuses one client."""
        if scope["type"] == "websocket":
            await receive()
        try:
            hosted = await self._started()
        except Exception:  # noqa: BLE001
            # The host keeps serving other requests, and the next client tries to start the cable again.
            _log.exception("The cable could not start")
            await _refuse(RequestRefused(503, "the cable could not start"), scope, send)
            return
        try:
            await hosted.serve(scope, receive, send)
        except RequestRefused as error:
            hosted.edge.refusals.note(error, requester_of_scope(scope))
            await _refuse(error, scope, send)

    async def _run_lifespan(self, receive: Receive, send: Send) -> None:
        """The lifespan protocol, for a host that serves only the cable."""
        await receive()
        try:
            async with self.running():
                await send({"type": "lifespan.startup.complete"})
                await receive()
        except ConfigError as error:
            await send({"type": "lifespan.startup.failed", "message": str(error)})
            return
        await send({"type": "lifespan.shutdown.complete"})


class _Hosted:
    """A node in one event loop, from its start to its end."""

    def __init__(self, cable: Cable, options: Options) -> None:
        self.loop = asyncio.get_running_loop()
        self._assembly = Assembly(options, cable=cable, is_mounted=True)
        self.edge = self._assembly.asgi_edge()
        self._timeout_s = options.node.shutdown_timeout_s
        self._connections: set[AsgiClient] = set()
        self._is_empty = asyncio.Event()
        self._is_stopping = False
        self.started = asyncio.ensure_future(self._start())

    async def _start(self) -> None:
        for announcement in self._assembly.build.announcements:
            _log.info("%s", announcement)
        for each in self._assembly.build.start:
            await each()

    async def serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves one client until it leaves. Raises :class:`RequestRefused` if it is not admitted."""
        asked_at = perf_counter()
        edge = self.edge
        endpoint = edge.endpoints.get(scope["type"])
        if endpoint is None:
            raise RequestRefused(426, "expected Upgrade: websocket", (("Upgrade", "websocket"),))
        if not await edge.queue.wait(edge.handshake_timeout_s):
            raise unavailable("too many handshakes")
        if self._is_stopping:
            raise unavailable("the server is shutting down")
        request = http1.already_read(_target(scope), scope["headers"], scope.get("method", "GET"))
        scheme = _SCHEMES.get(scope.get("scheme", "http"), "http")
        peer = Peer(scheme, client_of(scope), asked_at)
        connection = endpoint.open(request, peer, scope, receive, send)
        self._connections.add(connection)
        try:
            await connection.serve()
        finally:
            self._connections.discard(connection)
            if self._is_stopping and not self._connections:
                self._is_empty.set()

    async def stop(self) -> None:
        """Disconnects all clients, then runs the phases of the shutdown."""
        self._is_stopping = True
        self._assembly.build.stop()
        deadline = self.loop.time() + self._timeout_s
        for connection in tuple(self._connections):
            connection.shutdown()
        if self._connections:
            with contextlib.suppress(TimeoutError):
                # Not wait_for, which may swallow a cancellation on Python 3.11.
                async with asyncio.timeout(self._timeout_s):
                    await self._is_empty.wait()
        await self._assembly.build.shutdown.run(deadline - self.loop.time())
        self._assembly.build.supervisor.close()
        _log.info("Stopped")


def _target(scope: Scope) -> str:
    """The request target as it was sent; ``raw_path`` is optional in ASGI."""
    raw_path = scope.get("raw_path")
    path = raw_path.decode("latin-1") if raw_path else quote(scope["path"])
    query = scope.get("query_string", b"").decode("latin-1")
    return f"{path}?{query}" if query else path


async def _refuse(refused: RequestRefused, scope: Scope, send: Send) -> None:
    """Refuses with the status of the error; if the host can't send a status for a WebSocket, closes it before accepting."""
    is_denial = scope["type"] == "websocket"
    if is_denial and "websocket.http.response" not in scope.get("extensions", {}):
        await send({"type": "websocket.close", "code": 1008, "reason": str(refused)})
        return
    for event in refusal(refused, is_denial=is_denial):
        await send(event)
