"""The history of a single node, in its memory.

A stream is forgotten some time after its last message, so that unused streams cost nothing. Of all forgotten streams
one number is kept, the highest of their offsets: a stream that is used again, and every new one, begins after it. So
no offset of a stream is assigned twice within an epoch, and a position from before is detected as lost.
"""

from collections.abc import Callable
from typing import Final

from catenary.broker.history_limits import HistoryLimit, HistoryLimits
from catenary.broker.stream_log import StreamLog
from catenary.broker.stream_rules import StreamRules
from catenary.broker.timer_wheel import TimerWheel
from catenary.messages.names import Stream
from catenary.messages.publications import Position, Publication

SWEEP: Final = 5_000
"""Messages dropped plus streams examined in one sweep: 2 to 5 ms."""


class LocalHistory:
    """Satisfies :class:`catenary.ports.History`.

    ``limit`` messages of each stream are stored, each for ``ttl_s`` seconds; if one of them is 0, none
    is stored. ``epoch`` must differ at every start. ``clock`` returns seconds since the Unix epoch, like the
    moments of :meth:`since`. ``rules`` may have other limits for a stream.
    """

    __slots__ = ("_clock", "_epoch", "_forgotten", "_limits", "_logs", "_outdated", "_wheel")

    is_immediate = True

    def __init__(
        self,
        *,
        limit: int,
        ttl_s: float,
        epoch: str,
        clock: Callable[[], float],
        rules: StreamRules | None = None,
    ) -> None:
        self._limits = HistoryLimits(HistoryLimit(limit, ttl_s), rules)
        self._limits.when_changed(self._note_change)
        # Streams whose limits may have changed
        self._outdated: list[Stream] = []
        self._epoch = epoch
        self._clock = clock
        self._logs: dict[Stream, StreamLog] = {}
        self._forgotten = 0  # the highest offset of all forgotten streams
        self._wheel = TimerWheel[Stream](ttl_s)

    @property
    def streams(self) -> int:
        """The number of streams with messages, or with a newest position that is still known."""
        return len(self._logs)

    @property
    def size_bytes(self) -> int:
        """The approximate memory in bytes. Adds up all streams, so it is not for every second."""
        return sum(log.size_bytes for log in self._logs.values())

    def append(self, publication: Publication) -> Publication:
        """Stores a message and returns it with its position; returns a transient one unchanged."""
        if publication.transient:
            return publication
        stream = publication.stream
        log = self._logs.get(stream)
        if log is None:
            log = self._logs[stream] = self._begin(stream)
        # A log with messages is scheduled already, for the end of the oldest.
        is_scheduled = len(log) > 0
        kept = log.append(publication, self._clock())
        if not is_scheduled:
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

        Raises :class:`catenary.errors.LostPosition` if one of them is no longer stored.
        """
        log = self._logs.get(stream)
        if log is None:
            log = self._begin(stream)
        return log.after(position, self._clock(), limit)

    def sweep(self) -> bool:
        """Drops expired messages and streams. Returns True if it stopped early and more may be due."""
        if self._outdated and self._change_limits():
            return True
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

    def _begin(self, stream: Stream) -> StreamLog:
        limit = self._limits.of(stream)
        return StreamLog(
            limit=limit.messages,
            ttl_s=limit.ttl_s,
            max_bytes=limit.max_bytes,
            epoch=self._epoch,
            newest=self._forgotten,
        )

    def _note_change(self) -> None:
        """The rules have changed: the next sweeps apply them to the streams that exist."""
        self._outdated = list(self._logs)

    def _change_limits(self) -> bool:
        """Applies changed rules to some streams; returns whether others are left."""
        outdated = self._outdated
        for _ in range(min(SWEEP, len(outdated))):
            stream = outdated.pop()
            log = self._logs.get(stream)
            if log is not None:
                limit = self._limits.of(stream)
                log.change_limits(
                    limit=limit.messages, ttl_s=limit.ttl_s, max_bytes=limit.max_bytes
                )
                self._wheel.schedule(stream, log.deadline)
        return bool(outdated)

    def _forget(self, stream: Stream, log: StreamLog) -> None:
        self._forgotten = max(self._forgotten, log.newest)
        del self._logs[stream]
        if not self._logs:
            self._logs.clear()  # frees memory: a dict does not shrink when entries are deleted
