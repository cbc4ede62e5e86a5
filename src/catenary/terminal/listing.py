"""Prints lists of the REST API: a table on a terminal, JSON lines elsewhere.

Knows: pages, tables. Does not know: what is listed.
"""

import argparse
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final

import msgspec

from catenary.terminal.argument_values import count
from catenary.terminal.console import Console, consoles
from catenary.terminal.rest import NodeError
from catenary.terminal.running import Invocation
from catenary.terminal.table import Column, Table

SHOWN: Final = 100
"""Rows of a table, unless --limit says another number. JSON has all."""

Row = msgspec.Raw
Record = dict[str, object]


def add_list_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds ``--limit`` and ``--json``."""
    parser.add_argument(
        "--limit", type=count, metavar="N", help=f"the most rows ({SHOWN} in a table, all in JSON)"
    )
    add_json_argument(parser)


def add_json_argument(parser: argparse.ArgumentParser) -> None:
    """Adds ``--json``."""
    parser.add_argument("--json", action="store_true", help="print JSON lines, as in a pipe")


def is_for_people(invocation: Invocation, out: Console) -> bool:
    """Whether a person reads the output."""
    return out.is_terminal and not invocation.arguments.json


def print_list(
    invocation: Invocation,
    columns: Sequence[Column],
    row: Callable[[Record], Sequence[str]],
    pages: Callable[[int | None], Iterable[tuple[list[Record], list[NodeError]]]],
    *,
    what: tuple[str, str],
) -> int:
    """Prints the pages up to the limit; ``row`` has the cells of a record, ``what`` is
    the noun for one and for several. Returns the exit status: 1 if a node did not
    answer, so that some records may be missing."""
    out, notes = consoles(invocation.environ)
    is_table = is_for_people(invocation, out)
    limit: int | None = invocation.arguments.limit or (SHOWN if is_table else None)
    table = Table(out, columns, invocation.environ)
    printed, status, has_more = 0, 0, False
    told: set[str] = set()
    for records, errors in pages(limit):
        status = max(status, note_errors(notes, errors, told))
        room = len(records) if limit is None else limit - printed
        shown = records[:room]
        if is_table and (shown or not printed):
            table.add([row(each) for each in shown])
        elif shown:
            out.say("\n".join(msgspec.json.encode(each).decode() for each in shown))
        printed += len(shown)
        has_more = len(records) > room
        if limit is not None and printed >= limit:
            # Whether there is another page is not asked for.
            has_more = True
            break
    if is_table:
        more = " (perhaps more: see --limit)" if has_more else ""
        notes.say(notes.painted("dim", f"{printed:,} {what[printed != 1]}{more}"))
    return status


def note_errors(notes: Console, errors: Iterable[NodeError], told: set[str]) -> int:
    """Reports nodes that did not answer, each once; returns 1 if there is one."""
    status = 0
    for each in errors:
        status = 1
        if each.node not in told:
            told.add(each.node)
            notes.say(notes.painted("yellow", f"node {each.node} is missing: {each.error}"))
    return status


def text_of(record: Mapping[str, object], name: str) -> str:
    """A field as text; "-" for none."""
    value = record.get(name)
    return "-" if value is None else str(value)
