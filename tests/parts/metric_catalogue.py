"""All metrics that a server can have, for tests of what is written about them: documentation, alerts, dashboard.

A server registers the figures of the parts that it is built with, so the catalogue is the union of several servers, and of the
names that are written at calls of the registry anywhere in the source.
"""

import ast
import asyncio
import functools
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from catenary.config.effective import effective
from catenary.config.load import load
from catenary.metrics.figures import Kind, kind_of
from catenary.metrics.prometheus import exported_name
from catenary.metrics.workers import of_workers
from catenary.server.assembly import Assembly

SOURCE = Path(__file__).parents[2] / "src" / "catenary"

_SERVERS = (
    (
        "--rpc_host=127.0.0.1:1",
        "--broker=memory",
        "--sse",
        "--ds",
        "--poll",
        "--max-conn=9",
        "--otel",
        "--otel_exporter=console",
        "--pusher_app_id=a",
        "--pusher_app_key=k",
        "--pusher_secret=s",
    ),
    ("--norpc", "--broker=redis"),
    ("--norpc", "--broker=nats"),
)
"""Flags of servers that together have every part; they are built, not started."""

_VARIABLES = {"ANYCABLE_MEMORY_METRICS": "1"}

_REGISTERING = {
    "register": None,
    "labelled": None,
    "histogram": Kind.HISTOGRAM,
    "labelled_histograms": Kind.HISTOGRAM,
}
"""Methods of the registry; None: the kind is that of the name."""


class CataloguedMetric(NamedTuple):
    """A metric by its own name (``clients_num``), and as Prometheus calls it (``anycable_go_clients_num``)."""

    name: str
    kind: Kind
    help: str

    @property
    def exported(self) -> str:
        """The name for Prometheus, without the suffixes of a histogram."""
        return exported_name(self.name)

    @property
    def series(self) -> set[str]:
        """The names that a query may have."""
        if self.kind is not Kind.HISTOGRAM:
            return {self.exported}
        return {f"{self.exported}_{suffix}" for suffix in ("bucket", "sum", "count")}


@functools.cache
def catalogue() -> dict[str, CataloguedMetric]:
    """All metrics by their own names."""
    found = {each.name: each for each in _written()} | asyncio.run(_registered())
    return dict(sorted(found.items()))


async def _registered() -> dict[str, CataloguedMetric]:
    found: dict[str, CataloguedMetric] = {}
    for flags in _SERVERS:
        options = load(("--ignore-config-path", *flags), _VARIABLES, lambda _: None).options
        assembly = Assembly(effective(options), is_mounted=True)
        for figure in (*assembly.build.figures.figures(), *of_workers({1: None})):
            found[figure.name] = CataloguedMetric(figure.name, figure.kind, figure.help)
    return found


def _written() -> Iterator[CataloguedMetric]:
    for path in sorted(SOURCE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            match node:
                case ast.Call(
                    func=ast.Attribute(attr=method),
                    args=[ast.Constant(value=str() as name), ast.Constant(value=str() as text), *_],
                ) if method in _REGISTERING and name.isidentifier() and " " in text:
                    yield CataloguedMetric(name, _REGISTERING[method] or kind_of(name), text)
                case _:
                    pass
