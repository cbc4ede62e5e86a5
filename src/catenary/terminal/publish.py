"""Publishes to a stream of any AnyCable server, over HTTP.

  catenary publish chat/1 '{"text": "hi"}'       JSON, or text
  echo '{"text": "hi"}' | catenary publish chat/1
  tail -f app.log | catenary publish logs --lines

Exit status: 0 if the server accepted everything, else 1. With --lines, a line
that it refuses for good is reported and skipped; an outage ends the program.
"""

import argparse
import io
import sys
from collections.abc import Iterator

import msgspec

from catenary.channels.publishers.http import HttpPublisher
from catenary.errors import BackendError, BackendRefused, ConfigError
from catenary.messages.lenient_json import checked, without_surrogates
from catenary.terminal.running import Invocation
from catenary.terminal.server_settings import add_key_arguments, server_settings


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("stream", metavar="STREAM")
    parser.add_argument(
        "data", metavar="DATA", nargs="?", default="-", help="default: standard input"
    )
    parser.add_argument("--url", help="http://HOST:PORT/_broadcast")
    add_key_arguments(parser, "the broadcast key")
    parser.add_argument(
        "--exclude-socket", metavar="SID", help="a session that must not receive it"
    )
    parser.add_argument("--transient", action="store_true", help="keep it out of the history")
    parser.add_argument(
        "--text", action="store_true", help="send the data as text even if it is JSON"
    )
    parser.add_argument("--lines", action="store_true", help="publish each line of standard input")


def run(invocation: Invocation) -> int:
    arguments = invocation.arguments
    if arguments.lines and arguments.data != "-":
        raise ConfigError("--lines: expected the data on standard input, got some as an argument")
    server = server_settings(invocation, "broadcast_key")
    url = arguments.url or server.broadcast_url
    try:
        publisher = HttpPublisher(url, key=arguments.key or server.broadcast_key)
    except ValueError as error:
        raise ConfigError(f"--url: {error}") from error
    status = 0
    try:
        for text in _texts(arguments):
            try:
                publisher.publish(_publication(arguments, text))
            except BackendRefused as error:
                if not arguments.lines:
                    raise
                # The next line may be accepted.
                sys.stderr.write(f"catenary publish: {text[:60]!r}: {error}\n")
                status = 1
            except BackendError as error:
                if error.__cause__ is None:
                    raise
                raise BackendError(f"{error}; start it, or name another with --url") from error
    finally:
        publisher.close()
    return status


def _texts(arguments: argparse.Namespace) -> Iterator[str]:
    if isinstance(sys.stdin, io.TextIOWrapper):
        sys.stdin.reconfigure(errors="replace")
    if arguments.data != "-":
        yield arguments.data
    elif arguments.lines:
        # One by one as they arrive: the input may never end.
        yield from (line for line in map(_without_end, sys.stdin) if line)
    else:
        yield _without_end(sys.stdin.read())


def _without_end(line: str) -> str:
    return line.removesuffix("\n").removesuffix("\r")


def _publication(arguments: argparse.Namespace, text: str) -> bytes:
    meta: dict[str, object] = {}
    if arguments.exclude_socket:
        meta["exclude_socket"] = without_surrogates(arguments.exclude_socket)
    if arguments.transient:
        meta["transient"] = True
    text = without_surrogates(text)
    read = None if arguments.text else checked(text.encode())
    data = msgspec.json.encode(text) if read is None else read
    publication = {"stream": without_surrogates(arguments.stream), "data": data.decode()}
    return msgspec.json.encode({**publication, "meta": meta} if meta else publication)
