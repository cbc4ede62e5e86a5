"""What was published to a stream and is kept, as the REST API of a server tells.

  catenary history chat/1
  catenary history chat/1 --since 5m --limit 10

A line for each message, oldest first: JSON where standard output is no terminal. Exit status: 1
where the API refuses. anycable-go has no such endpoint; ``catenary subscribe --history`` reads its
history.
"""

import argparse
import time
from urllib.parse import quote, urlencode

import msgspec

from catenary.errors import BackendError
from catenary.terminal import rest
from catenary.terminal.running import Given
from catenary.terminal.screen import papers, visible
from catenary.terminal.surroundings import declare_keys, surroundings
from catenary.terminal.words import count, seconds


class _Message(msgspec.Struct):
    offset: int
    data: msgspec.Raw


class _History(msgspec.Struct):
    stream: str
    epoch: str
    messages: list[_Message]


def declare(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("stream", metavar="STREAM")
    parser.add_argument("--since", type=seconds, help="how far back, such as 90, 5m or 2h (all)")
    parser.add_argument("--limit", type=count, help="at most so many")
    parser.add_argument("--url", help="the API, http://…/api")
    declare_keys(parser, "the key of the API")


def run(given: Given) -> int:
    arguments, around = given.arguments, surroundings(given)
    query = {}
    if arguments.since is not None:
        query["since"] = int(time.time() - arguments.since)
    if arguments.limit:
        query["limit"] = arguments.limit
    path = f"/history/{quote(arguments.stream, safe='')}"
    path += f"?{urlencode(query)}" if query else ""
    key = arguments.key or around.api_key
    body = rest.get(arguments.url or around.api_url, path, key=key)
    try:
        told = msgspec.json.decode(body, type=_History)
    except msgspec.DecodeError as error:
        raise BackendError(f"expected a history, got something else: {error}") from error
    out, notes = papers(given.environ)
    for message in told.messages:
        if out.is_terminal:
            data = out.json(visible(bytes(message.data).decode()))
            out.say(f"{out.painted('dim', f'#{message.offset}')}  {data}")
        else:
            out.say(msgspec.json.encode(message).decode())
    if out.is_terminal:
        count_ = len(told.messages)
        notes.say(notes.painted("dim", f"{count_} of {visible(told.stream)}, epoch {told.epoch}"))
    return 0
