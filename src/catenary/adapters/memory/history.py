"""The history of a node that is alone: in its memory, and lost with it.

A stream is forgotten some time after its last message, so that streams nobody uses any more cost
nothing. What is left of all forgotten ones is one number, the highest of their offsets: a stream
that comes back, and any new one, begins behind it. So within an epoch no offset of a stream is ever
handed out twice, and a position from before is found to be lost instead of mixed up.
"""

from collections.abc import Callable
from typing import Final

from catenary.broker.stream_log import StreamLog
from catenary.broker.timer_wheel import TimerWheel
from catenary.messages.names import Stream
from catenary.messages.publications import Position, Publication

SWEEP: Final = 5_000
"""Messages dropped and streams looked at in one sweep, together: 2 to 5 ms."""


class LocalHistory:
    """Satisfies :class:`catenary.ports.History`.

    ``limit`` messages of each stream are kept, each for ``ttl_s``; where one of them is 0, nothing
    is kept. ``epoch`` must be another one at every start. ``clock`` counts seconds since the epoch
    of Unix, because ``since`` does.
    """

    __slots__ = ("_clock", "_epoch", "_forgotten", "_limit", "_logs", "_ttl_s", "_wheel")

    is_immediate = True

    def __init__(self, *, limit: int, ttl_s: float, epoch: str, clock: Callable[[], float]) -> None:
        self._limit = limit
        self._ttl_s = ttl_s
        self._epoch = epoch
        self._clock = clock
        self._logs: dict[Stream, StreamLog] = {}
        self._forgotten = 0  # the highest offset of the streams that were forgotten
        self._wheel = TimerWheel[Stream](ttl_s)

    @property
    def streams(self) -> int:
        """How many streams are remembered, with messages or without."""
        return len(self._logs)

    @property
    def size_bytes(self) -> int:
        """About the memory that it takes. Adds up all streams: not for every second."""
        return sum(log.size_bytes for log in self._logs.values())

    def append(self, publication: Publication) -> Publication:
        """Keeps a message and returns it with its position; transient ones come back as they are."""
        if publication.transient:
            return publication
        stream = publication.stream
        log = self._logs.get(stream)
        if log is None:
            log = self._logs[stream] = self._begin()
        # Who has messages waits for the oldest one's end already.
        is_waiting = len(log) > 0
        kept = log.append(publication, self._clock())
        if not is_waiting:
            self._wheel.schedule(stream, log.deadline)
        return kept

    def since(
        self, stream: Stream, moment_s: int, limit: int | None = None, *, newest: bool = False
    ) -> tuple[Publication, ...]:
        """Returns the messages of a stream from a moment on (seconds since the epoch), oldest first."""
        log = self._logs.get(stream)
        return () if log is None else log.since(moment_s, self._clock(), limit, newest=newest)

    def after(
        self, stream: Stream, position: Position, limit: int | None = None
    ) -> tuple[Publication, ...]:
        """Returns the messages after a position, oldest first.

        Raises :class:`catenary.errors.LostPosition` if one of them is no longer kept.
        """
        log = self._logs.get(stream)
        if log is None:
            log = self._begin()
        return log.after(position, self._clock(), limit)

    def sweep(self) -> bool:
        """Drops what is over. True where it stopped before the end: more may be due."""
        now = self._clock()
        budget = SWEEP
        while budget > 0:
            stream = self._wheel.pop_due(now)
            if stream is None:
                return False
            log = self._logs[stream]
            budget -= 1 + log.expire(now)
            if log.is_over(now):
                self._forget(stream, log)
            else:
                self._wheel.schedule(stream, log.deadline)
        return True

    def _begin(self) -> StreamLog:
        return StreamLog(
            limit=self._limit, ttl_s=self._ttl_s, epoch=self._epoch, newest=self._forgotten
        )

    def _forget(self, stream: Stream, log: StreamLog) -> None:
        self._forgotten = max(self._forgotten, log.newest)
        del self._logs[stream]
        if not self._logs:
            self._logs.clear()  # gives its memory back: a dict does not shrink by itself
