"""Closes the clients of a stopping server one after the other.

Clients that are disconnected at the same moment reconnect at the same moment, and overload the other servers. If another process
has taken over the listening sockets, its accept queues show how many clients it can take.
Source: "Slow drain mode" of docs/configuration.md (anycable). Knows: time, listeners, client connections.
Does not know: transports.
"""

import asyncio
import logging
from collections.abc import Sequence
from typing import Final, cast

from catenary.edge.connection import ClientConnection
from catenary.metrics.counters import Counters
from catenary.process.accept_queues import AcceptQueues
from catenary.process.listener import Listener

_log: Final = logging.getLogger("catenary.server")


SHARE: Final = 0.8
"""The largest part of the shutdown timeout over which clients are spread; the rest is for close frames and Disconnect calls."""

QUICK_PAUSE_S: Final = 1 / 1_000
"""Between two clients: another server can accept that many in a second beside its own clients, also if they return some seconds
later."""

SLOW_PAUSE_S: Final = 0.5
"""The longest pause of a slow drain, so that few clients take less time than many. As anycable-go, which takes 24.7 of 30 s."""

AT_ONCE: Final = 100
"""At most so many clients are closed in one turn of the event loop, if the drain is late."""

POLL_S: Final = 0.02
"""How often a drain looks at long queues of the process that has replaced this one."""

PATIENCE_S: Final = 10.0
"""A drain that has waited for this time without a break is slow from then on: the other process may have died."""

PROGRESS_S: Final = 5.0
"""Time between two lines of the log about the progress."""


class Drain:
    """The clients of a stopping server. ``counters`` shows how many are left (``draining_clients_num``)."""

    def __init__(
        self,
        listeners: Sequence[Listener],
        shutdown_timeout_s: float,
        counters: Counters,
        *,
        is_slow: bool,
    ) -> None:
        self._listeners = listeners
        self._time_s = shutdown_timeout_s * SHARE
        self._counters = counters
        self.is_slow = is_slow
        """Whether it can be hastened."""
        self._queues: AcceptQueues | None = None
        self._has_ended = False
        self._pause: asyncio.Future[None] | None = None

    def hasten(self) -> bool:
        """Drains quickly from now on. False if that changes nothing."""
        if self._has_ended or not self.is_slow:
            return False
        self.is_slow = False
        self._wake()
        return True

    def follow(self, queues: AcceptQueues) -> None:
        """Another process accepts connections from these queues: a quick drain pauses while they are long."""
        self._queues = queues

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
            self._stop_following()

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
        began = due = reported = clock()
        was_slow: bool | None = None
        pause_s, closed_in_turn = 0.0, 0
        for number, (listener, client) in enumerate(clients):
            left = self._counters.draining_clients_num = len(clients) - number
            if was_slow is not self.is_slow:
                was_slow, due = self.is_slow, clock()
                longest_s = SLOW_PAUSE_S if was_slow else QUICK_PAUSE_S
                pause_s = min(max(began + self._time_s - due, 0) / left, longest_s)
                _log.info("Disconnecting %d clients within %.1f s", left, pause_s * left)
            elif clock() - reported >= PROGRESS_S:
                reported = clock()
                _log.info("Disconnecting clients: %d of %d are left", left, len(clients))
            if client in _connections(listener):
                client.shutdown()
            # Schedules from the beginning: timers are late, and a busy event loop has few turns in a second.
            due += pause_s
            closed_in_turn += 1
            if closed_in_turn == AT_ONCE or due > clock():
                await self._wait(due - clock())
                closed_in_turn = 0
            latest = began + (number + 1) * self._time_s / len(clients)
            if await self._wait_for_successor(latest):
                due = clock()
                closed_in_turn = 0
        if clients:
            _log.info("Disconnected %d clients in %.1f s", len(clients), clock() - began)

    async def _wait_for_successor(self, latest: float) -> bool:
        """Waits while the queues of the other process are long, until ``latest`` at most, when a slow drain would continue. Returns
        whether it waited."""
        clock = asyncio.get_running_loop().time
        began, has_waited = clock(), False
        while self._queues is not None and clock() < latest and self._queues.are_long:
            if clock() - began >= PATIENCE_S:
                _log.warning("The new server accepts too few clients: disconnecting slowly")
                self.is_slow = True
                self._stop_following()
            else:
                has_waited = True
                await self._wait(min(POLL_S, latest - clock()))
        return has_waited

    def _stop_following(self) -> None:
        if self._queues is not None:
            self._queues.close()
            self._queues = None

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
