"""Figures in the text format of Prometheus.

Names and prefix are anycable-go's, so that dashboards keep working.
Source: "Exposition formats" of the Prometheus documentation; docs/instrumentation.md (anycable).
"""

from collections.abc import Mapping, Sequence
from typing import Final

from catenary.metrics.counters import Counters, described

PREFIX: Final = "anycable_go_"

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"

GAUGES: Final = {
    "clients_uniq_num": "Different connection identifiers among the clients",
    "broadcast_streams_num": "Streams that clients of this node listen to",
    "mem_sys_bytes": "Memory of this process (resident)",
    "pubsub_trouble_num": "1 while this node does not hear the others, else 0",
}
"""What is asked for when it is shown, beside the counters."""


def exposition(counters: Counters, gauges: Mapping[str, int], tags: Sequence[str] = ()) -> str:
    """All figures as text. ``tags`` are ``name:value``, and become labels of every one."""
    labels = _labels(tags)
    lines: list[str] = []
    for name, help_text in described():
        kind = "counter" if name.endswith("_total") else "gauge"
        lines += _lines(name, kind, help_text, getattr(counters, name), labels)
    for name, value in gauges.items():
        lines += _lines(name, "gauge", GAUGES[name], value, labels)
    return "".join(lines)


def _lines(name: str, kind: str, help_text: str, value: int, labels: str) -> tuple[str, ...]:
    name = PREFIX + name
    return (
        f"# HELP {name} {help_text}\n",
        f"# TYPE {name} {kind}\n",
        f"{name}{labels} {value}\n",
    )


def _labels(tags: Sequence[str]) -> str:
    if not tags:
        return ""
    pairs = (tag.partition(":") for tag in tags)
    return "{" + ",".join(f'{name}="{_escaped(value)}"' for name, _, value in pairs) + "}"


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
