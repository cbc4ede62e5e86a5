"""Reports of the figures by intervals, for writers that send or log them periodically: StatsD and the log.

A counter becomes its increase since the last report, a gauge stays its value. A histogram becomes the number of values
that were observed in the interval, their mean and three quantiles, since neither StatsD nor a log line has buckets.
Source: docs/instrumentation.md (anycable). Knows: figures. Does not know: clocks, or where a report goes.
"""

from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

from catenary.metrics.figures import Distribution, Figure, Kind, Labels, Sample

QUANTILES: Final = (("p50", 0.5), ("p90", 0.9), ("p99", 0.99))

HISTOGRAM_SUFFIXES: Final = ("_count", "_mean", *(f"_{name}" for name, _ in QUANTILES))


class Reading(NamedTuple):
    """One number of a report, of the figure ``figure``: the increase of a counter in the interval, or a present value.

    ``name`` is that of the figure, with a suffix if this is one number of a histogram.
    """

    figure: str
    name: str
    labels: Labels
    value: float
    is_increase: bool


class Intervals:
    """Remembers counters and histograms from one report to the next; each writer has its own."""

    __slots__ = ("_before",)

    def __init__(self) -> None:
        self._before: dict[tuple[str, Labels], float | Distribution] = {}

    def report(self, figures: Iterable[Figure]) -> list[Reading]:
        """The report of the interval that ends now. The first interval began when the server started.

        A histogram without a value in the interval has a ``_count`` of 0 alone.
        """
        return [
            reading
            for figure in figures
            for sample in figure.samples
            for reading in self._readings(figure, sample)
        ]

    def _readings(self, figure: Figure, sample: Sample) -> Iterator[Reading]:
        name, labels, value = figure.name, sample.labels, sample.value
        if figure.kind is Kind.GAUGE and not isinstance(value, Distribution):
            yield Reading(name, name, labels, value, is_increase=False)
            return
        before = self._before.get((name, labels))
        self._before[name, labels] = value
        if not isinstance(value, Distribution):
            known = before if isinstance(before, int | float) else 0
            yield Reading(name, name, labels, value - known, is_increase=True)
            return
        interval = _since(before, value) if isinstance(before, Distribution) else value
        count = interval.count
        yield Reading(name, f"{name}_count", labels, count, is_increase=True)
        if count:
            mean = interval.sum / count
            yield Reading(name, f"{name}_mean", labels, mean, is_increase=False)
            for suffix, share in QUANTILES:
                found = quantile(interval, share)
                yield Reading(name, f"{name}_{suffix}", labels, found, is_increase=False)


def _since(before: Distribution, now: Distribution) -> Distribution:
    counts = tuple(new - old for new, old in zip(now.counts, before.counts, strict=True))
    return Distribution(now.bounds, counts, now.sum - before.sum)


def quantile(distribution: Distribution, share: float) -> float:
    """Estimates the value below which a share of the values is, as ``histogram_quantile`` of Prometheus does.

    Within a bucket, values are taken to be spread evenly; the lowest bucket begins at 0. A value above the highest bound
    is reported as that bound. Returns 0 if there is no value.
    """
    rank = share * distribution.count
    below = 0
    start: float = 0
    for bound, count in zip(distribution.bounds, distribution.counts, strict=False):
        if count and below + count >= rank:
            return start + (bound - start) * (rank - below) / count
        below += count
        start = bound
    return start if below < distribution.count else 0
