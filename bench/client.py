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
from catenary.terminal.counting import PATIENCE_S, CountingClient

CANARY: Final = b"canary"
"""Text of a message that only shows that publications arrive."""

WHISPER: Final = "whispered"
"""Text of a message from another client."""

_WHISPER: Final = WHISPER.encode()

ECHO_IDENTIFIER: Final = '{"channel":"Echo"}'


class Tally(counting.Tally):
    """Counts of all clients together, and whether any of them received a canary."""

    __slots__ = ("_whispers_awaited", "_whispers_received", "canary_received", "whispers")

    def __init__(self) -> None:
        super().__init__()
        self.canary_received = asyncio.Event()
        self.whispers = 0
        self._whispers_awaited = 0
        self._whispers_received = asyncio.Event()

    def add_whisper(self) -> None:
        """Adds a whisper that has arrived."""
        self.whispers += 1
        if self.whispers >= self._whispers_awaited:
            self._whispers_received.set()

    async def wait_for_whispers(self, count: int) -> None:
        """Waits until ``count`` whispers have arrived in total. Raises TimeoutError after PATIENCE_S."""
        self._whispers_awaited = count
        if self.whispers < count:
            self._whispers_received.clear()
            async with asyncio.timeout(PATIENCE_S):
                await self._whispers_received.wait()


class Listener(CountingClient):
    """Subscribes to a public stream, by its number."""

    __slots__ = ("_counts",)

    def __init__(
        self, tally: Tally, sent: array[float], opening: HandshakeRequest, stream: int
    ) -> None:
        identifier = f'{{"channel":"$pubsub","stream_name":"s{stream}"}}'
        super().__init__(tally, sent, opening, identifier)
        self._counts = tally

    def whisper(self) -> None:
        """Sends a message to the other clients of its stream."""
        self.command("whisper", data=WHISPER)

    def message_received(self, payload: bytes) -> None:
        if CANARY in payload:
            self._counts.canary_received.set()
        elif _WHISPER in payload:
            self._counts.add_whisper()
        else:
            super().message_received(payload)


class PusherListener(Listener):
    """Subscribes to a public channel of Pusher's protocol."""

    __slots__ = ("_channel",)

    def __init__(
        self, tally: Tally, sent: array[float], opening: HandshakeRequest, stream: int
    ) -> None:
        super().__init__(tally, sent, opening, stream)
        self._channel = f"s{stream}"

    def message_received(self, payload: bytes) -> None:
        if b'"pusher:connection_established"' in payload:
            self.send(
                b'{"event":"pusher:subscribe","data":{"auth":"","channel":"%b"}}'
                % self._channel.encode()
            )
        elif b'"pusher_internal:subscription_succeeded"' in payload:
            self._is_ready()
        elif b'"pusher:ping"' in payload:
            self.send(b'{"event":"pusher:pong","data":{}}')
        else:
            super().message_received(payload)


def handshake(port: int, *, extended: bool = False, token: str = "") -> HandshakeRequest:
    """The opening handshake for a server on 127.0.0.1; an extended client resumes its session."""
    target = f"/cable?jid={token}" if token else "/cable"
    return HandshakeRequest(
        address=_address(port, target), subprotocols=(EXTENDED if extended else SUBPROTOCOL,)
    )


def pusher_handshake(port: int) -> HandshakeRequest:
    """The opening handshake of a Pusher client, of the app whose key is ``key``."""
    target = "/app/key?protocol=7&client=js&version=8.6.0&flash=false"
    return HandshakeRequest(address=_address(port, target), subprotocols=())


def _address(port: int, target: str) -> CableAddress:
    return CableAddress(
        host="127.0.0.1",
        port=port,
        authority=f"127.0.0.1:{port}",
        target=target,
        is_secure=False,
    )
