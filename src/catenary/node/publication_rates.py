"""How many publications in a second this node accepts for a stream.

A leaky bucket for each stream whose rule has a rate. Knows: rules, time. Does not know: publishers.
"""

from collections.abc import Callable, Iterable
from math import ceil

from catenary.broker.stream_rules import StreamRules
from catenary.errors import RateExceeded
from catenary.messages.names import Stream
from catenary.messages.publications import Publication, Publishable
from catenary.node.buckets import Buckets


class PublicationRates:
    """The buckets of this node. ``clock`` is monotonic, in seconds."""

    __slots__ = ("_buckets", "_clock", "_rules")

    def __init__(self, rules: StreamRules, clock: Callable[[], float]) -> None:
        self._rules = rules
        self._clock = clock
        self._buckets = Buckets()

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
        rates = {each: self._rules.of(each).max_rate for each in counts}
        for stream, rate in rates.items():
            wait_s = self._buckets.wait_s(stream, rate, now)
            if wait_s > 0:
                raise RateExceeded(stream, rate, ceil(wait_s))
        for stream, rate in rates.items():
            self._buckets.add(stream, rate, counts[stream], now)
