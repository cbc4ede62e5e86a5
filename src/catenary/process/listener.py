"""uvicorn on one port: it accepts, more eagerly while many clients connect, until it is closed.

Knows: uvicorn, listening sockets. Does not know: what is served.
"""

import asyncio
import contextlib
import fcntl
import functools
import socket
import sys
import termios
from collections.abc import Callable, Iterator
from typing import Final, cast

import uvicorn

from catenary.edge.connection import PortState

ACCEPTS_PER_TURN: Final = 2
"""How often each socket is listened on: libuv accepts one connection in a turn of the loop from each.

With two listeners, a client that connects alone costs 3 % more than with one, because of an accept that finds no
connection; with four, 9 %. Clients that connect at the same time share turns, and cost 7 % less."""

ACCEPTS_IN_A_CROWD: Final = 8
"""The same while many clients connect: with a hundred or more waiting, each costs an eighth less than with two."""

CROWD: Final = 30
"""This many connections in a tenth of a second are a crowd."""

CROWD_IS_OVER: Final = 10
"""Tenths of a second without a crowd, after which the additional listeners are closed."""


LAST_HANDSHAKE_S: Final = 0.5
"""At a shutdown, how long TLS handshakes that are under way may take: their connections are known only afterwards."""


STALLED_S: Final = 1.0
"""At a shutdown, a client that has taken nothing of what was sent to it for so long is cut off."""


class Listener(uvicorn.Server):
    """Serves one port. Without signal handlers: one process has several listeners."""

    def __init__(self, config: uvicorn.Config, sockets: list[socket.socket]) -> None:
        super().__init__(config)
        self.server_state: PortState = PortState()
        again = [each.dup() for each in sockets for _ in range(ACCEPTS_PER_TURN - 1)]
        self._sockets = [*sockets, *again]
        self.own = sockets
        """The listening sockets; closed when it stops accepting."""
        self._serving: asyncio.Task[None] | None = None
        self._has_stopped_accepting = False
        # While many clients connect
        self._more: list[asyncio.Server] = []
        self._came = 0
        self._quiet_ticks = 0

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    def listen(self) -> "asyncio.Task[None]":
        """Starts serving. The task ends with the last connection after :meth:`close`."""
        self._serving = asyncio.create_task(self.serve(sockets=self._sockets))
        return self._serving

    async def on_tick(self, counter: int) -> bool:
        """Called by uvicorn ten times a second. True ends it."""
        came = self.server_state.total_requests - self._came
        self._came += came
        if came >= CROWD:
            self._quiet_ticks = 0
            if not self._more and not self._has_stopped_accepting:
                await self._accept_more()
        elif self._more:
            self._quiet_ticks += 1
            if self._quiet_ticks == CROWD_IS_OVER:
                self._accept_less()
        return await super().on_tick(counter)

    async def _accept_more(self) -> None:
        loop, config = asyncio.get_running_loop(), self.config
        build = functools.partial(
            cast("Callable[..., asyncio.Protocol]", config.http_protocol_class),
            config=config,
            server_state=self.server_state,
            app_state=self.lifespan.state,
        )
        # Without free file descriptors, the present sockets suffice.
        with contextlib.suppress(OSError):
            for each in self.own * (ACCEPTS_IN_A_CROWD - ACCEPTS_PER_TURN):
                more = await loop.create_server(
                    build, sock=each.dup(), ssl=config.ssl, backlog=config.backlog
                )
                self._more.append(more)
        if self._has_stopped_accepting:  # while a server was created
            self._accept_less()

    def _accept_less(self) -> None:
        """Connections that arrive meanwhile are accepted by the other sockets: all share one queue."""
        for each in self._more:
            each.close()
        self._more.clear()

    def stop_keeping_connections(self) -> None:
        """Asks the clients, with the responses from now on, to send their next requests on other connections."""
        self.server_state.keeps_connections = False

    def stop_accepting(self) -> None:
        """Accepts no new connections, and serves the open ones."""
        self._has_stopped_accepting = True
        self._accept_less()
        for server in self.servers:
            server.close()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Called by uvicorn: accepts no new connections, and returns when the open ones have ended."""
        self.stop_accepting()
        if self.config.ssl is not None:
            await asyncio.sleep(LAST_HANDSHAKE_S)
        cutting = asyncio.create_task(self._cut_off_stalled())
        try:
            await super().shutdown(sockets)
        finally:
            cutting.cancel()

    async def _cut_off_stalled(self) -> None:
        """Ends connections that uvicorn would wait for until the end of its time: of clients that take nothing of what waits for
        them, and of those that do not answer TLS's close_notify (RFC 8446, section 6.1)."""
        before: dict[object, int] = {}
        while True:
            await asyncio.sleep(STALLED_S)
            waiting: dict[object, int] = {}
            for each in tuple(self.server_state.connections):
                transport = each.transport
                waiting[each] = _waiting_bytes(transport)
                if waiting[each] == before.get(each) and (waiting[each] or transport.is_closing()):
                    transport.abort()
            before = waiting

    async def close(self, timeout_s: float) -> None:
        """Accepts no new connections, asks the open ones to end, and waits for them."""
        self.should_exit = True
        if self._serving is not None:
            await asyncio.wait([self._serving], timeout=timeout_s)


def _waiting_bytes(transport: asyncio.Transport) -> int:
    """Bytes that the client's machine has not acknowledged yet (tcp(7), SIOCOUTQ), and those that wait before them."""
    waiting = transport.get_write_buffer_size()
    connection = transport.get_extra_info("socket")
    if connection is not None:
        with contextlib.suppress(OSError, AttributeError):  # a system that does not say
            queued = fcntl.ioctl(connection.fileno(), termios.TIOCOUTQ, bytes(4))
            waiting += int.from_bytes(queued, sys.byteorder)
    return waiting
