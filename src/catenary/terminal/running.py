"""Runs a subcommand: arguments → exit status.

Imports the tool's module when it is run. Knows: arguments, errors, the sources of
configuration. Does not know: what a tool does.
"""

import argparse
import importlib
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol, cast

import msgspec

from catenary.config.load import StartRequest, load
from catenary.errors import CatenaryError
from catenary.terminal.arguments import ToolParser, more_arguments
from catenary.terminal.tools import Tool

Read = Callable[[str], str | None]
"""Reads a file; None if it does not exist. Raises :class:`catenary.errors.ConfigError`."""


class Invocation(msgspec.Struct, frozen=True):
    """The input of a tool: its arguments, the environment, and a function that reads files."""

    arguments: argparse.Namespace
    environ: Mapping[str, str]
    read: Read

    def configuration(self, *flags: str) -> StartRequest:
        """The server's configuration, with these flags of the server.

        Reads ``--config-path``, which :func:`add_config_argument` declares. Raises :class:`catenary.errors.ConfigError`.
        """
        path = self.arguments.config_path
        where = (f"--config-path={path}",) if path else ()
        return load((*where, *flags), self.environ, self.read)


class _Module(Protocol):
    """The functions of every tool's module."""

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Adds the tool's arguments."""
        ...

    def run(self, invocation: Invocation) -> int:
        """Runs the tool and returns the exit status. Raises :class:`catenary.errors.CatenaryError`."""
        ...


def add_config_argument(parser: argparse.ArgumentParser) -> None:
    """Adds ``--config-path``, which :meth:`Invocation.configuration` reads."""
    more_arguments(parser).add_argument(
        "--config-path",
        metavar="FILE",
        help="the server's configuration (default: ./anycable.toml)",
    )


def parser_of(tool: Tool) -> ToolParser:
    """The parser of a tool's arguments."""
    description = _module(tool).__doc__ or ""
    parser = ToolParser(tool.name, description, takes_server_flags=tool.takes_server_flags)
    _module(tool).add_arguments(parser)
    return parser


def run(tool: Tool, words: Sequence[str], environ: Mapping[str, str], read: Read) -> int:
    """Runs a tool. Exit status: 0 done, 1 refused or lost, 2 invalid arguments, 130 interrupted."""
    try:
        arguments = parser_of(tool).read(words)
        status = _module(tool).run(Invocation(arguments, environ, read))
        sys.stdout.flush()
    except SystemExit as end:
        # argparse has printed the help or an error.
        return end.code if isinstance(end.code, int) else 2
    except CatenaryError as error:
        print(f"catenary {tool.name}: {error}", file=sys.stderr)  # noqa: T201
        return 1
    except UnicodeError as error:
        print(f"catenary {tool.name}: expected text in UTF-8: {error}", file=sys.stderr)  # noqa: T201
        return 1
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # The reader closed the pipe, as head does; discard the rest.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    return status


def _module(tool: Tool) -> _Module:
    return cast("_Module", importlib.import_module(f"catenary.terminal.{tool.module}"))
