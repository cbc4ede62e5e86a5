"""The table of subcommands. Knows: names. Does not know: what a tool does, or how it is run.

The server and ``--help`` need only this table, so importing it is cheap.
"""

from typing import Final

import msgspec


class Tool(msgspec.Struct, frozen=True):
    """A subcommand: its name, its module in this room, and its line in the help.

    One that ``takes_server_flags`` gets the options that it does not have itself as a server would.
    """

    name: str
    module: str
    summary: str
    takes_server_flags: bool = False


TOOLS: Final = (
    Tool("publish", "publish", "Publish to a stream"),
    Tool("subscribe", "subscribe", "Print what arrives"),
    Tool("presence", "presence", "List members of a stream"),
    Tool("history", "history", "Print a stream's history"),
    Tool("who", "who", "List connected clients"),
    Tool("streams", "streams", "List streams"),
    Tool("tail", "tail", "Follow what happens"),
    Tool("disconnect", "disconnect", "Disconnect clients"),
    Tool("nodes", "nodes", "List the cluster's nodes"),
    Tool("stats", "stats", "Show metrics"),
    Tool("token", "tokens", "Print a client's token"),
    Tool("sign", "sign", "Sign a stream's name"),
    Tool("bench", "bench", "Generate load"),
    Tool("doctor", "doctor", "Check a server's setup", takes_server_flags=True),
    Tool("health", "health", "Check if a server is alive", takes_server_flags=True),
    Tool("new", "new", "Create a project"),
    Tool("completion", "completion", "Complete in your shell"),
)
"""Their order is that of ``--help``. A summary has up to 26 characters."""

HELP: Final = "help"


def find(name: str) -> Tool | None:
    """The tool of this name."""
    return next((tool for tool in TOOLS if tool.name == name), None)
