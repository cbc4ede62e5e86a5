"""The table of subcommands. Knows: names. Does not know: what a tool does, or how it is run.

The server and ``--help`` need only this table, so importing it is cheap.
"""

from typing import Final

import msgspec


class Tool(msgspec.Struct, frozen=True):
    """A subcommand: its name, its module in this room, and its line in the help."""

    name: str
    module: str
    summary: str


TOOLS: Final = (
    Tool("publish", "publish", "Publish to a stream, over HTTP"),
    Tool("subscribe", "subscribe", "Print the messages of a channel or a stream"),
    Tool("presence", "presence", "List who is present on a stream"),
    Tool("history", "history", "Print the history of a stream"),
    Tool("token", "tokens", "Print a token (JWT) that authenticates a client"),
    Tool("sign", "sign", "Sign the name of a stream"),
    Tool("bench", "bench", "Generate load, and check that every message arrives"),
    Tool("new", "new", "Create a project"),
    Tool("completion", "completion", "Print a completion script for a shell"),
)

HELP: Final = "help"


def find(name: str) -> Tool | None:
    """The tool of this name."""
    return next((tool for tool in TOOLS if tool.name == name), None)
