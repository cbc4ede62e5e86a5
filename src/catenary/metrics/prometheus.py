"""The text format of Prometheus.

Names and prefix are anycable-go's, so that dashboards keep working. Figures of the process have the names, without a
prefix, that Prometheus' client libraries give them.
Sources: "Exposition formats" and "Writing client libraries" of the Prometheus documentation; docs/instrumentation.md (anycable).
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from catenary.metrics.figures import Distribution, Figure, Labels, Sample

PREFIX: Final = "anycable_go_"

STANDARD_PREFIX: Final = "process_"
"""Names that begin so get no other prefix."""

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"


def exposition(figures: Iterable[Figure], tags: Sequence[str] = ()) -> str:
    """The figures as text. ``tags`` are ``name:value``; they become labels of every sample, except those whose name is a
    label of the figure."""
    common = tuple((name, value) for name, _, value in (tag.partition(":") for tag in tags))
    return "".join(line for figure in figures for line in _lines(figure, common))


def exported_name(name: str) -> str:
    """The name of a figure with its prefix, without the suffixes of a histogram."""
    return name if name.startswith(STANDARD_PREFIX) else PREFIX + name


def _lines(figure: Figure, common: Labels) -> Iterator[str]:
    name = exported_name(figure.name)
    yield f"# HELP {name} {_escaped_help(figure.help)}\n# TYPE {name} {figure.kind}\n"
    for sample in figure.samples:
        labels = _written(_merged(sample, common))
        if isinstance(sample.value, Distribution):
            yield _histogram_lines(name, labels, sample.value)
        else:
            yield f"{name}{_braced(labels)} {sample.value}\n"


def _histogram_lines(name: str, labels: str, state: Distribution) -> str:
    cumulative = state.cumulative
    bounds = (*map(str, state.bounds), "+Inf")
    start = f"{name}_bucket{{{labels},le=" if labels else f"{name}_bucket{{le="
    lines = [
        f'{start}"{bound}"}} {count}\n' for bound, count in zip(bounds, cumulative, strict=True)
    ]
    lines.append(f"{name}_sum{_braced(labels)} {state.sum}\n")
    lines.append(f"{name}_count{_braced(labels)} {cumulative[-1]}\n")
    return "".join(lines)


def _merged(sample: Sample, common: Labels) -> Labels:
    if not common:
        return sample.labels
    own = {name for name, _ in sample.labels}
    return (*sample.labels, *(each for each in common if each[0] not in own))


def _written(labels: Labels) -> str:
    return ",".join([f'{name}="{_escaped(value)}"' for name, value in labels])


def _braced(labels: str) -> str:
    return f"{{{labels}}}" if labels else ""


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _escaped_help(text: str) -> str:
    return text.replace("\\", "\\\\").replace("\n", "\\n")
