"""A WebSocket that is closed right after its handshake: its client offers no subprotocol of the endpoint.

For protocols whose clients expect a close frame then, not an HTTP status. Knows: a transport, close frames. Does not know: the
protocols.
"""

import asyncio
from typing import Final

from catenary.transports.websocket import WebSocketLimits
from catenary.wire.frames import Close, FrameReader, close_frame


class UnspokenWebSocket:
    """Satisfies :class:`catenary.edge.connection.Stage`. ``response`` accepts the handshake; the connection is aborted if the
    client does not answer the close frame within ``limits.close_timeout_s``."""

    __slots__ = ("_close", "_reader", "_response", "_timeout_s", "_timer", "_transport")

    is_client: Final = False

    def __init__(
        self,
        transport: asyncio.Transport,
        response: bytes,
        code: int,
        text: str,
        limits: WebSocketLimits,
    ) -> None:
        self._transport = transport
        self._response = response
        self._close = close_frame(code, text)
        self._timeout_s = limits.close_timeout_s
        self._reader = FrameReader(limits.max_message_bytes)
        self._timer: asyncio.TimerHandle | None = None

    def begin(self, rest: bytes) -> None:
        transport = self._transport
        transport.write(self._response + self._close)
        if transport.can_write_eof():
            transport.write_eof()
        # Not closed at once: a reset would destroy the close frame on its way to a client that has sent something.
        self._timer = asyncio.get_running_loop().call_later(self._timeout_s, transport.abort)
        self.receive(rest)

    def receive(self, data: bytes) -> None:
        """Waits for the close frame of the client: everything else was sent before it has read ours."""
        if any(isinstance(each, Close) for each in self._reader.receive(data)):
            self._transport.close()

    def eof(self) -> bool:
        return False

    def pause_writing(self) -> None:
        """Does nothing: the response is short."""

    def resume_writing(self) -> None:
        """See :meth:`pause_writing`."""

    def lost(self, exc: Exception | None) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def shutdown(self) -> None:
        self._transport.close()
