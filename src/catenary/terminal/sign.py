"""Signs the name of a stream, which authorizes a client to subscribe to it.

  catenary sign chat/1
  catenary sign chat/1 --identifier   the identifier that a client sends
  catenary sign chat/1 --turbo
  catenary sign chat/1 --write        for clients that write a durable stream

The secret comes from --secret, --key, ANYCABLE_SECRET, ANYCABLE_STREAMS_SECRET
(or the variables of Turbo and CableReady), and is never printed. Whispers on
signed streams need --streams_whisper of the server.
"""

import argparse
import json
from typing import Final

from catenary.terminal.console import consoles
from catenary.terminal.running import Invocation
from catenary.terminal.server_settings import add_key_arguments, server_settings

_KINDS: Final = {
    "streams": ("streams_secret", "$pubsub", "signed_stream_name"),
    "write": ("streams_secret", "", ""),
    "turbo": ("turbo_streams_secret", "Turbo::StreamsChannel", "signed_stream_name"),
    "cable_ready": ("cable_ready_secret", "CableReady::Stream", "identifier"),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("stream", metavar="STREAM")
    kinds = parser.add_mutually_exclusive_group()
    for flag, kind in (("--turbo", "turbo"), ("--cable-ready", "cable_ready")):
        kinds.add_argument(
            flag, action="store_const", const=kind, dest="kind", help="sign with its key"
        )
    kinds.add_argument(
        "--write",
        action="store_const",
        const="write",
        dest="kind",
        help="sign for writing (Durable Streams)",
    )
    parser.add_argument("--identifier", action="store_true", help="print the whole identifier")
    add_key_arguments(parser, "the key that signs stream names")


def run(invocation: Invocation) -> int:
    kind = invocation.arguments.kind or "streams"
    option, channel, name = _KINDS[kind]
    signed = server_settings(invocation, option).signed(invocation.arguments.stream, by=kind)
    identifier = json.dumps({"channel": channel, name: signed}) if channel else signed
    consoles(invocation.environ)[0].say(identifier if invocation.arguments.identifier else signed)
    return 0
