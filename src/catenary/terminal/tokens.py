"""Makes a token (JWT, HS256) that lets a client in with these identifiers.

  catenary token user_id=42
  catenary token --identifiers '{"user_id": 42}' --ttl 10m

The secret comes from --secret, --key, ANYCABLE_SECRET or ANYCABLE_JWT_SECRET, and is never printed.
"""

import argparse
import json
import time

from catenary.auth.jwt import Claims, issued
from catenary.terminal.running import Given
from catenary.terminal.screen import papers
from catenary.terminal.surroundings import declare_keys, surroundings
from catenary.terminal.words import fields, seconds


def declare(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("fields", metavar="NAME=VALUE", nargs="*")
    parser.add_argument("--identifiers", metavar="JSON", help="all of them as an object")
    parser.add_argument("--ttl", type=seconds, default=3600.0, help="such as 90, 10m, 1d (1h)")
    declare_keys(parser, "the key of tokens")


def run(given: Given) -> int:
    arguments = given.arguments
    identifiers = fields([*filter(None, [arguments.identifiers]), *arguments.fields])
    claims = Claims(
        ext=json.dumps(identifiers, separators=(",", ":"), ensure_ascii=False),
        exp=int(time.time() + arguments.ttl),
    )
    secret = surroundings(given, "jwt_secret").token_secret
    papers(given.environ)[0].say(issued(claims, secret))
    return 0
