"""How a subcommand is carried out: its words → its exit status.

A tool's module is imported when it is asked for. Knows: arguments, errors, the sources of
configuration. Does not know: what a tool does.
"""

import argparse
import importlib
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol, cast

import msgspec

from catenary.config.load import Request, load
from catenary.errors import CatenaryError
from catenary.terminal.tools import Tool

Read = Callable[[str], str | None]
"""A file's text, None where there is none. Raises :class:`catenary.errors.ConfigError`."""


class Given(msgspec.Struct, frozen=True):
    """What a tool was given: its arguments, the environment, and a way to read files."""

    arguments: argparse.Namespace
    environ: Mapping[str, str]
    read: Read

    def configuration(self, *flags: str) -> Request:
        """What the server's own sources say here, and these of its flags.

        ``--config-path`` is heeded, which :func:`declare_sources` declares. Raises :class:`catenary.errors.ConfigError`.
        """
        path = self.arguments.config_path
        where = (f"--config-path={path}",) if path else ()
        return load((*where, *flags), self.environ, self.read)


class _Module(Protocol):
    """What every tool's module has."""

    def declare(self, parser: argparse.ArgumentParser) -> None:
        """Adds the tool's arguments."""
        ...

    def run(self, given: Given) -> int:
        """Carries it out; the exit status. Raises :class:`catenary.errors.CatenaryError`."""
        ...


def declare_sources(parser: argparse.ArgumentParser) -> None:
    """Adds what :meth:`Given.configuration` heeds."""
    parser.add_argument(
        "--config-path", metavar="FILE", help="the server's configuration (else ./anycable.toml)"
    )


def parser_of(tool: Tool) -> argparse.ArgumentParser:
    """A tool's arguments."""
    parser = argparse.ArgumentParser(
        prog=f"catenary {tool.name}",
        description=_module(tool).__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    _module(tool).declare(parser)
    return parser


def run(tool: Tool, words: Sequence[str], environ: Mapping[str, str], read: Read) -> int:
    """Carries a tool out: 0 done, 1 refused or lost, 2 not understood, 130 interrupted."""
    try:
        arguments = parser_of(tool).parse_intermixed_args(words)
        status = _module(tool).run(Given(arguments, environ, read))
        sys.stdout.flush()
    except SystemExit as end:
        # argparse has answered --help, or has said what it did not understand.
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
        # Whoever read has had enough, as head does; nothing is left to be written to it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    return status


def _module(tool: Tool) -> _Module:
    return cast("_Module", importlib.import_module(f"catenary.terminal.{tool.module}"))
