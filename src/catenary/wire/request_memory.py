"""Limits the memory of all incomplete requests of a process together.

Each connection has limits for a head and a body; ten thousand connections need a common one.
Knows: sizes, and the order in which requests began. Does not know: bytes, sockets.
"""

from collections import OrderedDict
from collections.abc import Callable
from typing import Protocol

from catenary.errors import RequestRefused
from catenary.metrics.counters import Counters
from catenary.wire.retry_after import retry_after


class Holder(Protocol):
    """A connection that holds a part of a request until the rest arrives."""

    def give_up(self) -> None:
        """Drops the bytes and refuses the request. Its size is not counted any more."""
        ...


class RequestMemory:
    """Refuses the oldest requests while all together hold more than ``limit_bytes``; 0 means no limit.

    Updates ``pending_requests_bytes`` and ``refused_requests_total``.
    """

    __slots__ = ("_counters", "_limit", "_sizes")

    def __init__(self, limit_bytes: int, counters: Counters) -> None:
        self._limit = limit_bytes
        self._counters = counters
        # Insertion order is the order of age: a size that changes keeps its position. Finding the first key of a dict takes
        # longer the more keys before it were deleted.
        self._sizes: OrderedDict[Holder, int] = OrderedDict()

    def hold(self, holder: Holder, size: int) -> None:
        """A holder holds ``size`` bytes in total. May call ``give_up`` of this holder or of others."""
        counters = self._counters
        counters.pending_requests_bytes += size - self._sizes.get(holder, 0)
        self._sizes[holder] = size
        while counters.pending_requests_bytes > self._limit > 0:
            oldest = next(iter(self._sizes))
            self.release(oldest)
            counters.refused_requests_total += 1
            oldest.give_up()

    def release(self, holder: Holder) -> None:
        """The request is complete, refused or lost; does nothing if the holder holds nothing."""
        self._counters.pending_requests_bytes -= self._sizes.pop(holder, 0)


def too_many() -> RequestRefused:
    """The response to a request that had to give up."""
    return RequestRefused(503, "too many unfinished requests", retry_after())


class PendingBody:
    """A body that arrives in pieces. They are joined at once, because a list of tiny ones would take fifty times their
    size. Satisfies :class:`Holder`."""

    __slots__ = ("_body", "_interrupt", "_limit", "_memory", "is_given_up")

    def __init__(
        self, memory: RequestMemory, limit_bytes: int, interrupt: Callable[[], object]
    ) -> None:
        """``interrupt`` is called when the body is given up, to end the wait for the next piece."""
        self._memory = memory
        self._limit = limit_bytes
        self._interrupt = interrupt
        self._body = bytearray()
        self.is_given_up = False

    def add(self, piece: bytes) -> None:
        """Adds a piece. Raises :class:`RequestRefused`: 413 if the body is too large, 503 if it was given up."""
        if len(self._body) + len(piece) > self._limit:
            raise RequestRefused(413, f"expected a body of up to {self._limit} bytes")
        if not self.is_given_up:
            self._body += piece
            self._memory.hold(self, len(self._body))
        if self.is_given_up:
            raise too_many()

    def taken(self) -> bytes:
        """Returns the whole body."""
        return bytes(self._body)

    def give_up(self) -> None:
        self.is_given_up = True
        self._body.clear()
        self._interrupt()

    def close(self) -> None:
        """Releases the memory. Called once, when nothing more is added."""
        self._memory.release(self)
