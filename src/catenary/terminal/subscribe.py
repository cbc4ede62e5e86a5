"""Subscribes to a channel or a stream, and prints what arrives.

  catenary subscribe ChatChannel id=42
  catenary subscribe --stream chat/1 --history 5m
  catenary subscribe ChatChannel id=42 --perform speak text=hi --count 1

Each message is a line: JSON unless standard output is a terminal. Exit status:
0 after --count messages, or after --timeout without a --count; 1 if the server
refuses, or if --timeout comes first.
"""

import argparse
import asyncio
import json
import signal
import time
from typing import Any, Final

from catenary.errors import ConfigError
from catenary.protocols.actioncable_json import EXTENDED
from catenary.terminal.argument_values import (
    add_client_arguments,
    count,
    fields,
    seconds,
)
from catenary.terminal.arguments import more_arguments
from catenary.terminal.cable_socket import HandshakeRequest, address
from catenary.terminal.console import Console, consoles
from catenary.terminal.running import Invocation
from catenary.terminal.server_settings import ServerSettings, add_key_arguments, server_settings
from catenary.terminal.subscription_client import SubscriptionClient, SubscriptionPlan

EVERYTHING_SINCE: Final = 1
"""For --history=all: a second of 1970, because 0 requests no history."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("channel", metavar="CHANNEL", nargs="?")
    parser.add_argument("params", metavar="NAME=VALUE", nargs="*")
    stream = parser.add_mutually_exclusive_group()
    stream.add_argument("--stream", metavar="NAME", help="a stream; signed if a key is known")
    stream.add_argument("--signed", metavar="NAME", help="a signed stream name")
    more = more_arguments(parser)
    more.add_argument("--plain", action="store_true", help="do not sign the name of --stream")
    parser.add_argument("--url", help="the cable, ws://…/cable")
    add_key_arguments(parser, "the key that signs stream names")
    add_client_arguments(parser)
    parser.add_argument(
        "--history", metavar="TIME", type=_since, help="start so far back, such as 5m, or: all"
    )
    parser.add_argument("--presence", action="store_true", help="print presence and its changes")
    more.add_argument(
        "--join", nargs="+", metavar="ID", help="join presence as ID, with name=value …"
    )
    parser.add_argument(
        "--perform", nargs="+", metavar="ACTION", help="call an action with name=value …"
    )
    parser.add_argument("--count", type=count, metavar="N", help="end after N messages")
    parser.add_argument("--timeout", type=seconds, metavar="TIME", help="end after this time")
    more.add_argument("--bare", action="store_true", help="print only messages, without positions")


def run(invocation: Invocation) -> int:
    arguments, server = invocation.arguments, server_settings(invocation, "streams_secret")
    plan = _plan(arguments, server)
    shown = (f"anycable-token.{arguments.jwt}",) if arguments.jwt else ()
    opening = HandshakeRequest(
        address=address(arguments.url or server.cable_url),
        # The extended one only: a server that is offered both may choose the older one.
        subprotocols=(EXTENDED, *shown),
        headers=tuple(arguments.header),
    )
    return asyncio.run(_listen(opening, plan, arguments.timeout, *consoles(invocation.environ)))


def _plan(arguments: argparse.Namespace, server: ServerSettings) -> SubscriptionPlan:
    perform = join = None
    if arguments.perform:
        action, *params = arguments.perform
        perform = json.dumps({"action": action, **fields(params)})
    if arguments.join:
        member_id, *info = arguments.join
        join = {"id": member_id, "info": fields(info)}
    return SubscriptionPlan(
        identifier=_identifier(arguments, server),
        since=None if arguments.history is None else _moment(arguments.history),
        presence=arguments.presence,
        join=join,
        perform=perform,
        count=arguments.count,
        bare=arguments.bare,
    )


def _identifier(arguments: argparse.Namespace, server: ServerSettings) -> str:
    if arguments.stream or arguments.signed:
        if arguments.channel:
            raise ConfigError(f"expected a channel or a stream, got both: {arguments.channel}")
        if arguments.signed:
            return json.dumps({"channel": "$pubsub", "signed_stream_name": arguments.signed})
        return server.identifier(arguments.stream, is_plain=arguments.plain)
    if not arguments.channel:
        raise ConfigError("expected a channel, or --stream=NAME, got neither")
    if arguments.channel.startswith("{"):
        return json.dumps(fields([arguments.channel, *arguments.params]))
    return json.dumps({"channel": arguments.channel, **fields(arguments.params)})


def _since(text: str) -> float:
    return -1.0 if text == "all" else seconds(text)


def _moment(history_s: float) -> int:
    return EVERYTHING_SINCE if history_s < 0 else int(time.time() - history_s)


async def _listen(
    opening: HandshakeRequest,
    plan: SubscriptionPlan,
    timeout_s: float | None,
    out: Console,
    notes: Console,
) -> int:
    listener = SubscriptionClient(opening, plan, out, notes)
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, listener.end, 0)
    staying: asyncio.Future[None] = asyncio.ensure_future(listener.stay())
    try:
        async with asyncio.timeout(timeout_s):
            await _first(staying, listener.ended)
    except TimeoutError:
        listener.time_out()
    if staying.done():
        staying.result()
    staying.cancel()
    await asyncio.wait([staying])
    listener.close()
    return await listener.ended


async def _first(*futures: asyncio.Future[Any]) -> None:
    await asyncio.wait(futures, return_when=asyncio.FIRST_COMPLETED)
