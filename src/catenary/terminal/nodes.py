"""Lists the nodes and workers of a cluster, through the REST API of one of them.

  catenary nodes                      catenary nodes --json

A table on a terminal, JSON lines elsewhere; * marks the node that answers. Exit
status: 1 if the API refuses, or a node did not answer.
"""

import argparse
import time
from collections.abc import Iterable, Sequence

from catenary.terminal.listing import Record, add_list_arguments, print_list, text_of
from catenary.terminal.rest import NodeError, Page, add_api_arguments, api_of
from catenary.terminal.running import Invocation
from catenary.terminal.table import Column, shown_age

_COLUMNS = (
    Column("", is_whole=True),
    Column("NODE", is_whole=True, style="cyan"),
    Column("NAME"),
    Column("HOST"),
    Column("PID", is_number=True),
    Column("WORKER", is_number=True),
    Column("VERSION"),
    Column("UP", is_number=True),
    Column("CLIENTS", is_number=True),
    Column("STREAMS", is_number=True),
)


class _Nodes(Page, kw_only=True):
    nodes: list[Record]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_list_arguments(parser)
    add_api_arguments(parser)


def run(invocation: Invocation) -> int:
    api = api_of(invocation)

    def pages(limit: int | None) -> Iterable[tuple[list[Record], list[NodeError]]]:
        found = api.read(_Nodes, "/nodes")
        yield found.nodes, found.errors

    return print_list(invocation, _COLUMNS, _row, pages, what=("node", "nodes"))


def _row(record: Record) -> Sequence[str]:
    started_at = record.get("started_at")
    age = time.time() - started_at if isinstance(started_at, int | float) else None
    return (
        "*" if record.get("self") else "",
        text_of(record, "node"),
        text_of(record, "name"),
        text_of(record, "host"),
        text_of(record, "pid"),
        text_of(record, "worker"),
        text_of(record, "version"),
        "-" if age is None else shown_age(age),
        text_of(record, "connections"),
        text_of(record, "streams"),
    )
