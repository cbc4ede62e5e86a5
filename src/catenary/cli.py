"""The command line: arguments → exit status.

catenary [FLAGS]                   a server, as anycable-go with the same flags
catenary MODULE:CABLE [FLAGS]      a server with the application in the same process
catenary rpc MODULE:CABLE [FLAGS]  the application as a gRPC server at rpc_host, for another server
catenary COMMAND …                 one of the tools in ``terminal/``
"""

import gc
import os
import sys
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from catenary import __version__
from catenary.config.effective import effective, is_supervised
from catenary.config.load import StartRequest, load, refuse_vanished
from catenary.config.options import Options
from catenary.config.suggestions import did_you_mean
from catenary.errors import ConfigError, ImportFailed, ServerEnded, UnexpectedWord
from catenary.terminal.tools import HELP, TOOLS, find

if TYPE_CHECKING:
    from catenary.process.worker_context import WorkerContext
    from catenary.server.worker_configuration import WorkerConfiguration


def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit status: 0 after an orderly end, 1 if the configuration is unusable or the server has ended
    unexpectedly; tools have their own."""
    words = list(sys.argv[1:] if argv is None else argv)
    tool = find(words[0]) if words else None
    if tool is not None:
        from catenary.terminal.running import run

        return run(tool, words[1:], os.environ, _read)
    is_debug = False
    try:
        if words[:1] == [HELP]:
            return _help(words[1:])
        what, flags = _split(words)
        source = _Source(flags, with_cable=len(what) == 1)
        request = source.read()
        log = request.options.log
        is_debug = log.debug or log.level == "debug"
        match request.action:
            case "version":
                print(__version__)  # noqa: T201
            case "help" | "help-all":
                from catenary.config import render

                text = render.help_text if request.action == "help-all" else render.brief_help
                print(text([(tool.name, tool.summary) for tool in TOOLS]), end="")  # noqa: T201
            case "print-config":
                from catenary.config.render import toml

                print(toml(request.options), end="")  # noqa: T201
            case "serve" if what[:1] == (RPC,):
                _serve_rpc(request, what[1])
            case "serve":
                _serve(request, what[0] if what else None, source)
    except UnexpectedWord as error:
        _complain(_explained(error, is_first=words[:1] == [error.word]))
        return 1
    except ImportFailed as error:
        if is_debug:
            import traceback

            traceback.print_exception(error.__cause__)
        _complain(f"{error}{'' if is_debug else ' (--debug shows the traceback)'}")
        return 1
    except (ConfigError, ServerEnded) as error:
        _complain(str(error))
        return 1
    return 0


def _complain(sentence: str) -> None:
    print(f"catenary: {sentence}", file=sys.stderr)  # noqa: T201


def _help(words: Sequence[str]) -> int:
    """``catenary help [COMMAND]``. Raises :class:`ConfigError`."""
    name = words[0] if words else ""
    if name in ("", HELP, RPC) or name.startswith("-"):
        return main(["--help-all" if "--help-all" in words else "--help"])
    if find(name) is None:
        raise ConfigError(f"unknown command {name!r}{did_you_mean(name, _COMMANDS)}{_SEE_HELP}")
    return main([name, "--help-all" if "--help-all" in words else "--help"])


def _explained(error: UnexpectedWord, *, is_first: bool) -> str:
    """The message for a word that is neither a command nor an option, with the nearest command that exists."""
    word = error.word
    if ":" in word:
        return f"{error}; a cable comes first, as in: catenary {word} --port=8080"
    if not is_first:
        known = find(word)
        return f"{error}; a command comes first: catenary {word}" if known else str(error)
    module = word.removesuffix(".py").removesuffix("/").replace("/", ".")
    is_here = Path(word).is_dir() or Path(f"{word.removesuffix('.py')}.py").is_file()
    hint = "" if is_here else did_you_mean(word, _COMMANDS)
    if not hint and word in _STARTS:
        hint = "; a server needs no command: catenary app:cable, or catenary alone"
    hint = hint or did_you_mean(word, {"version": "--version", "config": "--print-config"})
    if not hint and all(part.isidentifier() for part in module.split(".")):
        hint = f"; did you mean {module}:cable?"
    return f"unknown command {word!r}{hint}{_SEE_HELP}"


RPC: Final = "rpc"
_COMMANDS: Final = (*(tool.name for tool in TOOLS), RPC, HELP)
_STARTS: Final = ("serve", "server", "start", "run", "up")
_HELP_FLAGS: Final = ("-h", "--help", "--help-all")
_SEE_HELP: Final = " (catenary --help lists the commands)"


def _read(path: str) -> str | None:
    """The text of a file; None if it does not exist. Raises :class:`ConfigError`."""
    try:
        return Path(path).read_text()
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        raise ConfigError(f"{path}: expected a readable text file: {why}") from error


def _split(argv: Sequence[str]) -> tuple[tuple[str, ...], Sequence[str]]:
    """Splits arguments into the words before the flags, and the flags. Raises :class:`ConfigError`."""
    if argv and ":" in argv[0] and not argv[0].startswith("-"):
        return (argv[0],), argv[1:]
    if argv and argv[0] == RPC:
        if len(argv) < 2 or ":" not in argv[1]:
            if any(word in _HELP_FLAGS for word in argv[1:]):
                return (), argv[1:]
            raise ConfigError("rpc: expected a cable, as in: catenary rpc app:cable")
        return (argv[0], argv[1]), argv[2:]
    return (), argv


def _serve_rpc(request: StartRequest, where: str) -> None:
    """Runs an RPC server until a signal."""
    # Silences grpcio's own lines on standard error; ours cover the same events.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    _let_children_start()

    import asyncio

    from catenary.channels.loading import load as load_cable
    from catenary.process import hangup
    from catenary.server.run import answer_calls

    hangup.survive()

    options = effective(request.options)
    if options.app.workers:
        raise ConfigError("app_workers, reload: expected a server's sockets to keep, got rpc")
    asyncio.run(answer_calls(options, load_cable(where)))


def _worker() -> "WorkerContext | None":
    if "CATENARY_WORKER" not in os.environ:
        return None
    from catenary.process.worker_context import WorkerContext

    return WorkerContext.from_environ(os.environ)


class _Source:
    """Where this process reads its options from. A worker reads the configuration file as its parent has checked it."""

    def __init__(self, flags: Sequence[str], *, with_cable: bool) -> None:
        self._flags = flags
        self._with_cable = with_cable
        self._first: StartRequest | None = None
        self.worker = _worker()
        """Set in a worker process."""

    def read(self) -> StartRequest:
        """The present options. Raises :class:`ConfigError`."""
        found = self._checked()
        request = self._load(_read if found is None else found.read)
        if self._first is None:
            self._first = request
        else:
            refuse_vanished(self._first, request)
        return request

    def retired(self) -> list[tuple[Options, float]]:
        """Earlier options, whose secrets are accepted until a time, in seconds since 1970."""
        found = self._checked()
        if found is None:
            return []
        return [
            (effective(self._load(found.before(each).read).options), each.until)
            for each in found.retired
        ]

    def _load(self, read: Callable[[str], str | None]) -> StartRequest:
        return load(self._flags, os.environ, read, with_cable=self._with_cable)

    def _checked(self) -> "WorkerConfiguration | None":
        if self.worker is None:
            return None
        from catenary.server.worker_configuration import WorkerConfiguration

        return WorkerConfiguration.find(self.worker.directory)


def _serve(request: StartRequest, where: str | None, source: _Source) -> None:
    """Runs a server until a signal; at a SIGHUP, the ``source`` of the request is read again.

    Imports are here, so that help and errors stay fast.
    """
    _let_children_start()
    import asyncio

    from catenary.process import hangup

    hangup.survive()
    gc.disable()  # imports make no garbage, and looking for it would take a fifth of their time
    from catenary.server.run import serve, supervise

    gc.enable()

    options = effective(request.options)
    if options.app.workers and where is None:
        raise ConfigError(
            "app_workers, reload: expected a cable to run, as in: catenary app:cable --app_workers=2"
        )
    worker = source.worker
    if worker is None and is_supervised(options):
        has_code = bool(options.server.asgi) or (where is not None and not options.app.workers)
        asyncio.run(supervise(options, request, read_again=source.read, has_code=has_code))
        return
    code = where if where is not None and options.app.workers else ""
    cable = None
    # The application of --asgi runs in this process, and publishes through the cable that it imports.
    if where is not None and (not code or options.server.asgi):
        from catenary.channels.loading import load as load_cable

        cable = load_cable(where)
    _run(
        serve(
            options,
            request,
            worker,
            cable,
            code,
            read_again=source.read,
            retired=source.retired(),
        )
    )


def _let_children_start() -> None:
    """Disables grpcio's handlers of fork(), before anything imports it.

    They abort one child in a hundred between fork() and exec() while calls are in flight: an embedded NATS server or a
    code worker would not start. No child of ours uses gRPC without exec().
    Source: grpc/grpc, doc/environment_variables.md, ``GRPC_ENABLE_FORK_SUPPORT``.
    """
    os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")


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
