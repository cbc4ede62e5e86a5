"""The body of one HTTP request, read within limits of size, memory and time.

Knows: bytes of a body, deadlines. Does not know: what they mean, how a response is sent.
"""

from collections.abc import Callable

import msgspec

from catenary.edge.deadlines import Deadlines
from catenary.errors import RequestRefused
from catenary.metrics.counters import Counters
from catenary.wire.request_bodies import BodyReader
from catenary.wire.request_memory import PendingBody, RequestMemory, too_many


class BodyReading(msgspec.Struct, frozen=True, eq=False):
    """Shared by all bodies of one endpoint. ``max_bytes`` limits one of them, ``memory`` all unfinished ones together,
    ``deadlines`` the time of each."""

    max_bytes: int
    deadlines: Deadlines
    memory: RequestMemory
    counters: Counters


class RequestBody:
    """Satisfies :class:`catenary.ports.Waiting`. Calls ``complete`` with the whole body or ``refuse``, once, unless it is
    closed before."""

    __slots__ = ("_complete", "_pending", "_reader", "_reading", "_refuse")

    def __init__(
        self,
        reading: BodyReading,
        reader: BodyReader,
        complete: Callable[[bytes], None],
        refuse: Callable[[RequestRefused], None],
    ) -> None:
        """``reader`` finds the end of the body; for a reader that can't, :meth:`end` is called."""
        self._reading = reading
        self._reader = reader
        self._complete = complete
        self._refuse = refuse
        self._pending: PendingBody | None = PendingBody(
            reading.memory, reading.max_bytes, self._give_up
        )
        reading.deadlines.watch(self)

    def receive(self, data: bytes) -> bytes:
        """Adds a piece; returns the bytes that follow the body. After :meth:`close` the rest of the body is discarded."""
        reader = self._reader
        try:
            part, rest = (b"", data) if reader.is_complete else reader.receive(data)
            if self._pending is not None:
                self._pending.add(part)
        except RequestRefused as refused:
            self._end_with(refused)
            return b""
        if reader.is_complete:
            self.end()
        return rest

    def end(self) -> None:
        """The body is complete."""
        if self._pending is not None:
            body = self._pending.taken()
            self.close()
            self._complete(body)

    def close(self) -> None:
        """Releases the memory: nothing is called any more."""
        if self._pending is not None:
            self._reading.deadlines.forget(self)
            self._pending.close()
            self._pending = None

    def time_out(self) -> None:
        """The body is not complete in time."""
        self._reading.counters.late_handshakes_total += 1
        seconds = self._reading.deadlines.timeout_s
        self._end_with(RequestRefused(408, f"expected a body within {seconds:g} s"))

    def _give_up(self) -> None:
        """There is no memory for it."""
        self._end_with(too_many())

    def _end_with(self, refused: RequestRefused) -> None:
        if self._pending is not None:
            self.close()
            self._refuse(refused)
