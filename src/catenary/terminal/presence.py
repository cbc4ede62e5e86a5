"""Lists who is present on a stream, through the REST API of a server.

  catenary presence chat/1

Prints a line for each member: JSON unless standard output is a terminal.
Exit status: 1 if the API refuses.
"""

import argparse

import msgspec

from catenary.terminal.console import consoles, printable
from catenary.terminal.rest import add_api_arguments, api_of, segment
from catenary.terminal.running import Invocation


class _Record(msgspec.Struct):
    id: str | int
    info: msgspec.Raw = msgspec.Raw(b"null")


class _Info(msgspec.Struct):
    total: int = 0
    records: list[_Record] = []


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("stream", metavar="STREAM")
    add_api_arguments(parser)


def run(invocation: Invocation) -> int:
    arguments = invocation.arguments
    path = f"/presence/{segment(arguments.stream)}/users"
    members = api_of(invocation).read(_Info, path)
    out, notes = consoles(invocation.environ)
    for record in members.records:
        if out.is_terminal:
            info = out.json(printable(bytes(record.info).decode()))
            out.say(f"{out.painted('bold', printable(str(record.id)))}  {info}")
        else:
            out.say(msgspec.json.encode(record).decode())
    if out.is_terminal:
        notes.say(notes.painted("dim", f"{members.total} on {printable(arguments.stream)}"))
    return 0
