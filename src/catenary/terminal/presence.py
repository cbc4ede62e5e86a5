"""Who is on a stream, as the REST API of a server tells.

  catenary presence chat/1

A line for each: JSON where standard output is no terminal. Exit status: 1 where the API refuses.
"""

import argparse
from urllib.parse import quote

import msgspec

from catenary.errors import BackendError
from catenary.messages.lenient_json import reader
from catenary.terminal import rest
from catenary.terminal.running import Given
from catenary.terminal.screen import papers, visible
from catenary.terminal.surroundings import declare_keys, surroundings


class _Record(msgspec.Struct):
    id: str | int
    info: msgspec.Raw = msgspec.Raw(b"null")


class _Info(msgspec.Struct):
    total: int = 0
    records: list[_Record] = []


def declare(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("stream", metavar="STREAM")
    parser.add_argument("--url", help="the API, http://…/api")
    declare_keys(parser, "the key of the API")


def run(given: Given) -> int:
    arguments, around = given.arguments, surroundings(given)
    path = f"/presence/{quote(arguments.stream, safe='')}/users"
    key = arguments.key or around.api_key
    body = rest.get(arguments.url or around.api_url, path, key=key)
    try:
        told = reader(_Info)(body)
    except msgspec.DecodeError as error:
        raise BackendError(f"expected who is there, got something else: {error}") from error
    out, notes = papers(given.environ)
    for record in told.records:
        if out.is_terminal:
            info = out.json(visible(bytes(record.info).decode()))
            out.say(f"{out.painted('bold', visible(str(record.id)))}  {info}")
        else:
            out.say(msgspec.json.encode(record).decode())
    if out.is_terminal:
        notes.say(notes.painted("dim", f"{told.total} on {visible(arguments.stream)}"))
    return 0
