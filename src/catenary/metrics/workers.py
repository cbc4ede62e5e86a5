"""The figures of several workers of one server, shown by one of them.

Each worker has samples of its own, with the label ``worker``: a sum beside them would be counted twice by every query that sums,
and counters of a sum would fall when a worker is replaced. Prometheus adds them: ``sum without (worker) (rate(…))``.
Knows: figures, numbers of workers. Does not know: how they are sent or shown.
"""

from collections.abc import Mapping
from typing import Final

import msgspec

from catenary.metrics.figures import Figure, Kind, Sample

LABEL: Final = "worker"

pack: Final = msgspec.msgpack.Encoder().encode
"""Figures → bytes, for another worker."""

_unpack: Final = msgspec.msgpack.Decoder(tuple[Figure, ...]).decode


def of_workers(packed: Mapping[int, bytes | None]) -> tuple[Figure, ...]:
    """The figures of all workers that have answered, and one that says which have. ``packed`` are the figures of each by
    its number. Raises msgspec.DecodeError for figures that can't be read."""
    merged: dict[str, Figure] = {}
    samples: dict[str, list[Sample]] = {}
    for number, answer in packed.items():
        for figure in () if answer is None else _unpack(answer):
            merged.setdefault(figure.name, figure)
            samples.setdefault(figure.name, []).extend(
                Sample(each.value, (*each.labels, (LABEL, str(number)))) for each in figure.samples
            )
    answering = tuple(
        Sample(int(answer is not None), ((LABEL, str(number)),))
        for number, answer in packed.items()
    )
    return (
        Figure(
            "worker_up",
            "1 for each worker that shows its metrics, 0 for others",
            Kind.GAUGE,
            answering,
        ),
        *(
            msgspec.structs.replace(figure, samples=tuple(samples[name]))
            for name, figure in merged.items()
        ),
    )
