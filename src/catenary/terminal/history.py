"""Prints the history of a stream, through the REST API of a server.

  catenary history chat/1
  catenary history chat/1 --since 5m --limit 10

Prints a line for each message, oldest first: JSON unless standard output is a
terminal. Exit status: 1 if the API refuses. anycable-go has no such endpoint;
catenary subscribe --history reads its history.
"""

import argparse
import time
from collections import deque
from collections.abc import Iterator
from typing import Final

import msgspec

from catenary.terminal.argument_values import count, seconds
from catenary.terminal.console import consoles, printable
from catenary.terminal.rest import add_api_arguments, api_of, segment
from catenary.terminal.running import Invocation

PAGE: Final = 1_000
"""Maximum number of messages in a response: see ``api/reads.py``."""


class _Message(msgspec.Struct):
    offset: int
    data: msgspec.Raw


class _History(msgspec.Struct):
    """``epoch`` is None if the stream has no history; ``more`` means that messages follow the last one."""

    stream: str
    epoch: str | None
    messages: list[_Message]
    more: bool = False


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("stream", metavar="STREAM")
    parser.add_argument(
        "--since", type=seconds, metavar="TIME", help="start so far back: 90, 5m, 2h (default: all)"
    )
    parser.add_argument(
        "--limit", type=count, metavar="N", help="print the newest N messages (default: all)"
    )
    add_api_arguments(parser)


def run(invocation: Invocation) -> int:
    out, notes = consoles(invocation.environ)
    number, epoch = 0, None
    for page in _pages(invocation):
        number, epoch = number + len(page.messages), page.epoch or epoch
        for message in page.messages:
            if out.is_terminal:
                data = out.json(printable(bytes(message.data).decode()))
                out.say(f"{out.painted('dim', f'#{message.offset}')}  {data}")
            else:
                out.say(msgspec.json.encode(message).decode())
    if out.is_terminal:
        stream = printable(invocation.arguments.stream)
        notes.say(notes.painted("dim", f"{number} of {stream}, epoch {epoch or 'none'}"))
    return 0


def _pages(invocation: Invocation) -> Iterator[_History]:
    """The pages of the history, or of its newest messages, which may be more than a page."""
    since, limit = invocation.arguments.since, invocation.arguments.limit
    query: dict[str, object] = {} if since is None else {"since": int(time.time() - since)}
    if not limit:
        yield from _following(invocation, query)
    elif limit <= PAGE:
        yield _page(invocation, {**query, "limit": limit})
    else:
        last = deque[_Message](maxlen=limit)
        for page in _following(invocation, query):
            last += page.messages
        yield _History(page.stream, page.epoch, list(last))


def _following(invocation: Invocation, query: dict[str, object]) -> Iterator[_History]:
    page = _page(invocation, query)
    yield page
    while page.more:
        page = _page(invocation, {"after": f"{page.messages[-1].offset}:{page.epoch}"})
        yield page


def _page(invocation: Invocation, query: dict[str, object]) -> _History:
    path = f"/history/{segment(invocation.arguments.stream)}"
    return api_of(invocation).read(_History, path, query)
