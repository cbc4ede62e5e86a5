"""Lists the connected clients of all nodes, through the REST API of a server.

  catenary who                        catenary who --count
  catenary who ann                    part of identifiers, sid, address or path
  catenary who --stream=chat/1        who listens to a stream
  catenary who --sid=SID              one client, with its subscriptions

A table on a terminal, JSON lines elsewhere. Exit status: 1 if the API refuses,
or a node did not answer, so that clients may be missing.
"""

import argparse
import time
from collections.abc import Iterable, Sequence

import msgspec

from catenary.terminal.argument_values import count, seconds
from catenary.terminal.arguments import more_arguments
from catenary.terminal.console import consoles, printable
from catenary.terminal.listing import (
    Record,
    add_list_arguments,
    is_for_people,
    note_errors,
    print_list,
    text_of,
)
from catenary.terminal.rest import Api, NodeError, Page, add_api_arguments, api_of, filters, segment
from catenary.terminal.running import Invocation
from catenary.terminal.table import Column, shown_age

_FILTERS = (
    *("q", "identifiers", "address", "path", "transport", "protocol", "identifier", "stream"),
    *("since", "min_subscriptions", "node"),
)
_COLUMNS = (
    Column("SID", is_whole=True),
    Column("IDENTIFIERS", style="cyan"),
    Column("ADDRESS"),
    Column("VIA", is_whole=True),
    Column("SUBS", is_number=True),
    Column("FOR", is_number=True),
    Column("NODE", is_spare=True, style="dim"),
)


class _Connections(Page, kw_only=True):
    connections: list[Record]


class _Count(msgspec.Struct):
    count: int
    nodes: dict[str, int] = {}
    errors: list[NodeError] = []


class _Subscription(msgspec.Struct):
    identifier: str
    streams: list[str] = []


class _Details(msgspec.Struct):
    sid: str
    subscriptions: list[_Subscription] = []


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("q", metavar="TEXT", nargs="?")
    parser.add_argument("--identifiers", metavar="TEXT", help="exactly these identifiers")
    parser.add_argument("--stream", metavar="NAME", help="listeners of a stream")
    parser.add_argument("--sid", metavar="SID", help="one client, with its subscriptions")
    more = more_arguments(parser)
    parser.add_argument("--address", metavar="IP", help="clients of an address")
    parser.add_argument(
        "--since", type=_moment, metavar="TIME", help="connected in the last 5m, 2h"
    )
    more.add_argument("--path", metavar="PATH", help="clients of a path")
    more.add_argument("--identifier", metavar="JSON", help="subscribers of an identifier")
    more.add_argument("--transport", metavar="NAME", help="websocket, sse, long_polling …")
    more.add_argument("--protocol", metavar="NAME", help="such as actioncable-v1-json")
    more.add_argument(
        "--min-subscriptions", type=count, metavar="N", help="clients with so many subscriptions"
    )
    more.add_argument("--node", metavar="NODE", help="clients of a node")
    parser.add_argument("--count", action="store_true", help="print only how many there are")
    add_list_arguments(parser)
    add_api_arguments(parser)


def run(invocation: Invocation) -> int:
    arguments, api = invocation.arguments, api_of(invocation)
    query = filters(arguments, *_FILTERS)
    if arguments.sid and not arguments.count:
        return _one(invocation, api)
    if arguments.sid:
        query["sid"] = arguments.sid
    if arguments.count:
        return _number(invocation, api, query)

    def pages(limit: int | None) -> Iterable[tuple[list[Record], list[NodeError]]]:
        for page in api.pages(_Connections, "/connections", query, limit):
            yield page.connections, page.errors

    return print_list(invocation, _COLUMNS, _row, pages, what=("client", "clients"))


def _row(record: Record) -> Sequence[str]:
    connected_at = record.get("connected_at")
    age = time.time() - connected_at if isinstance(connected_at, int | float) else None
    return (
        text_of(record, "sid"),
        text_of(record, "identifiers"),
        text_of(record, "address"),
        text_of(record, "transport"),
        text_of(record, "subscriptions"),
        "-" if age is None else shown_age(age),
        text_of(record, "node"),
    )


def _number(invocation: Invocation, api: Api, query: dict[str, object]) -> int:
    out, notes = consoles(invocation.environ)
    found = api.read(_Count, "/connections/count", query)
    if is_for_people(invocation, out):
        out.say(f"{found.count:,}")
    else:
        out.say(msgspec.json.encode({"count": found.count, "nodes": found.nodes}).decode())
    return note_errors(notes, found.errors, set())


def _one(invocation: Invocation, api: Api) -> int:
    """One client with its subscriptions."""
    out, notes = consoles(invocation.environ)
    body = api.get(f"/connections/{segment(invocation.arguments.sid)}")
    if not is_for_people(invocation, out):
        out.say(body.decode())
        return 0
    record: Record = msgspec.json.decode(body, type=Record)
    details = msgspec.json.decode(body, type=_Details)
    for name, value in record.items():
        if name != "subscriptions":
            shown = f"{shown_age(time.time() - value)} ago" if name == "connected_at" else value  # type: ignore[operator]
            out.say(f"{out.painted('bold', f'{name:13}')} {printable(str(shown))}")
    for each in details.subscriptions:
        streams = ", ".join(each.streams) or "no stream"
        out.say(f"{out.painted('bold', 'subscription ')} {out.json(printable(each.identifier))}")
        out.say(f"{'':13} {out.painted('dim', printable(streams))}")
    number = len(details.subscriptions)
    notes.say(notes.painted("dim", f"{number:,} subscription{'' if number == 1 else 's'}"))
    return 0


def _moment(text: str) -> int:
    """How long ago → seconds since 1970."""
    return int(time.time() - seconds(text))
