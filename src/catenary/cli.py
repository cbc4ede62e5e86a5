"""The command line: arguments → exit status.

Without a subcommand it serves, as anycable-go does, so that ``anycable-go FLAGS`` works as
``catenary FLAGS``.
"""

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from catenary import __version__
from catenary.config.effective import effective
from catenary.config.load import Request, load
from catenary.errors import ConfigError


def main(argv: Sequence[str] | None = None) -> int:
    """Returns 0 after an orderly end, 1 where the configuration can't be used."""
    try:
        request = load(sys.argv[1:] if argv is None else argv, os.environ, _read)
        match request.action:
            case "version":
                print(__version__)  # noqa: T201
            case "help":
                from catenary.config.render import help_text

                print(help_text(), end="")  # noqa: T201
            case "print-config":
                from catenary.config.render import toml

                print(toml(request.options), end="")  # noqa: T201
            case "serve":
                _serve(request)
    except ConfigError as error:
        print(f"catenary: {error}", file=sys.stderr)  # noqa: T201
        return 1
    return 0


def _read(path: str) -> str | None:
    """A file's text, None where there is none. Raises :class:`ConfigError`."""
    try:
        return Path(path).read_text()
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: expected a readable text file: {error}") from error


def _serve(request: Request) -> None:
    """Runs until a signal. What a server needs is imported here: help and errors stay quick."""
    # grpcio writes lines of its own to standard error; ours say what matters.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")

    import uvloop

    from catenary.server.run import serve

    uvloop.run(serve(effective(request.options), request))
