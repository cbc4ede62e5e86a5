"""Disconnects clients, whichever node has them, through the REST API of a server.

  catenary disconnect --sid=SID
  catenary disconnect --identifiers='{"user_id":42}'
  catenary disconnect --identifiers='{"user_id":42}' --final

Asks before, on a terminal, and says how many clients there were. By
identifiers, sessions that could be resumed end, too. Exit status: 1 if the API
refuses, no client was connected, or the answer is no.
"""

import argparse
import sys

import msgspec

from catenary.errors import BackendError, ConfigError
from catenary.terminal.console import Console, consoles, printable
from catenary.terminal.rest import Api, add_api_arguments, api_of, decoded, segment
from catenary.terminal.running import Invocation


class _Count(msgspec.Struct):
    count: int


class _Disconnected(msgspec.Struct):
    """``disconnected`` is None if each node disconnects its own."""

    disconnected: int | None = None


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--sid", metavar="SID", help="one client")
    parser.add_argument(
        "--identifiers", metavar="TEXT", help="all clients with exactly these identifiers"
    )
    parser.add_argument(
        "--final", action="store_true", help="tell the clients not to connect again"
    )
    parser.add_argument("--yes", action="store_true", help="do not ask before")
    add_api_arguments(parser)


def run(invocation: Invocation) -> int:
    arguments, api = invocation.arguments, api_of(invocation)
    if bool(arguments.sid) == bool(arguments.identifiers):
        raise ConfigError("expected either --sid or --identifiers; catenary who lists both")
    name = "sid" if arguments.sid else "identifiers"
    value: str = arguments.sid or arguments.identifiers
    found = api.read(_Count, "/connections/count", {name: value}).count
    out, notes = consoles(invocation.environ)
    clients = f"{found:,} client{'' if found == 1 else 's'} with the {name} {printable(value)}"
    if not found and arguments.sid:
        raise BackendError(f"no node has a client with the sid {printable(value)}")
    if not arguments.yes and sys.stdin.isatty() and not _agreed(notes, clients):
        notes.say("nobody was disconnected")
        return 1
    number = _disconnect(api, arguments, found)
    out.say(f"disconnected {number:,} client{'' if number == 1 else 's'}")
    return 0 if number else 1


def _agreed(notes: Console, clients: str) -> bool:
    notes.stream.write(f"Disconnect {clients}? [y/N] ")
    notes.stream.flush()
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def _disconnect(api: Api, arguments: argparse.Namespace, found: int) -> int:
    """Returns how many clients there were."""
    reconnect = not arguments.final
    if arguments.sid:
        query = {"reconnect": str(reconnect).lower()}
        body = api.send("DELETE", f"/connections/{segment(arguments.sid)}", query)
    else:
        command = {"identifiers": arguments.identifiers, "reconnect": reconnect}
        body = api.send("POST", "/disconnect", None, command)
    number = decoded(_Disconnected, body).disconnected
    return found if number is None else number
