"""Signs the name of a stream, which gives its holder the right to listen there.

  catenary sign chat/1
  catenary sign chat/1 --identifier          what a client subscribes with, as JSON
  catenary sign chat/1 --turbo

The secret comes from --secret, --key, ANYCABLE_SECRET, ANYCABLE_STREAMS_SECRET (or the variables of
Turbo and CableReady), and is never printed. Whether clients may whisper on signed streams, the
server decides (--streams_whisper).
"""

import argparse
import json
from typing import Final

from catenary.terminal.running import Given
from catenary.terminal.screen import papers
from catenary.terminal.surroundings import declare_keys, surroundings

_KINDS: Final = {
    "streams": ("streams_secret", "$pubsub", "signed_stream_name"),
    "turbo": ("turbo_streams_secret", "Turbo::StreamsChannel", "signed_stream_name"),
    "cable_ready": ("cable_ready_secret", "CableReady::Stream", "identifier"),
}


def declare(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("stream", metavar="STREAM")
    kinds = parser.add_mutually_exclusive_group()
    for flag, kind in (("--turbo", "turbo"), ("--cable-ready", "cable_ready")):
        kinds.add_argument(flag, action="store_const", const=kind, dest="kind", help="with its key")
    parser.add_argument("--identifier", action="store_true", help="print it within an identifier")
    declare_keys(parser, "the key of stream names")


def run(given: Given) -> int:
    kind = given.arguments.kind or "streams"
    option, channel, name = _KINDS[kind]
    signed = surroundings(given, option).signed(given.arguments.stream, by=kind)
    identifier = json.dumps({"channel": channel, name: signed})
    papers(given.environ)[0].say(identifier if given.arguments.identifier else signed)
    return 0
