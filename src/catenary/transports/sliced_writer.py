"""Answers that are larger than a turn of the event loop may hold, sent slice by slice over one socket.

The next slice is encoded and written when its turn has come and the client has read what was written before, so
that a large answer holds neither the loop nor memory. Whatever else is written to the client meanwhile follows
after the answer, in order, and counts as waiting for a slow client.
Knows: a transport, turns. Does not know: what is sent.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Iterator
from typing import Final

from catenary.node.turns import Turns
from catenary.ports import SLICE_BYTES

STEP_US: Final = 100
BYTES_PER_US: Final = 256
"""What a slice costs of a turn: to encode it, perhaps to compress it, and to hand it to the kernel."""

STALL_S: Final = 10.0
"""A client that takes nothing of an answer for so long is too slow. A kernel that is told to keep much for a slow
link may take nothing more for some seconds."""


class SlicedWriter:
    """Exists while answers are on their way to one client; ``finished`` is called when none is left.

    ``too_slow`` is called once, where more than ``limit_bytes`` wait for the client, or nothing has moved
    for :data:`STALL_S`.
    """

    __slots__ = (
        "_finished",
        "_is_in_line",
        "_is_paused",
        "_is_slow",
        "_limit_bytes",
        "_queue",
        "_stall",
        "_too_slow",
        "_transport",
        "_turns",
        "_waiting_bytes",
        "at_end",
    )

    def __init__(
        self,
        transport: asyncio.WriteTransport,
        turns: Turns,
        limit_bytes: int,
        *,
        too_slow: Callable[[], None],
        finished: Callable[[], None],
    ) -> None:
        self._transport = transport
        self._turns = turns
        self._limit_bytes = limit_bytes
        self._too_slow = too_slow
        self._finished = finished
        # What is to be sent, in order: batches, and answers that are encoded when their turn comes
        self._queue: deque[bytes | tuple[Iterator[bytes], asyncio.Future[None]]] = deque()
        self._waiting_bytes = 0
        self.at_end: Callable[[], None] | None = None
        """Called when everything is written."""
        # Where it stands
        self._is_in_line = False
        self._is_paused = False
        self._is_slow = False
        self._stall: asyncio.TimerHandle | None = None

    def write(self, batch: bytes) -> None:
        """Sends a batch after everything that was to be sent before."""
        self._queue.append(batch)
        self._waiting_bytes += len(batch)
        if self._waiting_bytes > self._limit_bytes:
            self._give_up()

    def write_slices(self, slices: Iterator[bytes]) -> "asyncio.Future[None]":
        """Sends an answer after everything before it. Done when the client has room for more."""
        sent: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._queue.append((slices, sent))
        self._go_on()
        return sent

    # What the transport says

    def pause(self) -> None:
        """As much waits for the socket as may."""
        self._is_paused = True
        self._watch(self._transport.get_write_buffer_size())

    def resume(self) -> None:
        """There is room again."""
        self._is_paused = False
        self._unwatch()
        self._go_on()

    def end(self) -> None:
        """The connection is gone, or what is left of an answer is of no use."""
        self._unwatch()
        queue, self._queue = self._queue, deque()
        for each in queue:
            if not isinstance(each, bytes):
                settle(each[1])

    # Slices

    def _go_on(self) -> None:
        if self._is_paused or self._is_in_line:
            return
        if self._queue:
            self._is_in_line = True
            self._turns.wait(self._step)
            return
        self._finished()
        if self.at_end is not None:
            self.at_end()

    def _step(self) -> None:
        self._is_in_line = False
        if self._transport.is_closing():
            self.end()
        elif not self._is_paused:
            batch = self._next()
            self._turns.spend(STEP_US + len(batch) // BYTES_PER_US)
            if batch:
                self._transport.write(batch)
            self._go_on()

    def _next(self) -> bytes:
        """The next slice, or as much as a slice of what was written meanwhile."""
        if not self._queue:
            return b""
        first = self._queue[0]
        if isinstance(first, bytes):
            return self._next_batches()
        slices, sent = first
        try:
            for each in slices:
                return each
        except Exception as error:  # noqa: BLE001  (whoever waits for the answer reports it)
            settle(sent, error)
        else:
            settle(sent)
        self._queue.popleft()
        return b""

    def _next_batches(self) -> bytes:
        batches: list[bytes] = []
        size = 0
        while self._queue and size < SLICE_BYTES:
            batch = self._queue[0]
            if not isinstance(batch, bytes):
                break
            batches.append(batch)
            size += len(batch)
            self._queue.popleft()
        self._waiting_bytes -= size
        return b"".join(batches)

    # Slow clients

    def _watch(self, size: int) -> None:
        self._unwatch()
        self._stall = asyncio.get_running_loop().call_later(STALL_S, self._look, size)

    def _unwatch(self) -> None:
        if self._stall is not None:
            self._stall.cancel()
            self._stall = None

    def _look(self, size: int) -> None:
        now = self._transport.get_write_buffer_size()
        if now < size:
            self._watch(now)
        else:
            self._give_up()

    def _give_up(self) -> None:
        if not self._is_slow:
            self._is_slow = True
            # Never closed here, in the middle of a delivery.
            asyncio.get_running_loop().call_soon(self._too_slow)


def settle(sent: "asyncio.Future[None]", error: Exception | None = None) -> None:
    """Ends a wait, unless whoever waited has given up."""
    if sent.done():
        return
    if error is None:
        sent.set_result(None)
    else:
        sent.set_exception(error)
