"""Limits the rate of events of many keys, with a leaky bucket for each key.

Batches count in full, so a large one delays the next events. Refused events do not count; ``node/rates.py`` counts them.
Knows: keys, time. Does not know: what is limited.
"""

from typing import Final

BUCKETS_LIMIT: Final = 10_000
"""Keys that are known: 250 bytes each. Beyond that, those whose bucket is empty are forgotten, or all."""


class Buckets:
    """A bucket holds ``rate`` events and loses as many in a second. ``now`` is in seconds, of a monotonic clock."""

    __slots__ = ("_buckets",)

    def __init__(self) -> None:
        # The level of each bucket, when it had that level, and the rate
        self._buckets: dict[str, tuple[float, float, int]] = {}

    def wait_s(self, key: str, rate: int, now: float) -> float:
        """Returns how many seconds the next event must wait, 0 if it may come now. A batch may exceed the rest of the bucket."""
        return max((self._level(key, rate, now) - rate + 1) / rate, 0)

    def add(self, key: str, rate: int, count: int, now: float) -> None:
        """Counts events that have come."""
        self._buckets[key] = (self._level(key, rate, now) + count, now, rate)
        if len(self._buckets) > BUCKETS_LIMIT:
            self._forget_empty_ones(now)

    def _level(self, key: str, rate: int, now: float) -> float:
        level, then, _ = self._buckets.get(key, (0.0, now, rate))
        return max(level - (now - then) * rate, 0)

    def _forget_empty_ones(self, now: float) -> None:
        busy = {
            key: bucket
            for key, bucket in self._buckets.items()
            if self._level(key, bucket[2], now) > 0
        }
        self._buckets = {} if len(busy) > BUCKETS_LIMIT // 2 else busy

    def __len__(self) -> int:
        """How many keys are remembered."""
        return len(self._buckets)
