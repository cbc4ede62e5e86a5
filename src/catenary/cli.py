"""The command line: arguments → exit status.

catenary [FLAGS]                   a server, as anycable-go with the same flags
catenary MODULE:CABLE [FLAGS]      a server with the application in the same process
catenary rpc MODULE:CABLE [FLAGS]  the application as a gRPC server at rpc_host, for another server
catenary COMMAND …                 one of the tools in ``terminal/``
"""

import os
import sys
from collections.abc import Coroutine, Sequence
from pathlib import Path
from typing import Any

from catenary import __version__
from catenary.config.effective import effective
from catenary.config.load import StartRequest, load
from catenary.errors import ConfigError, ServerEnded
from catenary.terminal.tools import HELP, TOOLS, find


def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit status: 0 after an orderly end, 1 if the configuration is unusable or the server has ended
    unexpectedly; tools have their own."""
    words = sys.argv[1:] if argv is None else argv
    if words and words[0] == HELP:
        words = (*filter(find, words[1:2]), "--help")
    tool = find(words[0]) if words else None
    if tool is not None:
        from catenary.terminal.running import run

        return run(tool, words[1:], os.environ, _read)
    try:
        what, flags = _split(words)
        request = load(flags, os.environ, _read, with_cable=len(what) == 1)
        match request.action:
            case "version":
                print(__version__)  # noqa: T201
            case "help":
                from catenary.config.render import help_text

                print(help_text((tool.name, tool.summary) for tool in TOOLS), end="")  # noqa: T201
            case "print-config":
                from catenary.config.render import toml

                print(toml(request.options), end="")  # noqa: T201
            case "serve" if what[:1] == ("rpc",):
                _serve_rpc(request, what[1])
            case "serve":
                _serve(request, what[0] if what else None)
    except (ConfigError, ServerEnded) as error:
        print(f"catenary: {error}", file=sys.stderr)  # noqa: T201
        return 1
    return 0


def _read(path: str) -> str | None:
    """The text of a file; None if it does not exist. Raises :class:`ConfigError`."""
    try:
        return Path(path).read_text()
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: expected a readable text file: {error}") from error


def _split(argv: Sequence[str]) -> tuple[tuple[str, ...], Sequence[str]]:
    """Splits arguments into the words before the flags, and the flags. Raises :class:`ConfigError`."""
    if argv and ":" in argv[0] and not argv[0].startswith("-"):
        return (argv[0],), argv[1:]
    if argv and argv[0] == "rpc":
        if len(argv) < 2 or ":" not in argv[1]:
            raise ConfigError("rpc: expected a cable, as in: catenary rpc app:cable")
        return (argv[0], argv[1]), argv[2:]
    return (), argv


def _serve_rpc(request: StartRequest, where: str) -> None:
    """Runs an RPC server until a signal."""
    # Silences grpcio's own lines on standard error; ours cover the same events.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")

    import asyncio

    from catenary.channels.loading import load as load_cable
    from catenary.process import hangup
    from catenary.server.run import answer_calls

    hangup.survive()

    options = effective(request.options)
    if options.app.workers:
        raise ConfigError("app_workers, reload: expected a server's sockets to keep, got rpc")
    asyncio.run(answer_calls(options, load_cable(where)))


def _serve(request: StartRequest, where: str | None) -> None:
    """Runs a server until a signal. Imports are here, so that help and errors stay fast."""
    import asyncio

    from catenary.process import hangup

    hangup.survive()
    from catenary.process.worker_context import WorkerContext
    from catenary.server.run import serve, supervise

    options = effective(request.options)
    if options.app.workers and where is None:
        raise ConfigError(
            "app_workers, reload: expected a cable to run, as in: catenary app:cable --app_workers=2"
        )
    worker = WorkerContext.from_environ(os.environ)
    if worker is None and options.server.workers > 1:
        asyncio.run(supervise(options, request))
        return
    code = where if where is not None and options.app.workers else ""
    cable = None
    # The application of --asgi runs in this process, and publishes through the cable that it imports.
    if where is not None and (not code or options.server.asgi):
        from catenary.channels.loading import load as load_cable

        cable = load_cable(where)
    _run(serve(options, request, worker, cable, code))


def _run(server: Coroutine[Any, Any, None]) -> None:
    """Runs a server to its end. Raises :class:`ServerEnded` if application code calls sys.exit(): asyncio lets
    SystemExit end the event loop, whatever its status, and then no clients are served."""
    import logging

    import uvloop

    try:
        uvloop.run(server)
    except SystemExit as error:
        logging.getLogger("catenary.server").exception("SystemExit ended the server")
        raise ServerEnded("SystemExit ended the server") from error
