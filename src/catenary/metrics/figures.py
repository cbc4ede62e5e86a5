"""The present value of a figure, as the registry returns it and as workers send it to each other.

Knows: names, labels, numbers. Does not know: what is measured, or how it is exported.
"""

from enum import StrEnum
from itertools import accumulate
from typing import Final

import msgspec

Labels = tuple[tuple[str, str], ...]
"""Names and values of labels, in the order in which they are shown."""

NO_LABELS: Final[Labels] = ()


class Kind(StrEnum):
    """The types of Prometheus' text format."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


class Distribution(msgspec.Struct, frozen=True):
    """The state of a histogram: how many values were observed, how large they were, and their sum.

    ``counts[i]`` is the number of values up to ``bounds[i]`` and above the bound before it; the last count, for which
    there is no bound, is the number of larger values.
    """

    bounds: tuple[float, ...]
    counts: tuple[int, ...]
    sum: float

    @property
    def count(self) -> int:
        """Number of all values."""
        return sum(self.counts)

    @property
    def cumulative(self) -> tuple[int, ...]:
        """For each bound, and at the end for infinity, the number of values up to it."""
        return tuple(accumulate(self.counts))


class Sample(msgspec.Struct, frozen=True):
    """One value of a figure: a number, or the :class:`Distribution` of a histogram."""

    value: int | float | Distribution
    labels: Labels = NO_LABELS


class Figure(msgspec.Struct, frozen=True):
    """A figure at one moment, with one sample for each combination of labels: one without labels for most figures.

    ``is_summed``: the figure of several processes is the sum of theirs; else it is the largest of theirs.
    """

    name: str
    help: str
    kind: Kind
    samples: tuple[Sample, ...]
    is_summed: bool = True


def kind_of(name: str) -> Kind:
    """The kind of a figure that is one number: names that end in ``_total`` only grow."""
    return Kind.COUNTER if name.endswith("_total") else Kind.GAUGE
