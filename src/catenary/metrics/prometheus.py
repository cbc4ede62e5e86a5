"""Figures in the text format of Prometheus.

Names and prefix are anycable-go's, so that dashboards keep working.
Source: "Exposition formats" of the Prometheus documentation; docs/instrumentation.md (anycable).
"""

from collections.abc import Mapping, Sequence
from typing import Final

from catenary.metrics.counters import Counters, described

PREFIX: Final = "anycable_go_"

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"

ASKED: Final = {
    "clients_uniq_num": "Different connection identifiers among the clients",
    "broadcast_streams_num": "Streams that clients of this node listen to",
    "mem_sys_bytes": "Memory of this process (resident)",
    "suppressed_log_lines_total": "Log lines that clients and publishers caused and that were left out",
    "pubsub_trouble_num": "1 while this node does not hear the others, else 0",
    "app_limited_total": "Calls beyond the rates of channels and actions",
    "app_failed_total": "Calls in which the application raised what nothing rescued",
    "app_slow_total": "Times a method of the application held its loop for too long",
}
"""What is asked for when it is shown, beside the counters; the last three where the application is in
Python."""


def exposition(counters: Counters, asked: Mapping[str, int], tags: Sequence[str] = ()) -> str:
    """All figures as text. ``tags`` are ``name:value``, and become labels of every one."""
    labels = _labels(tags)
    lines: list[str] = []
    for name, help_text in described():
        lines += _lines(name, help_text, getattr(counters, name), labels)
    for name, value in asked.items():
        lines += _lines(name, ASKED[name], value, labels)
    return "".join(lines)


def _lines(name: str, help_text: str, value: int, labels: str) -> tuple[str, ...]:
    kind = "counter" if name.endswith("_total") else "gauge"
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
