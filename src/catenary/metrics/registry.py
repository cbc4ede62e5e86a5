"""The figures of one process by name, for everything that shows them: Prometheus, StatsD, the log, the API, the console.

Most figures are functions that are called when the figures are read: registering costs nothing while the server runs.
Histograms are objects that the measuring part updates.
Names end in their unit: ``_total`` for what only grows, ``_num`` and ``_size`` for numbers that go up and down, ``_bytes``,
``_seconds``. Labels must have few values.
Knows: names, numbers. Does not know: what is measured, or how it is exported.
"""

from collections.abc import Callable, Iterable, Sequence
from functools import partial

from catenary.metrics.counters import Counters, described
from catenary.metrics.figures import Figure, Kind, Labels, Sample, kind_of
from catenary.metrics.histogram import Histogram, LabelledHistograms

Read = Callable[[], Iterable[Sample]]


class Registry:
    """All counters, and the figures that parts of the server have registered."""

    __slots__ = ("_figures",)

    def __init__(self, counters: Counters) -> None:
        self._figures: dict[str, tuple[str, Kind, Read, bool]] = {}
        for name, text in described():
            self.register(name, text, partial(getattr, counters, name))

    def register(
        self, name: str, text: str, read: Callable[[], float], *, is_summed: bool = True
    ) -> None:
        """Adds a figure; ``read`` returns its present value. Raises ValueError if the name is taken.

        A figure that is not ``is_summed`` is shown for several processes as the largest of theirs.
        """
        self._add(name, text, kind_of(name), lambda: (Sample(read()),), is_summed=is_summed)

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

    def histogram(self, name: str, text: str, bounds: Sequence[float]) -> Histogram:
        """Adds a histogram, which the caller updates. Raises ValueError if the name is taken."""
        histogram = Histogram(bounds)
        self._add(name, text, Kind.HISTOGRAM, lambda: (Sample(histogram.read()),))
        return histogram

    def labelled_histograms(
        self, name: str, text: str, labels: Sequence[str], bounds: Sequence[float]
    ) -> LabelledHistograms:
        """Adds a histogram for each combination of labels. Raises ValueError if the name is taken."""
        names = tuple(labels)
        histograms = LabelledHistograms(names, bounds)

        def samples() -> Iterable[Sample]:
            return [
                Sample(state, _pairs(names, values)) for values, state in histograms.read().items()
            ]

        self._add(name, text, Kind.HISTOGRAM, samples)
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


def _pairs(names: tuple[str, ...], values: tuple[str, ...]) -> Labels:
    return tuple(zip(names, values, strict=True))
