"""Sends a large reply slice by slice over one socket, and holds messages back for a client that may read slowly.

A slice is encoded and written when the client has read the ones before and the turn of the event loop has budget left: a
large reply blocks neither the event loop nor fills memory. Other writes to the client follow after the reply, in
order, and count as unsent data of a slow client.
Knows: a transport, turns. Does not know: what is sent.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Iterator
from typing import Final, Protocol

import msgspec

from catenary.node.turns import Turns
from catenary.ports import SLICE_BYTES

STEP_US: Final = 100
BYTES_PER_US: Final = 256
"""Cost of a slice in the budget of a turn: encoding, perhaps compression, and the system call."""

STALL_S: Final = 10.0
"""A client that reads nothing of a reply for so long is slow. With large socket buffers and a slow link, the kernel may
accept nothing for some seconds."""


class Sending(Protocol):
    """The connection of one client, as a :class:`SlicedWriter` sees it."""

    write: Callable[[bytes], None]
    """The transport's, except while ``writer`` exists and after the end."""

    @property
    def writer(self) -> "SlicedWriter | None":
        """Exists while large replies are sent."""
        ...

    @writer.setter
    def writer(self, writer: "SlicedWriter | None", /) -> None: ...

    def close_as_slow(self) -> None:
        """Closes the connection, unless it is closed."""
        ...


def write_slices(
    sending: Sending,
    slices: Iterator[bytes],
    transport: asyncio.WriteTransport,
    turns: Turns,
    limits: "UnsentLimits",
) -> "asyncio.Future[None]":
    """Sends a reply after everything that was written. The future is done when its last slice is written, or when the
    connection has ended."""
    if sending.writer is None:
        sending.writer = SlicedWriter(sending, transport, turns, limits)
    return sending.writer.write_slices(slices)


def hold_back(
    sending: Sending, transport: asyncio.WriteTransport, turns: Turns, limits: "UnsentLimits"
) -> None:
    """The write buffer of a client that may read slowly is full: what is written to it from now on waits."""
    sending.writer = SlicedWriter(sending, transport, turns, limits)
    sending.writer.pause()


class UnsentLimits(msgspec.Struct, frozen=True, gc=False):
    """A client is slow if more than ``high_water`` bytes wait for it. If it ``may_be_slow``, they wait here instead of in the
    transport, whose buffer is full with :data:`catenary.ports.SLICE_BYTES`, and it may take as long as it likes."""

    high_water: int
    may_be_slow: bool = False

    @property
    def buffer_bytes(self) -> int:
        """The high-water mark of the transport's write buffer while nothing waits here."""
        return min(SLICE_BYTES, self.high_water) if self.may_be_slow else self.high_water


class SlicedWriter:
    """Exists while large replies are sent to one client, or messages are held back, and replaces its ``write`` meanwhile.

    The client is slow if more than the high-water mark of other writes wait, or if it has read nothing for
    :data:`STALL_S` and must not be slow.
    """

    __slots__ = (
        "_is_paused",
        "_is_scheduled",
        "_is_slow",
        "_limits",
        "_queue",
        "_sending",
        "_stall",
        "_transport",
        "_turns",
        "_waiting_bytes",
        "at_end",
    )

    def __init__(
        self,
        sending: Sending,
        transport: asyncio.WriteTransport,
        turns: Turns,
        limits: UnsentLimits,
    ) -> None:
        self._sending = sending
        self._transport = transport
        self._turns = turns
        self._limits = limits
        # In order: batches, and replies that are encoded slice by slice
        self._queue: deque[bytes | tuple[Iterator[bytes], asyncio.Future[None]]] = deque()
        self._waiting_bytes = 0
        self.at_end: Callable[[], None] | None = None
        """Called when everything is written."""
        # State
        self._is_scheduled = False
        self._is_paused = False
        self._is_slow = False
        self._stall: asyncio.TimerHandle | None = None
        sending.write = self.write
        transport.set_write_buffer_limits(high=min(SLICE_BYTES, limits.high_water))

    def write(self, batch: bytes) -> None:
        """Sends a batch after everything that is queued."""
        self._queue.append(batch)
        self._waiting_bytes += len(batch)
        if self._waiting_bytes > self._limits.high_water:
            self._report_slow()

    def write_slices(self, slices: Iterator[bytes]) -> "asyncio.Future[None]":
        """Sends a reply after everything that is queued. The future is done when its last slice is written."""
        sent: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._queue.append((slices, sent))
        self._schedule()
        return sent

    # Called by the transport's owner

    def pause(self) -> None:
        """The write buffer is full."""
        self._is_paused = True
        if not self._limits.may_be_slow:
            self._start_stall_timer(self._transport.get_write_buffer_size())

    def resume(self) -> None:
        """The write buffer has room again."""
        self._is_paused = False
        self._stop_stall_timer()
        self._schedule()

    def end(self) -> None:
        """The connection is closed: drops the queue and completes its futures."""
        self._stop_stall_timer()
        queue, self._queue = self._queue, deque()
        for each in queue:
            if not isinstance(each, bytes):
                settle(each[1])

    # Slices

    def _schedule(self) -> None:
        if self._is_paused or self._is_scheduled:
            return
        if self._queue:
            self._is_scheduled = True
            self._turns.wait(self._step)
            return
        self._finish()
        if self.at_end is not None:
            self.at_end()

    def tolerate_slowness(self, limits: UnsentLimits) -> None:
        """The client may be slow from now on."""
        self._limits = limits
        self._stop_stall_timer()

    def _finish(self) -> None:
        """Nothing is left: the connection writes to its transport again, unless it has ended."""
        self._sending.writer = None
        if self._sending.write == self.write:
            self._sending.write = self._transport.write
        self._transport.set_write_buffer_limits(high=self._limits.buffer_bytes)

    def _step(self) -> None:
        self._is_scheduled = False
        if self._transport.is_closing():
            self.end()
        elif not self._is_paused:
            batch = self._next()
            self._turns.spend(STEP_US + len(batch) // BYTES_PER_US)
            if batch:
                self._transport.write(batch)
            self._schedule()

    def _next(self) -> bytes:
        """The next slice of a reply, or about a slice of other writes."""
        if not self._queue:
            return b""
        first = self._queue[0]
        if isinstance(first, bytes):
            return self._next_batches()
        slices, sent = first
        try:
            for each in slices:
                return each
        except Exception as error:  # noqa: BLE001  (raised by the future)
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

    def _start_stall_timer(self, size: int) -> None:
        self._stop_stall_timer()
        self._stall = asyncio.get_running_loop().call_later(STALL_S, self._check_progress, size)

    def _stop_stall_timer(self) -> None:
        if self._stall is not None:
            self._stall.cancel()
            self._stall = None

    def _check_progress(self, size: int) -> None:
        now = self._transport.get_write_buffer_size()
        if now < size:
            self._start_stall_timer(now)
        else:
            self._report_slow()

    def _report_slow(self) -> None:
        if not self._is_slow:
            self._is_slow = True
            # Not called here: the caller may be in the middle of a delivery.
            asyncio.get_running_loop().call_soon(self._sending.close_as_slow)


def settle(sent: "asyncio.Future[None]", error: Exception | None = None) -> None:
    """Completes a future, unless it was cancelled."""
    if sent.done():
        return
    if error is None:
        sent.set_result(None)
    else:
        sent.set_exception(error)
