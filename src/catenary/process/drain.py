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


async def drain(listeners: Sequence[Listener], shutdown_timeout_s: float, rate: DrainRate) -> None:
    """Closes all clients, evenly spread over a part of the shutdown timeout.

    Ports with clients accept no new connections from now on. Clients that are not closed yet are served: they
    receive what is published.
    """
    clients = [
        (listener, each)
        for listener in listeners
        for each in _connections(listener)
        if isinstance(each, ClientConnection) and each.is_client
    ]
    for listener in dict.fromkeys(listener for listener, _ in clients):
        listener.stop_accepting()
    if not clients:
        return
    pause_s = min(shutdown_timeout_s * rate.share / len(clients), rate.longest_pause_s)
    _log.info("Disconnecting %d clients within %.1f s", len(clients), pause_s * len(clients))
    clock = asyncio.get_running_loop().time
    began = clock()
    for number, (listener, client) in enumerate(clients, 1):
        if client in _connections(listener):
            client.shutdown()
        # Schedules from the beginning, so that timer lateness does not accumulate.
        await asyncio.sleep(max(began + number * pause_s - clock(), 0))


def _connections(listener: Listener) -> set[object]:
    """Uvicorn's set; its type names uvicorn's own protocols only."""
    return cast("set[object]", listener.server_state.connections)
