"""Shows the metrics of all nodes together, through the REST API of a server.

  catenary stats                      catenary stats clients rpc
  catenary stats --watch              refreshed in place, with rates per second
  catenary stats --each               of each node

A histogram is shown by its mean and percentiles (p50, p99): since the start,
with --watch since the line before.

A table of the metrics that are not 0 on a terminal; elsewhere a JSON object on
a line. Exit status: 1 if the API refuses, or a node did not answer.
"""

import argparse
import fnmatch
import os
import time
from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

from catenary.errors import BackendError
from catenary.metrics.flat_histograms import summarized
from catenary.supervision.backoff import Backoff
from catenary.terminal.argument_values import seconds
from catenary.terminal.console import Console, consoles
from catenary.terminal.listing import add_json_argument, is_for_people, note_errors
from catenary.terminal.rest import NodeError, add_api_arguments, api_of
from catenary.terminal.running import Invocation
from catenary.terminal.table import Column, Table

_HOME: Final = "\x1b[H"
_CLEAR_LINE: Final = "\x1b[K"
_CLEAR_BELOW: Final = "\x1b[J"
_FALLBACK_LINES: Final = 24

Figures = dict[str, int | float]


class _NodeStats(msgspec.Struct):
    node: str
    figures: Figures = {}


class _Stats(msgspec.Struct):
    nodes: list[_NodeStats] = []
    sum: Figures = {}
    errors: list[NodeError] = []


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("names", metavar="NAME", nargs="*")
    parser.add_argument("--watch", action="store_true", help="show them again and again")
    parser.add_argument(
        "--interval", type=seconds, default=2.0, metavar="TIME", help="of --watch (2 s)"
    )
    parser.add_argument("--each", action="store_true", help="a column for each node")
    parser.add_argument("--all", action="store_true", help="metrics that are 0, too")
    add_json_argument(parser)
    add_api_arguments(parser)


def run(invocation: Invocation) -> int:
    api = api_of(invocation)
    out, notes = consoles(invocation.environ)
    screen = _Screen(invocation, out) if is_for_people(invocation, out) else None
    told: set[str] = set()
    before = _Stats()
    has_answered, outage = False, Backoff()
    while True:
        try:
            read = api.read(_Stats, "/stats")
        except BackendError as error:
            if not has_answered:
                raise
            # A server that is restarted is watched again.
            if outage.failed().is_logged:
                notes.say(notes.painted("dim", f"away: {error}"))
            time.sleep(max(invocation.arguments.interval, 0.1))
            continue
        has_answered = True
        outage.works()
        found = _named(_summarized(read, before), invocation.arguments.names)
        before = read
        status = note_errors(notes, found.errors, told)
        if screen is None:
            out.say(_line(found))
        else:
            screen.show(found)
        if not invocation.arguments.watch:
            return status
        time.sleep(max(invocation.arguments.interval, 0.1))


def _summarized(read: _Stats, before: _Stats) -> _Stats:
    nodes_before = {each.node: each.figures for each in before.nodes}
    nodes = [
        _NodeStats(each.node, summarized(each.figures, nodes_before.get(each.node, {})))
        for each in read.nodes
    ]
    return _Stats(nodes, summarized(read.sum, before.sum), read.errors)


def _named(found: _Stats, names: Sequence[str]) -> _Stats:
    """The figures whose name contains one of these, or matches it (``rpc_*``)."""
    if not names:
        return found
    patterns = [name if set("*?[") & set(name) else f"*{name}*" for name in names]

    def kept(figures: Figures) -> Figures:
        return {
            name: value
            for name, value in figures.items()
            if any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)
        }

    nodes = [_NodeStats(each.node, kept(each.figures)) for each in found.nodes]
    return _Stats(nodes, kept(found.sum), found.errors)


def _line(found: _Stats) -> str:
    line = {"ts": round(time.time(), 3), "sum": found.sum, "nodes": found.nodes}
    return msgspec.json.encode(line).decode()


class _Screen:
    """The table, which ``--watch`` draws over the one before."""

    def __init__(self, invocation: Invocation, out: Console) -> None:
        self._arguments = invocation.arguments
        self._environ = invocation.environ
        self._out = out
        self._before: Figures = {}
        self._seen_at = 0.0
        self._is_first = True

    def show(self, found: _Stats) -> None:
        now = time.monotonic()
        names = [
            name
            for name, value in found.sum.items()
            if value or self._arguments.all or self._before.get(name)
        ]
        nodes = found.nodes if self._arguments.each else []
        columns = [Column("METRIC", style="cyan"), Column("VALUE", is_number=True)]
        if self._arguments.watch:
            columns.append(Column("PER SECOND", is_number=True))
        columns += [Column(each.node, is_number=True) for each in nodes]
        rows = []
        for name in names:
            row = [name, _number(found.sum[name])]
            if self._arguments.watch:
                row.append(self._rate(name, found.sum, now))
            rows.append([*row, *(_number(each.figures.get(name, 0)) for each in nodes)])
        lines = Table(self._out, columns, self._environ).lines(rows)
        self._before, self._seen_at = found.sum, now
        if self._arguments.watch:
            self._draw(lines)
        else:
            self._out.say("\n".join(lines))

    def _rate(self, name: str, figures: Mapping[str, float], now: float) -> str:
        """How much a counter has grown; empty for other figures, and where the server has started again."""
        if not name.endswith("_total") or name not in self._before:
            return ""
        grown = figures[name] - self._before[name]
        return "" if grown < 0 else _number(round(grown / (now - self._seen_at), 1))

    def _draw(self, lines: list[str]) -> None:
        room = max(_lines_of(self._out) - 1, 2)
        if len(lines) > room:
            hidden = len(lines) - room + 1
            lines = [*lines[: room - 1], f"… {hidden} more: name those that you want"]
        start = f"{_HOME}{_CLEAR_BELOW}" if self._is_first else _HOME
        self._is_first = False
        body = "".join(f"{line}{_CLEAR_LINE}\n" for line in lines)
        self._out.stream.write(f"{start}{body}{_CLEAR_BELOW}")
        self._out.stream.flush()


def _number(value: float) -> str:
    if value == int(value):
        return f"{int(value):,}"
    return f"{value:,.6f}".rstrip("0") if abs(value) < 1 else f"{value:,.2f}".rstrip("0")


def _lines_of(console: Console) -> int:
    try:
        return os.get_terminal_size(console.stream.fileno()).lines or _FALLBACK_LINES
    except (OSError, ValueError):
        return _FALLBACK_LINES
