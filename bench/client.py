"""The clients of the load generator: those of ``catenary bench``, which also wait until publications arrive.

Knows: which channel a client subscribes to. Does not know: what is published, or when.
"""

from __future__ import annotations  # array[float], which Python 3.11 can't evaluate

import asyncio
from array import array
from typing import Final

from catenary.protocols.actioncable_json import EXTENDED, SUBPROTOCOL
from catenary.terminal import counting
from catenary.terminal.cable_socket import CableAddress, HandshakeRequest
from catenary.terminal.counting import CountingClient

CANARY: Final = b"canary"
"""Text of a message that only shows that publications arrive."""

ECHO_IDENTIFIER: Final = '{"channel":"Echo"}'


class Tally(counting.Tally):
    """Counts of all clients together, and whether any of them received a canary."""

    __slots__ = ("canary_received",)

    def __init__(self) -> None:
        super().__init__()
        self.canary_received = asyncio.Event()


class Listener(CountingClient):
    """Subscribes to a public stream, by its number."""

    __slots__ = ("_canary_received",)

    def __init__(
        self, tally: Tally, sent: array[float], opening: HandshakeRequest, stream: int
    ) -> None:
        identifier = f'{{"channel":"$pubsub","stream_name":"s{stream}"}}'
        super().__init__(tally, sent, opening, identifier)
        self._canary_received = tally.canary_received

    def message_received(self, payload: bytes) -> None:
        if CANARY in payload:
            self._canary_received.set()
        else:
            super().message_received(payload)


def handshake(port: int, *, extended: bool = False, token: str = "") -> HandshakeRequest:
    """The opening handshake for a server on 127.0.0.1; an extended client resumes its session."""
    where = CableAddress(
        host="127.0.0.1",
        port=port,
        authority=f"127.0.0.1:{port}",
        target=f"/cable?jid={token}" if token else "/cable",
        is_secure=False,
    )
    return HandshakeRequest(address=where, subprotocols=(EXTENDED if extended else SUBPROTOCOL,))
