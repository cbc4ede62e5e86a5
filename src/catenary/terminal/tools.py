"""The table of subcommands. Knows: names. Does not know: what a tool does, or how it is called.

Importing it costs nothing: a server that starts, and ``--help``, need no more.
"""

from typing import Final

import msgspec


class Tool(msgspec.Struct, frozen=True):
    """A subcommand: its name, the module of this room that has it, and its sentence in the help."""

    name: str
    module: str
    summary: str


TOOLS: Final = (
    Tool("publish", "publish", "Publish to a stream, over HTTP"),
    Tool("subscribe", "subscribe", "Listen to a channel or a stream, and speak there"),
    Tool("presence", "presence", "Who is on a stream"),
    Tool("history", "history", "What was published to a stream"),
    Tool("token", "tokens", "Make a token (JWT) that lets a client in"),
    Tool("sign", "sign", "Sign the name of a stream"),
    Tool("bench", "bench", "Load a cable server, and see whether everything arrives"),
    Tool("new", "new", "Begin a project"),
    Tool("completion", "completion", "A script that completes these words in a shell"),
)

HELP: Final = "help"


def find(name: str) -> Tool | None:
    """The tool of this name."""
    return next((tool for tool in TOOLS if tool.name == name), None)
