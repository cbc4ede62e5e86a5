"""One end of the socket between a serving process and a code worker.

Messages that are sent in one turn of the event loop leave in one write.
Knows: a transport, the framing of messages. Does not know: what they mean.
"""

import asyncio
from collections.abc import Callable
from typing import Generic, TypeVar, cast

from catenary.codeworkers.messages import FromWorker, MessageSplitter, ToWorker, write

Received = TypeVar("Received")


class IpcProtocol(asyncio.Protocol, Generic[Received]):
    """Sends and receives messages. Belongs to the running loop."""

    def __init__(
        self,
        read: Callable[[memoryview], Received],
        receive: Callable[[Received], None],
        lost: Callable[[], None],
    ) -> None:
        """``read`` decodes a message. ``receive`` is called for each message, in order; ``lost`` once, when
        the connection is lost."""
        self._read = read
        self._receive = receive
        self._lost = lost
        self._splitter = MessageSplitter()
        self._out = bytearray()
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None

    @property
    def is_open(self) -> bool:
        """False once the connection is lost."""
        return self._transport is not None

    def send(self, message: ToWorker | FromWorker) -> None:
        """Sends in this turn of the loop, or does nothing if the connection is lost.

        Raises ValueError for text that is not Unicode.
        """
        if self._transport is None:
            return
        if not self._out:
            write(message, self._out)
            self._loop.call_soon(self._flush)
        else:
            write(message, self._out)

    def close(self) -> None:
        """Closes after everything is sent."""
        self._flush()
        if self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        """Closes at once."""
        if self._transport is not None:
            self._transport.abort()

    def _flush(self) -> None:
        # uvloop raises when a closed transport is written to.
        if self._out and self._transport is not None and not self._transport.is_closing():
            out, self._out = self._out, bytearray()
            self._transport.write(out)

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        for message in self._splitter.feed(data):
            self._receive(self._read(message))

    def connection_lost(self, error: Exception | None) -> None:
        self._transport = None
        self._lost()
