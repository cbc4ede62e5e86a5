"""Prints a token (JWT, HS256) that authenticates a client with these identifiers.

  catenary token user_id=42
  catenary token --identifiers '{"user_id": 42}' --ttl 10m

The secret comes from --secret, --key, ANYCABLE_SECRET or ANYCABLE_JWT_SECRET,
and is never printed.
"""

import argparse
import json
import time

from catenary.auth.jwt import Claims, issued
from catenary.terminal.argument_values import fields, seconds
from catenary.terminal.console import consoles
from catenary.terminal.running import Invocation
from catenary.terminal.server_settings import add_key_arguments, server_settings


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("fields", metavar="NAME=VALUE", nargs="*")
    parser.add_argument("--identifiers", metavar="JSON", help="all identifiers as an object")
    parser.add_argument(
        "--ttl", type=seconds, default=3600.0, metavar="TIME", help="such as 90, 10m, 1d (1h)"
    )
    add_key_arguments(parser, "the key that signs tokens")


def run(invocation: Invocation) -> int:
    arguments = invocation.arguments
    identifiers = fields([*filter(None, [arguments.identifiers]), *arguments.fields])
    claims = Claims(
        ext=json.dumps(identifiers, separators=(",", ":"), ensure_ascii=False),
        exp=int(time.time() + arguments.ttl),
    )
    secret = server_settings(invocation, "jwt_secret").token_secret
    consoles(invocation.environ)[0].say(issued(claims, secret))
    return 0
