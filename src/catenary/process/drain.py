"""Closes the clients of a stopping server one after the other.

Clients that are closed in one moment reconnect in one moment, to servers that have others to serve.
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
    """How fast clients are closed: ``share`` is the part of the shutdown timeout that they are spread over
    at most, because close frames and Disconnect calls take time, too; ``longest_pause_s`` lies between
    two of them, so that a few clients take less time than many."""

    share: float
    longest_pause_s: float


QUICK: Final = DrainRate(0.2, 1 / 5_000)
"""A thousand clients are closed within 0.2 s: others can take that many in."""

SLOW: Final = DrainRate(0.8, 0.5)
"""As the reference, which takes 24.7 of 30 s."""


async def drain(listeners: Sequence[Listener], shutdown_timeout_s: float, rate: DrainRate) -> None:
    """Says goodbye to all clients, evenly over a part of the shutdown timeout.

    Ports with clients accept no new connections from now on; everything else goes on as before:
    clients that were not closed yet receive what is published.
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
    _log.info("Telling %d clients to come back, for %.1f s", len(clients), pause_s * len(clients))
    clock = asyncio.get_running_loop().time
    began = clock()
    for number, (listener, client) in enumerate(clients, 1):
        if client in _connections(listener):
            client.shutdown()
        # Scheduled from the beginning, not by pauses, which last longer than they should.
        await asyncio.sleep(max(began + number * pause_s - clock(), 0))


def _connections(listener: Listener) -> set[object]:
    """uvicorn's, which knows protocols of its own only."""
    return cast("set[object]", listener.server_state.connections)
