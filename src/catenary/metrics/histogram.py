"""Histograms: how often values of each size were observed. Observing one is an addition to a list.

Knows: numbers. Does not know: names, units, time.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from typing import Final

from catenary.metrics.figures import Distribution

DURATIONS_S: Final = (
    *(0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05),
    *(0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0),
)
"""Bounds for durations of work and of network round trips, in seconds."""

POWERS_OF_TEN: Final = (0, 1, 10, 100, 1_000, 10_000, 100_000)
"""Bounds for numbers of clients and lengths of queues."""


UNSORTED: Final = 512
"""Values that are sorted into the buckets together: a third of the cost of a search for each."""


class Histogram:
    """Counts values in buckets with fixed upper bounds, which belong to their bucket. Used from one thread."""

    __slots__ = ("_bounds", "_counts", "_sum", "_unsorted")

    def __init__(self, bounds: Sequence[float]) -> None:
        """Raises ValueError unless the bounds grow."""
        if not bounds or list(bounds) != sorted(set(bounds)):
            raise ValueError(f"expected bounds that grow, got {list(bounds)}")
        self._bounds = tuple(bounds)
        self._counts = [0] * (len(bounds) + 1)
        self._sum: float = 0
        self._unsorted: list[float] = []

    def observe(self, value: float) -> None:
        """Counts a value."""
        unsorted = self._unsorted
        unsorted.append(value)
        if len(unsorted) >= UNSORTED:
            self._sort()

    def observe_equal(self, value: float, times: int) -> None:
        """Counts ``times`` equal values."""
        self._counts[bisect_left(self._bounds, value)] += times
        self._sum += value * times

    def _sort(self) -> None:
        values, counts = self._unsorted, self._counts
        values.sort()
        below = 0
        for index, bound in enumerate(self._bounds):
            up_to = bisect_right(values, bound, below)
            counts[index] += up_to - below
            below = up_to
        counts[-1] += len(values) - below
        self._sum += sum(values)
        values.clear()

    def read(self) -> Distribution:
        """The present state."""
        self._sort()
        return Distribution(self._bounds, tuple(self._counts), self._sum)


class LabelledHistograms:
    """A histogram for each combination of labels. Labels must have few values: each combination is kept for good."""

    __slots__ = ("_bounds", "_by_values", "names")

    def __init__(self, names: Sequence[str], bounds: Sequence[float]) -> None:
        self.names = tuple(names)
        self._bounds = bounds
        self._by_values: dict[tuple[str, ...], Histogram] = {}

    def of(self, *values: str) -> Histogram:
        """The histogram for these values of the labels, in the order of their names."""
        found = self._by_values.get(values)
        if found is None:
            if len(values) != len(self.names):
                raise ValueError(f"expected values of {self.names}, got {values}")
            found = self._by_values[values] = Histogram(self._bounds)
        return found

    def read(self) -> dict[tuple[str, ...], Distribution]:
        """The present states by the values of the labels."""
        return {values: each.read() for values, each in self._by_values.items()}
