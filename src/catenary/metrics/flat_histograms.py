"""Histograms among plain numbers, as the API has them: ``<name>_count``, ``<name>_sum`` and ``<name>_bucket{le="…"}``, whose values are
cumulative as in Prometheus, so that those of several nodes can be added.

Knows: names. Does not know: where the numbers come from.
"""

import re
from collections.abc import Mapping
from itertools import pairwise
from typing import Final

from catenary.metrics.figures import Distribution
from catenary.metrics.intervals import quantile

_BUCKET: Final = re.compile(r'(\w+)_bucket\{le="([^"]+)"\}')
_SUM: Final = "_sum"
_SHOWN: Final = (("p50", 0.5), ("p99", 0.99))

Numbers = dict[str, int | float]


def flattened(name: str, state: Distribution) -> dict[str, int]:
    """The buckets of a histogram."""
    bounds = (*map(str, state.bounds), "+Inf")
    return {
        f'{name}_bucket{{le="{bound}"}}': count
        for bound, count in zip(bounds, state.cumulative, strict=True)
    }


def summarized(figures: Mapping[str, float], before: Mapping[str, float]) -> Numbers:
    """The figures with ``<name>_mean``, ``<name>_p50`` and ``<name>_p99`` after the sum of each histogram instead of its buckets: of the
    values since the figures ``before``, which may be empty. A histogram without a value since then has none of them."""
    found: Numbers = {}
    states = _distributions(figures, before)
    for name, value in figures.items():
        if _BUCKET.fullmatch(name):
            continue
        found[name] = value
        histogram = name.removesuffix(_SUM)
        state = states.get(histogram) if name.endswith(_SUM) else None
        if state is not None and state.count > 0:
            found[f"{histogram}_mean"] = state.sum / state.count
            for suffix, share in _SHOWN:
                found[f"{histogram}_{suffix}"] = quantile(state, share)
    return found


def _distributions(
    figures: Mapping[str, float], before: Mapping[str, float]
) -> dict[str, Distribution]:
    cumulative: dict[str, list[tuple[float, int]]] = {}
    for key, value in figures.items():
        bucket = _BUCKET.fullmatch(key)
        if bucket is not None:
            grown = int(value - before.get(key, 0))
            cumulative.setdefault(bucket[1], []).append((float(bucket[2]), grown))
    found = {}
    for name, entries in cumulative.items():
        counts = [0, *(count for _, count in entries)]
        bounds = tuple(bound for bound, _ in entries[:-1])
        total = figures.get(name + _SUM, 0) - before.get(name + _SUM, 0)
        found[name] = Distribution(bounds, tuple(b - a for a, b in pairwise(counts)), total)
    return found
