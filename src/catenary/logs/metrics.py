"""Periodic lines with metrics in the log.

Source: "Logging" of docs/instrumentation.md (anycable). Knows: readings, the log. Does not know: clocks.
"""

import logging
from collections.abc import Collection, Iterable
from typing import Final

from catenary.metrics.intervals import Reading

_log: Final = logging.getLogger("catenary.metrics")


class MetricsLog:
    """Writes each report as one line with a field for each reading, in the order of their names.

    ``wanted`` are the names of the metrics to write, or of single numbers of a histogram; all if it is empty.
    """

    __slots__ = ("_wanted",)

    def __init__(self, wanted: Collection[str]) -> None:
        self._wanted = frozenset(wanted)

    def write(self, readings: Iterable[Reading]) -> None:
        """Logs a report at the level info."""
        fields = {
            _field(each): _short(each.value)
            for each in readings
            if not self._wanted or self._wanted & {each.figure, each.name}
        }
        _log.info("", extra={"fields": dict(sorted(fields.items()))})


def _field(reading: Reading) -> str:
    labels = ",".join(f"{name}={value}" for name, value in reading.labels)
    return f"{reading.name}{{{labels}}}" if labels else reading.name


def _short(value: float) -> float:
    """Six significant digits of a fraction; all digits of a larger number, such as a moment in seconds since 1970."""
    if isinstance(value, int):
        return value
    return float(f"{value:.6g}") if abs(value) < 1e6 else round(value)
