"""How many publications in a second this node accepts for a stream.

A leaky bucket for each stream whose rule has a rate. Knows: rules, time. Does not know: publishers.
"""

from collections.abc import Callable, Iterable
from math import ceil
from typing import Final

from catenary.broker.stream_rules import StreamRules
from catenary.errors import RateExceeded
from catenary.messages.names import Stream
from catenary.messages.publications import Publication, Publishable

BUCKETS_LIMIT: Final = 10_000
"""Streams whose rate is known: 250 bytes each. Beyond that, those that have been quiet for a second are forgotten, or all."""


class PublicationRates:
    """The buckets of this node. ``clock`` is monotonic, in seconds."""

    __slots__ = ("_buckets", "_clock", "_rules")

    def __init__(self, rules: StreamRules, clock: Callable[[], float]) -> None:
        self._rules = rules
        self._clock = clock
        # The level of each bucket, and when it was that
        self._buckets: dict[Stream, tuple[float, float]] = {}

    def take(self, publications: Iterable[Publishable]) -> None:
        """Counts publications, all of them or none. Raises :class:`RateExceeded` if a stream has used up its rate; a batch
        may exceed the rest of it, which delays the next publications."""
        counts: dict[Stream, int] = {}
        for each in publications:
            if isinstance(each, Publication) and self._rules.of(each.stream).max_rate:
                counts[each.stream] = counts.get(each.stream, 0) + 1
        if not counts:
            return
        now = self._clock()
        levels = {each: self._level(each, now) for each in counts}
        for stream, level in levels.items():
            rate = self._rules.of(stream).max_rate
            if level > rate - 1:
                raise RateExceeded(stream, rate, ceil((level - rate + 1) / rate))
        for stream, level in levels.items():
            self._buckets[stream] = (level + counts[stream], now)
        if len(self._buckets) > BUCKETS_LIMIT:
            self._forget_quiet_ones(now)

    def _level(self, stream: Stream, now: float) -> float:
        level, then = self._buckets.get(stream, (0.0, now))
        return max(level - (now - then) * self._rules.of(stream).max_rate, 0)

    def _forget_quiet_ones(self, now: float) -> None:
        busy = {
            each: bucket for each, bucket in self._buckets.items() if self._level(each, now) > 0
        }
        self._buckets = {} if len(busy) > BUCKETS_LIMIT // 2 else busy
