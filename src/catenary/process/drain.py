"""Closes the clients of a stopping server one after the other.

Clients that are disconnected at the same moment reconnect at the same moment, and overload the other servers.
Source: "Slow drain mode" of docs/configuration.md (anycable). Knows: time, listeners, client connections.
Does not know: transports.
"""

import asyncio
import logging
from collections.abc import Sequence
from typing import Final, cast

import msgspec

from catenary.edge.connection import ClientConnection
from catenary.metrics.counters import Counters
from catenary.process.listener import Listener

_log: Final = logging.getLogger("catenary.server")


class DrainRate(msgspec.Struct, frozen=True):
    """How fast clients are closed.

    ``share`` (0 to 1) is the largest part of the shutdown timeout over which they are spread; the rest is for close
    frames and Disconnect calls. ``longest_pause_s`` is the largest pause between two clients, so that few clients
    take less time than many.
    """

    share: float
    longest_pause_s: float


QUICK: Final = DrainRate(0.2, 1 / 5_000)
"""A thousand clients in 0.2 s: other servers can accept that many."""

SLOW: Final = DrainRate(0.8, 0.5)
"""As anycable-go, which takes 24.7 of 30 s."""

PROGRESS_S: Final = 5.0
"""Time between two lines of the log about the progress."""


class Drain:
    """The clients of a stopping server. ``counters`` shows how many are left (``draining_clients_num``)."""

    def __init__(
        self,
        listeners: Sequence[Listener],
        shutdown_timeout_s: float,
        rate: DrainRate,
        counters: Counters,
    ) -> None:
        self._listeners = listeners
        self._timeout_s = shutdown_timeout_s
        self._rate = rate
        self._counters = counters
        self._has_ended = False
        self._pause: asyncio.Future[None] | None = None

    @property
    def is_slow(self) -> bool:
        """Whether it can be hastened."""
        return self._rate is not QUICK

    def hasten(self) -> bool:
        """Drains quickly from now on. False if that changes nothing."""
        if self._has_ended or not self.is_slow:
            return False
        self._rate = QUICK
        self._wake()
        return True

    async def run(self) -> None:
        """Closes all clients, evenly spread over a part of the shutdown timeout.

        Ports with clients accept no new connections from now on. Clients that are not closed yet are served: they
        receive what is published.
        """
        try:
            await self._close(self._clients())
        finally:
            self._has_ended = True
            self._counters.draining_clients_num = 0

    def _clients(self) -> list[tuple[Listener, ClientConnection]]:
        clients = [
            (listener, each)
            for listener in self._listeners
            for each in _connections(listener)
            if isinstance(each, ClientConnection) and each.is_client
        ]
        for listener in dict.fromkeys(listener for listener, _ in clients):
            listener.stop_accepting()
        return clients

    async def _close(self, clients: Sequence[tuple[Listener, ClientConnection]]) -> None:
        clock = asyncio.get_running_loop().time
        began = reported = clock()
        rate: DrainRate | None = None
        pause_s, start, since = 0.0, 0, began
        for number, (listener, client) in enumerate(clients):
            left = self._counters.draining_clients_num = len(clients) - number
            if rate is not self._rate:
                rate, start, since = self._rate, number, clock()
                pause_s = min(self._timeout_s * rate.share / left, rate.longest_pause_s)
                _log.info("Disconnecting %d clients within %.1f s", left, pause_s * left)
            elif clock() - reported >= PROGRESS_S:
                reported = clock()
                _log.info("Disconnecting clients: %d of %d are left", left, len(clients))
            if client in _connections(listener):
                client.shutdown()
            # Schedules from the beginning, so that timer lateness does not accumulate.
            await self._wait(since + (number + 1 - start) * pause_s - clock())
        if clients:
            _log.info("Disconnected %d clients in %.1f s", len(clients), clock() - began)

    async def _wait(self, seconds: float) -> None:
        """Waits, until the drain is hastened at most."""
        if seconds <= 0:
            await asyncio.sleep(0)
            return
        loop = asyncio.get_running_loop()
        self._pause = loop.create_future()
        timer = loop.call_later(seconds, self._wake)
        try:
            await self._pause
        finally:
            timer.cancel()

    def _wake(self) -> None:
        if self._pause is not None and not self._pause.done():
            self._pause.set_result(None)


def _connections(listener: Listener) -> set[object]:
    """Uvicorn's set; its type names uvicorn's own protocols only."""
    return cast("set[object]", listener.server_state.connections)
