"""The end of a server, spread over a while: clients are told to come back one after the other.

A crowd that is told in one moment comes back in one moment, to servers that have others to serve.
Source: "Slow drain mode" of docs/configuration.md (anycable). Knows: time, listeners, WebSockets.
Does not know: what comes behind.
"""

import asyncio
import logging
from collections.abc import Sequence
from typing import Final

import msgspec

from catenary.server.lifecycle import Listener
from catenary.transports.websocket import WebSocketConnection

_log: Final = logging.getLogger("catenary.server")


class Pace(msgspec.Struct, frozen=True):
    """How many clients are told in a while: ``share`` is the part of the time for a shutdown that they
    are spread over at most, because close frames and Disconnect calls take time, too;
    ``longest_pause_s`` lies between two of them, so that few need not wait for as long as many."""

    share: float
    longest_pause_s: float


QUICK: Final = Pace(0.2, 1 / 5_000)
"""A thousand clients are told within 0.2 s: others can take that many in."""

SLOW: Final = Pace(0.8, 0.5)
"""As the reference, which takes 24.7 of 30 s."""


async def drain(listeners: Sequence[Listener], shutdown_timeout_s: float, pace: Pace) -> None:
    """Says goodbye to all clients, evenly over a part of the time that a shutdown may take.

    Where they were let in, nobody else is from now on; everything else goes on as before: those who
    have not been told yet hear what is published.
    """
    served = [
        (listener, client)
        for listener in listeners
        for client in listener.server_state.connections
        if isinstance(client, WebSocketConnection)
    ]
    for listener in dict.fromkeys(listener for listener, _ in served):
        listener.close_door()
    if not served:
        return
    pause_s = min(shutdown_timeout_s * pace.share / len(served), pace.longest_pause_s)
    _log.info("Telling %d clients to come back, for %.1f s", len(served), pause_s * len(served))
    clock = asyncio.get_running_loop().time
    began = clock()
    for number, (listener, client) in enumerate(served, 1):
        if client in listener.server_state.connections:
            client.shutdown()
        # By the clock and not by pauses, which last longer than they should.
        await asyncio.sleep(max(began + number * pause_s - clock(), 0))
