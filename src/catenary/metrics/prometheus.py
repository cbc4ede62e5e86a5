"""The text format of Prometheus.

Names and prefix are anycable-go's, so that dashboards keep working.
Source: "Exposition formats" of the Prometheus documentation; docs/instrumentation.md (anycable).
"""

from collections.abc import Iterable, Sequence
from typing import Final

from catenary.metrics.registry import Figure

PREFIX: Final = "anycable_go_"

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"


def exposition(figures: Iterable[Figure], tags: Sequence[str] = ()) -> str:
    """The figures as text. ``tags`` are ``name:value``; they become labels of every figure."""
    labels = _labels(tags)
    return "".join(_lines(figure, labels) for figure in figures)


def _lines(figure: Figure, labels: str) -> str:
    kind = "counter" if figure.is_counter else "gauge"
    name = PREFIX + figure.name
    return f"# HELP {name} {figure.help}\n# TYPE {name} {kind}\n{name}{labels} {figure.value}\n"


def _labels(tags: Sequence[str]) -> str:
    if not tags:
        return ""
    pairs = (tag.partition(":") for tag in tags)
    return "{" + ",".join(f'{name}="{_escaped(value)}"' for name, _, value in pairs) + "}"


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
