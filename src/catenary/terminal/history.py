"""What was published to a stream and is kept, as the REST API of a server tells.

  catenary history chat/1
  catenary history chat/1 --since 5m --limit 10

A line for each message, oldest first: JSON where standard output is no terminal. With --limit the newest
messages. Exit status: 1 where the API refuses. anycable-go has no such endpoint; ``catenary subscribe
--history`` reads its history.
"""

import argparse
import time
from collections import deque
from collections.abc import Iterator
from typing import Final
from urllib.parse import quote, urlencode

import msgspec

from catenary.errors import BackendError
from catenary.messages.lenient_json import reader
from catenary.terminal import rest
from catenary.terminal.running import Given
from catenary.terminal.screen import papers, visible
from catenary.terminal.surroundings import declare_keys, surroundings
from catenary.terminal.words import count, seconds

PAGE: Final = 1_000
"""The most messages of one answer: see ``api/reads.py``."""


class _Message(msgspec.Struct):
    offset: int
    data: msgspec.Raw


class _History(msgspec.Struct):
    """``epoch`` is None where nothing is kept of the stream, ``more`` where there is more after the last."""

    stream: str
    epoch: str | None
    messages: list[_Message]
    more: bool = False


def declare(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("stream", metavar="STREAM")
    parser.add_argument("--since", type=seconds, help="how far back, such as 90, 5m or 2h (all)")
    parser.add_argument("--limit", type=count, help="the newest so many (all)")
    parser.add_argument("--url", help="the API, http://…/api")
    declare_keys(parser, "the key of the API")


def run(given: Given) -> int:
    out, notes = papers(given.environ)
    number, epoch = 0, None
    for page in _pages(given):
        number, epoch = number + len(page.messages), page.epoch or epoch
        for message in page.messages:
            if out.is_terminal:
                data = out.json(visible(bytes(message.data).decode()))
                out.say(f"{out.painted('dim', f'#{message.offset}')}  {data}")
            else:
                out.say(msgspec.json.encode(message).decode())
    if out.is_terminal:
        stream = visible(given.arguments.stream)
        notes.say(notes.painted("dim", f"{number} of {stream}, epoch {epoch or 'none'}"))
    return 0


def _pages(given: Given) -> Iterator[_History]:
    """The whole history in pages, or its end, which may be longer than a page."""
    since, limit = given.arguments.since, given.arguments.limit
    query: dict[str, object] = {} if since is None else {"since": int(time.time() - since)}
    if not limit:
        yield from _following(given, query)
    elif limit <= PAGE:
        yield _page(given, {**query, "limit": limit})
    else:
        last = deque[_Message](maxlen=limit)
        for page in _following(given, query):
            last += page.messages
        yield _History(page.stream, page.epoch, list(last))


def _following(given: Given, query: dict[str, object]) -> Iterator[_History]:
    page = _page(given, query)
    yield page
    while page.more:
        page = _page(given, {"after": f"{page.messages[-1].offset}:{page.epoch}"})
        yield page


def _page(given: Given, query: dict[str, object]) -> _History:
    arguments, around = given.arguments, surroundings(given)
    path = f"/history/{quote(arguments.stream, safe='')}"
    path += f"?{urlencode(query)}" if query else ""
    key = arguments.key or around.api_key
    body = rest.get(arguments.url or around.api_url, path, key=key)
    try:
        return reader(_History)(body)
    except msgspec.DecodeError as error:
        raise BackendError(f"expected a history, got something else: {error}") from error
