"""The sending side of a connection in another ASGI server (the host), as a transport of asyncio.

``write`` queues a batch and returns; a task, which exists only while the queue is not empty, awaits the host's ``send``
for each event in order. A slow client is detected only if ``send`` waits for the client's socket, as in uvicorn
and hypercorn.
Source: ASGI 3.0, https://asgi.readthedocs.io/en/latest/specs/www.html.
Knows: ASGI events. Does not know: what is sent.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from typing import Final, Protocol

from starlette.types import Message, Send

from catenary.logs.rate_limited import RateLimitedLogger

_limited: Final = RateLimitedLogger(logging.getLogger("catenary.asgi"))


class FlowControl(Protocol):
    """Is notified of a full write buffer, like a protocol of asyncio."""

    def pause_writing(self) -> None:
        """The write buffer exceeds the high-water mark."""
        ...

    def resume_writing(self) -> None:
        """The write buffer is down to the low-water mark again."""
        ...


class AsgiTransport(asyncio.WriteTransport):
    """Sends batches as events, in order. ``events`` converts a batch into events; :meth:`close` sends ``last`` after
    everything else."""

    __slots__ = (
        "_events",
        "_flow",
        "_high",
        "_is_closing",
        "_is_paused",
        "_last",
        "_low",
        "_queue",
        "_send",
        "_sending",
        "_size",
        "_time",
    )

    def __init__(
        self,
        send: Send,
        flow: FlowControl,
        events: Callable[[bytes], Iterable[Message]],
        *,
        last: Message | None = None,
    ) -> None:
        super().__init__()
        self._send = send
        self._flow: FlowControl | None = flow
        self._events = events
        self._last = last
        # Unsent items, and the size of the batches among them
        self._queue: deque[bytes | Message] = deque()
        self._size = 0
        self._sending: asyncio.Task[None] | None = None
        self._is_closing = False
        # Backpressure
        self.set_write_buffer_limits()
        self._is_paused = False
        # Exists while the host's events are awaited
        self._time: asyncio.Timeout | None = None

    # The end of the connection

    async def until_ended(self, listen: Callable[[], Awaitable[None]]) -> None:
        """Awaits ``listen``, which reads the host's events, and cancels it when the connection was closed by this side and
        everything is sent, or was aborted."""
        timeout = self._time = asyncio.timeout(None)
        try:
            async with timeout:
                await listen()
        except TimeoutError:
            if not timeout.expired():
                raise
        finally:
            self._time = None

    async def flush(self, timeout_s: float) -> None:
        """Waits until everything is sent, for at most ``timeout_s``."""
        if self._sending is not None:
            await asyncio.wait([self._sending], timeout=timeout_s)

    async def stop(self) -> None:
        """Drops unsent items, and stops notifying the ``flow``."""
        self._is_closing = True
        self._flow = None
        self._queue.clear()
        if self._sending is not None:
            self._sending.cancel()
            await asyncio.wait([self._sending])

    # asyncio.WriteTransport

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Queues a batch. Ignored once the connection is closing."""
        if self._is_closing:
            return
        self._size += len(data)
        self._put(bytes(data))
        if self._size > self._high and not self._is_paused and self._flow is not None:
            self._is_paused = True
            self._flow.pause_writing()

    def send(self, event: Message) -> None:
        """Queues an event of ASGI after everything written so far."""
        if not self._is_closing:
            self._put(event)

    def close(self) -> None:
        """Ends the connection when everything is sent."""
        if self._is_closing:
            return
        if self._last is not None:
            self._put(self._last)
        self._is_closing = True
        if self._sending is None:
            self._end()

    def abort(self) -> None:
        """Ends the connection at once."""
        self._is_closing = True
        self._queue.clear()
        self._end()

    def is_closing(self) -> bool:
        return self._is_closing

    def can_write_eof(self) -> bool:
        return False

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """In bytes, as asyncio's."""
        self._high = 65_536 if high is None else high
        self._low = self._high // 4 if low is None else low

    def get_write_buffer_size(self) -> int:
        """Bytes of batches that the host has not taken yet."""
        return self._size

    # Sending

    def _put(self, item: bytes | Message) -> None:
        self._queue.append(item)
        if self._sending is None:
            self._sending = asyncio.get_running_loop().create_task(self._send_all())

    async def _send_all(self) -> None:
        try:
            while self._queue:
                item = self._queue.popleft()
                if not isinstance(item, bytes):
                    await self._send(item)
                    continue
                for event in self._events(item):
                    await self._send(event)
                self._note_sent(len(item))
        except Exception as error:  # noqa: BLE001
            # The host raises an error of its own for a client that has left.
            _limited.debug("Not sent: %r", error)
            self.abort()
        else:
            if self._is_closing:
                self._end()
        finally:
            self._sending = None

    def _note_sent(self, size: int) -> None:
        self._size -= size
        if self._is_paused and self._size <= self._low:
            self._is_paused = False
            if self._flow is not None:
                self._flow.resume_writing()

    def _end(self) -> None:
        if self._time is not None and not self._time.expired():
            self._time.reschedule(asyncio.get_running_loop().time())
