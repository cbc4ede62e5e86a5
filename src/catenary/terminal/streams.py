"""Lists the streams that have listeners, on all nodes, through the REST API.

  catenary streams
  catenary streams chat/              names that begin with it
  catenary streams --channels         channels instead: the most used first

A table on a terminal, JSON lines elsewhere. Exit status: 1 if the API refuses,
or a node did not answer, so that streams may be missing.
"""

import argparse
from collections.abc import Iterable

from catenary.terminal.listing import Record, add_list_arguments, print_list, text_of
from catenary.terminal.rest import PAGE, NodeError, Page, add_api_arguments, api_of, filters
from catenary.terminal.running import Invocation
from catenary.terminal.table import Column


class _Streams(Page, kw_only=True):
    streams: list[Record]


class _Channels(Page, kw_only=True):
    channels: list[Record]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("prefix", metavar="PREFIX", nargs="?")
    parser.add_argument("--channels", action="store_true", help="list channels, not streams")
    add_list_arguments(parser)
    add_api_arguments(parser)


def run(invocation: Invocation) -> int:
    api, is_channels = api_of(invocation), invocation.arguments.channels
    name, number = ("channel", "subscriptions") if is_channels else ("stream", "listeners")

    def pages(limit: int | None) -> Iterable[tuple[list[Record], list[NodeError]]]:
        if is_channels:
            found = api.read(_Channels, "/channels", {"limit": min(limit or PAGE, PAGE)})
            yield found.channels, found.errors
            return
        query = filters(invocation.arguments, "prefix")
        for page in api.pages(_Streams, "/streams", query, limit):
            yield page.streams, page.errors

    return print_list(
        invocation,
        (Column(name.upper(), style="cyan"), Column(number.upper(), is_number=True)),
        lambda record: (text_of(record, name), text_of(record, number)),
        pages,
        what=(name, f"{name}s"),
    )
