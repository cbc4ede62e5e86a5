"""The figures of one process by name, for everything that shows them: Prometheus, StatsD, the log, the API, the console.

Most figures are functions that are called when the figures are read: registering costs nothing while the server runs.
Histograms are objects that the measuring part updates.
Names end in their unit: ``_total`` for what only grows, ``_num`` and ``_size`` for numbers that go up and down, ``_bytes``,
``_seconds``. Labels must have few values.
Knows: names, numbers. Does not know: what is measured, or how it is exported.
"""

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import NamedTuple

from catenary.metrics.counters import Counters, described
from catenary.metrics.figures import Figure, Kind, Labels, Sample, kind_of
from catenary.metrics.histogram import POWERS_OF_TEN, Histogram, LabelledHistograms

Read = Callable[[], Iterable[Sample]]


class _Limit(NamedTuple):
    read: Callable[[], int]
    maximum: int


class Registry:
    """All counters, and the figures that parts of the server have registered."""

    __slots__ = ("_figures", "_limits", "_queue_lengths", "_queues")

    def __init__(self, counters: Counters) -> None:
        self._figures: dict[str, tuple[str, Kind, Read, bool]] = {}
        self._limits: dict[str, _Limit] = {}
        for name, text in described():
            figure = getattr(counters, name)
            if isinstance(figure, Histogram):
                self._add(name, text, Kind.HISTOGRAM, partial(_sample, figure))
            elif isinstance(figure, LabelledHistograms):
                self._add(name, text, Kind.HISTOGRAM, partial(_samples, figure))
            else:
                self.register(name, text, partial(getattr, counters, name))
        self.labelled(
            "limit_used",
            "How much of each limit is used at present; limit_max is the limit",
            ("limit",),
            lambda: [((name,), each.read()) for name, each in self._limits.items()],
        )
        self.labelled(
            "limit_max",
            "The configured limits of this process; unlimited ones are not shown",
            ("limit",),
            lambda: [((name,), each.maximum) for name, each in self._limits.items()],
        )
        self._queues: dict[str, tuple[Histogram, Callable[[], int]]] = {}
        self._queue_lengths = self.labelled_histograms(
            "queue_length",
            "Length of each queue, measured four times a second",
            ("queue",),
            POWERS_OF_TEN,
        )

    def register(
        self,
        name: str,
        text: str,
        read: Callable[[], float],
        *,
        kind: Kind | None = None,
        is_summed: bool = True,
    ) -> None:
        """Adds a figure; ``read`` returns its present value. Raises ValueError if the name is taken.

        Without a ``kind``, the kind is derived from the name. For several processes, a figure that is not ``is_summed`` is
        shown as the largest of their values.
        """
        kind = kind or kind_of(name)
        self._add(name, text, kind, lambda: (Sample(read()),), is_summed=is_summed)

    def labelled(
        self,
        name: str,
        text: str,
        labels: Sequence[str],
        read: Callable[[], Iterable[tuple[tuple[str, ...], float]]],
        *,
        is_summed: bool = True,
    ) -> None:
        """Adds a figure with labels; ``read`` returns its present values, each after the values of the labels in the
        order of their names, such as the ``items`` of a dict. Raises ValueError if the name is taken."""
        names = tuple(labels)

        def samples() -> Iterable[Sample]:
            return [Sample(value, _pairs(names, each)) for each, value in read()]

        self._add(name, text, kind_of(name), samples, is_summed=is_summed)

    def limit(self, name: str, read: Callable[[], int], maximum: int) -> None:
        """Shows a limit of the whole process beside its present use; nothing if ``maximum`` is 0, which means no limit.
        Raises ValueError if the name is taken."""
        if name in self._limits:
            raise ValueError(f"the limit {name} is registered already")
        if maximum > 0:
            self._limits[name] = _Limit(read, maximum)

    def limits(self) -> list[tuple[str, int, int]]:
        """The name, the present use and the maximum of each limit."""
        return [(name, each.read(), each.maximum) for name, each in self._limits.items()]

    def queue(self, name: str, read: Callable[[], int], maximum: int = 0) -> None:
        """Shows the length of a queue as a histogram, and beside its limit if it has one. Raises ValueError if the
        name is taken."""
        self.limit(name, read, maximum)
        self._queues[name] = (self._queue_lengths.of(name), read)

    def measure_queues(self) -> None:
        """Measures the length of each queue. To be called at regular intervals."""
        for histogram, read in self._queues.values():
            histogram.observe(read())

    def histogram(self, name: str, text: str, bounds: Sequence[float]) -> Histogram:
        """Adds a histogram, which the caller updates. Raises ValueError if the name is taken."""
        histogram = Histogram(bounds)
        self._add(name, text, Kind.HISTOGRAM, partial(_sample, histogram))
        return histogram

    def labelled_histograms(
        self, name: str, text: str, labels: Sequence[str], bounds: Sequence[float]
    ) -> LabelledHistograms:
        """Adds a histogram for each combination of labels. Raises ValueError if the name is taken."""
        histograms = LabelledHistograms(labels, bounds)
        self._add(name, text, Kind.HISTOGRAM, partial(_samples, histograms))
        return histograms

    def _add(self, name: str, text: str, kind: Kind, read: Read, *, is_summed: bool = True) -> None:
        if name in self._figures:
            raise ValueError(f"the figure {name} is registered already")
        self._figures[name] = (text, kind, read, is_summed)

    def figures(self) -> tuple[Figure, ...]:
        """The present values, in the order of registration."""
        return tuple(
            Figure(name, text, kind, tuple(read()), is_summed)
            for name, (text, kind, read, is_summed) in self._figures.items()
        )


def _sample(histogram: Histogram) -> tuple[Sample]:
    return (Sample(histogram.read()),)


def _samples(histograms: LabelledHistograms) -> list[Sample]:
    names = histograms.names
    return [Sample(state, _pairs(names, values)) for values, state in histograms.read().items()]


def _pairs(names: tuple[str, ...], values: tuple[str, ...]) -> Labels:
    return tuple(zip(names, values, strict=True))
