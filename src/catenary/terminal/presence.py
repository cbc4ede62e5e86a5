"""Lists who is present on a stream, through the REST API of a server.

  catenary presence chat/1

Prints a line for each member: JSON unless standard output is a terminal.
Exit status: 1 if the API refuses.
"""

import argparse
from urllib.parse import quote

import msgspec

from catenary.errors import BackendError
from catenary.messages.lenient_json import reader
from catenary.terminal import rest
from catenary.terminal.console import consoles, printable
from catenary.terminal.running import Invocation
from catenary.terminal.server_settings import add_key_arguments, server_settings


class _Record(msgspec.Struct):
    id: str | int
    info: msgspec.Raw = msgspec.Raw(b"null")


class _Info(msgspec.Struct):
    total: int = 0
    records: list[_Record] = []


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("stream", metavar="STREAM")
    parser.add_argument("--url", help="the API, http://…/api")
    add_key_arguments(parser, "the key of the API")


def run(invocation: Invocation) -> int:
    arguments, server = invocation.arguments, server_settings(invocation)
    path = f"/presence/{quote(arguments.stream, safe='')}/users"
    key = arguments.key or server.api_key
    body = rest.get(arguments.url or server.api_url, path, key=key)
    try:
        members = reader(_Info)(body)
    except msgspec.DecodeError as error:
        raise BackendError(f"expected presence, got something else: {error}") from error
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
