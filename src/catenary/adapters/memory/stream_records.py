"""The records of durable streams of a single node, in its memory."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

import msgspec

from catenary.broker.timer_wheel import TimerWheel
from catenary.messages.names import Stream
from catenary.messages.publications import Publication, Publishable

SWEEP: Final = 5_000
"""Records examined in one sweep: 2 to 5 ms."""


class _Kept(msgspec.Struct, gc=False):
    """A record and when it expires; after that, the stream is gone until ``gone_until``."""

    record: bytes
    expires_at: float
    gone_until: float


class LocalStreamRecords:
    """Satisfies :class:`catenary.ports.StreamRecords`.

    ``send`` is that of the pub/sub, ``gone_s`` the time for which the history may keep messages, ``clock`` monotonic in
    seconds.
    """

    __slots__ = ("_clock", "_gone_s", "_kept", "_send", "_wheel")

    def __init__(
        self,
        send: Callable[[tuple[Publishable, ...]], Awaitable[None] | None],
        *,
        gone_s: float,
        clock: Callable[[], float],
    ) -> None:
        self._send = send
        self._gone_s = gone_s
        self._clock = clock
        self._kept: dict[Stream, _Kept] = {}
        self._wheel = TimerWheel[Stream](gone_s)

    @property
    def streams(self) -> int:
        """The number of streams with a record, or gone."""
        return len(self._kept)

    def read(self, stream: Stream) -> bytes | None:
        """Returns the record; empty if the stream is gone, None if it is unknown."""
        kept = self._kept.get(stream)
        if kept is None or kept.gone_until <= self._clock():
            return None
        return kept.record if kept.expires_at > self._clock() else b""

    def touch(self, stream: Stream, ttl_s: float) -> None:
        """Starts the time to live of a record again."""
        if self.read(stream):
            self._schedule(stream, self._kept[stream], ttl_s)

    def write(
        self,
        stream: Stream,
        expected: bytes,
        record: bytes,
        ttl_s: float,
        publications: tuple[Publication, ...] = (),
    ) -> bool | Awaitable[bool]:
        """Replaces the record, and sends the messages. Awaiting raises :class:`BackendError` if too many wait; then the
        record is not replaced."""
        if (self.read(stream) or b"") != expected:
            return False
        sent = self._send(publications) if publications else None
        if isinstance(sent, asyncio.Future) and sent.done():
            return _true_after(sent)
        kept = self._kept.get(stream)
        if kept is None:
            kept = self._kept[stream] = _Kept(record, 0, 0)
        kept.record = record
        self._schedule(stream, kept, ttl_s if record else 0)
        return True if sent is None else _true_after(sent)

    def _schedule(self, stream: Stream, kept: _Kept, ttl_s: float) -> None:
        kept.expires_at = self._clock() + ttl_s
        kept.gone_until = kept.expires_at + self._gone_s
        self._wheel.schedule(stream, kept.gone_until)

    def sweep(self) -> bool:
        """Forgets streams. Returns True if it stopped early and more may be due."""
        now = self._clock()
        for _ in range(SWEEP):
            stream = self._wheel.pop_due(now)
            if stream is None:
                return False
            del self._kept[stream]
        return True


async def _true_after(sent: Awaitable[None]) -> bool:
    await sent
    return True
