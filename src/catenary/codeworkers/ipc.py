"""One end of the socket between a serving process and a code worker.

What is sent in one turn of the loop leaves in one write.
Knows: a transport, and how messages are cut. Does not know: what they mean.
"""

import asyncio
from collections.abc import Callable
from typing import Generic, TypeVar, cast

from catenary.codeworkers.messages import Frames, FromWorker, ToWorker, write

Heard = TypeVar("Heard")


class IpcProtocol(asyncio.Protocol, Generic[Heard]):
    """Sends messages, and hands over those that come. Belongs to the running loop."""

    def __init__(
        self,
        read: Callable[[memoryview], Heard],
        hear: Callable[[Heard], None],
        lost: Callable[[], None],
    ) -> None:
        """``hear`` is called for each message, in order; ``lost`` once, when the other end is gone."""
        self._read = read
        self._hear = hear
        self._lost = lost
        self._frames = Frames()
        self._out = bytearray()
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None

    @property
    def is_open(self) -> bool:
        """The other end has not gone."""
        return self._transport is not None

    def send(self, message: ToWorker | FromWorker) -> None:
        """Sends within this turn of the loop; nothing happens where the other end is gone.

        Raises ValueError for text that is no Unicode.
        """
        if self._transport is None:
            return
        if not self._out:
            write(message, self._out)
            self._loop.call_soon(self._flush)
        else:
            write(message, self._out)

    def close(self) -> None:
        """Closes when everything is sent."""
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

    # What the transport calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        for message in self._frames.feed(data):
            self._hear(self._read(message))

    def connection_lost(self, error: Exception | None) -> None:
        self._transport = None
        self._lost()
