"""The end of a server, spread over a while: clients are told to come back one after the other.

A crowd that is told in one moment comes back in one moment, to servers that have others to serve.
Source: "Slow drain mode" of docs/configuration.md (anycable). Knows: time, listeners, WebSockets.
Does not know: what comes behind.
"""

import asyncio
import logging
from collections.abc import Sequence
from typing import Final

from catenary.server.lifecycle import Listener
from catenary.transports.websocket import WebSocketConnection

_log: Final = logging.getLogger("catenary.server")

SHARE: Final = 0.8
"""The part of the time for a shutdown: what is left is for close frames and Disconnect calls. The
reference takes 24.7 of 30 s."""

LONGEST_PAUSE_S: Final = 0.5
"""Between two clients, as there: a few of them need not wait for as long as many."""


async def drain(listeners: Sequence[Listener], shutdown_timeout_s: float) -> None:
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
    pause_s = min(shutdown_timeout_s * SHARE / len(served), LONGEST_PAUSE_S)
    _log.info("Draining %d clients slowly, for %.1f s", len(served), pause_s * len(served))
    clock = asyncio.get_running_loop().time
    began = clock()
    for number, (listener, client) in enumerate(served, 1):
        if client in listener.server_state.connections:
            client.shutdown()
        # By the clock and not by pauses, which last longer than they should.
        await asyncio.sleep(max(began + number * pause_s - clock(), 0))
