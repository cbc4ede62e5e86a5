"""The programs: a server in one process or in several workers, and an RPC server in front of a cable."""

import asyncio
import functools
import logging
import os
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from catenary import __version__
from catenary.config.checks import check_redis
from catenary.config.effective import has_idle_key
from catenary.config.load import StartRequest
from catenary.config.options import Options
from catenary.metrics.counters import Counters
from catenary.process import hangup, interpreter, lifecycle, logs, workers
from catenary.process.drain import Drain
from catenary.process.listener import Listener
from catenary.process.notifier import Notifier
from catenary.process.resources import raise_open_files
from catenary.process.source_watch import SourceWatch
from catenary.process.worker_context import WorkerContext
from catenary.server import engines
from catenary.server.assembly import Assembly
from catenary.server.build import ServerBuild
from catenary.server.handover import Handover
from catenary.server.http_routes import shared_addresses
from catenary.server.reload import ConfigReload
from catenary.server.rolling import WorkersReload
from catenary.server.shutdown_phases import DRAIN_CLIENTS, STOP_TIMERS

if TYPE_CHECKING:
    from catenary.channels.cable import Cable

_log: Final = logging.getLogger("catenary.server")


NATS_END_S: Final = 5.0
"""How long the embedded NATS server may take to stop, after the workers."""


async def serve(
    options: Options,
    request: StartRequest,
    worker: WorkerContext | None,
    cable: "Cable | None",
    code: str = "",
    *,
    read_again: Callable[[], StartRequest],
    retired: Sequence[tuple[Options, float]] = (),
) -> None:
    """Serves until a signal; ``options`` are the effective ones of ``request``, which ``read_again`` reads at a SIGHUP.
    ``retired`` are earlier ones, whose secrets are accepted until a time, in seconds since 1970.

    ``worker``, ``cable`` and ``code`` are as in :class:`Assembly`. Raises :class:`catenary.errors.ConfigError` before
    anything is served.
    """
    _announce_start(options, request, worker)

    notifier = Notifier.from_environ(os.environ)

    def reload() -> None:
        if not configuration():
            return
        if assembly.code is not None:
            assembly.code.reload()
        elif cable is not None:
            _log.info("Reload: application code is reloaded if it runs with --app_workers")

    # It is called when this coroutine awaits, and then everything is in place.
    hangup.listen(notifier.during(reload))
    handover = Handover(options, worker)
    assembly = Assembly(
        options,
        worker,
        cable,
        code,
        sources=request.sources,
        sockets=handover.sockets,
    )
    build = assembly.build
    build.shutdown.add(DRAIN_CLIENTS, handover.close)
    notifier.describe = functools.partial(_status, build)
    configuration = ConfigReload(build, read_again)
    for earlier, until in retired:
        configuration.accept(earlier, until)
    # With pages, the parent watches the files, and replaces this process.
    if assembly.code is not None and options.app.reload and not options.server.asgi:
        watch = SourceWatch(Path.cwd(), assembly.code.reload, build.supervisor)
        build.add(watch.start, STOP_TIMERS, watch.stop)
    if worker is None or worker.number == 1:
        for announcement in build.announcements:
            _log.info("%s", announcement)
    if worker is not None:
        _watch_lifeline(worker.lifeline)
    drain = _drain(build, assembly.listeners)
    try:
        await lifecycle.run(
            assembly.listeners,
            start=build.start,
            shutdown=build.shutdown,
            started=functools.partial(_started, handover, notifier, worker),
            stopping=functools.partial(_stopping, build, notifier),
            shutdown_delay_s=options.node.shutdown_delay_s,
            shutdown_timeout_s=options.node.shutdown_timeout_s,
            drain=drain,
        )
    finally:
        notifier.close()
        build.supervisor.close()


def _started(handover: Handover, notifier: Notifier, worker: WorkerContext | None) -> None:
    """Clients are served."""
    if worker is not None:
        worker.report_ready()
        return
    handover.serving()
    notifier.ready()


def _stopping(build: ServerBuild, notifier: Notifier) -> None:
    """The server has been asked to stop."""
    build.stop()
    notifier.stopping()


def _status(build: ServerBuild) -> str:
    """The status for systemd."""
    clients = build.counters.open_connections_num
    if build.is_stopping:
        return f"Shutting down: {clients} clients are connected"
    return f"Serving {clients} clients"


def _drain(build: ServerBuild, listeners: Sequence[Listener]) -> Drain:
    """The drain paces itself, by the timeout of the whole shutdown."""
    node = build.options.node
    drain = Drain(
        listeners, node.shutdown_timeout_s, build.counters, is_slow=node.shutdown_slowdrain
    )
    build.shutdown.add(DRAIN_CLIENTS, lambda _limit_s: drain.run())
    return drain


async def answer_calls(options: Options, cable: "Cable") -> None:
    """Answers the gRPC calls of another server until a signal. Raises :class:`catenary.errors.ConfigError`."""
    from catenary.channels.rpc_grpc import GrpcRpcServer

    logs.set_up(options.log.level, options.log.format)
    hangup.listen(hangup.nothing_to_reload("restart it to load new code"))
    signals = lifecycle.StopSignals()
    server = GrpcRpcServer(cable, options.rpc.host)
    notifier = Notifier.from_environ(os.environ)
    await server.start()
    _log.info("Answering gRPC calls at %s (pid %d)", options.rpc.host, os.getpid())
    notifier.ready()
    await signals.received.wait()
    notifier.stopping()
    await server.stop(options.node.shutdown_timeout_s)
    await cable.stop(options.node.shutdown_timeout_s)
    _log.info("Stopped")


def _announce_start(options: Options, request: StartRequest, worker: WorkerContext | None) -> None:
    """Sets up logs and limits; logs the version, the configuration and its warnings, once for all workers."""
    logs.set_up(
        options.log.level,
        options.log.format,
        node=options.node.node_id,
        worker=0 if worker is None else worker.number,
    )
    open_files = raise_open_files()
    if worker is not None:
        return
    _log.info("Catenary %s (pid %d, up to %d open files)", __version__, os.getpid(), open_files)
    if not interpreter.is_optimized():
        _log.info(
            "This Python was compiled without PGO, and needs a fourth more CPU: %s",
            sys.base_prefix,
        )
    if request.config_path is not None:
        _log.info("Configuration from %s", request.config_path)
    for name in request.presets:
        _log.info("Preset %s", name)
    for warning in (*request.warnings, *check_redis(options)):
        _log.warning("%s", warning)
    if options.access.public:
        _log.warning("Public mode: anyone may connect, subscribe and publish")
        if has_idle_key(options):
            _log.warning("Public mode: broadcast_key is set, but not required from publishers")


def _watch_lifeline(lifeline: int) -> None:
    """Shuts down when the other end of the pipe is closed: then the parent has died, and nothing would stop this
    worker."""
    loop = asyncio.get_running_loop()

    def end() -> None:
        loop.remove_reader(lifeline)
        _log.error("The parent process of this worker has died: shutting down")
        signal.raise_signal(signal.SIGTERM)

    loop.add_reader(lifeline, end)


def _start_s(options: Options) -> float:
    """The time after which a worker that does not serve yet is killed; 0: it never is."""
    # With --reload, somebody is developing, perhaps with a debugger that holds the loop.
    return 0 if options.app.reload else options.server.worker_start_timeout_s


def _watchdog_s(options: Options, notifier: Notifier) -> float:
    """The shorter one of the two times after which a hanging worker is replaced; 0: none is."""
    # As above: a debugger may hold the loop.
    own_s = 0 if options.app.reload else options.server.worker_timeout_s
    return min((each for each in (own_s, notifier.watchdog_s) if each), default=0)


async def supervise(
    options: Options,
    request: StartRequest,
    *,
    read_again: Callable[[], StartRequest],
    has_code: bool,
) -> None:
    """Runs workers until a signal, and replaces them at a SIGHUP as :class:`WorkersReload` says, with ``has_code`` always.
    Raises :class:`catenary.errors.ConfigError`."""
    _announce_start(options, request, None)
    notifier = Notifier.from_environ(os.environ)
    handover = Handover(options)
    embedded = engines.embedded_nats(options, Counters()) if options.enats.enabled else None
    if embedded is not None:
        await embedded.start()
        await embedded.ready()
    _log.info("Starting %d workers", options.server.workers)
    watch: SourceWatch | None = None
    try:

        def hang_up() -> "asyncio.Future[None]":
            return reload()

        # Before the ports are open: a terminal may be closed from then on.
        hangup.listen(notifier.during(hang_up))
        running = workers.Workers(
            workers.command(),
            number=options.server.workers,
            addresses=shared_addresses(options),
            sockets=handover.sockets,
            started=functools.partial(_started, handover, notifier, None),
            notifier=notifier,
            nats_url=embedded.client_url if embedded is not None else "",
            end_s=options.node.shutdown_delay_s + options.node.shutdown_timeout_s,
            start_s=_start_s(options),
            watchdog_s=_watchdog_s(options, notifier),
            is_patient=options.node.shutdown_delay_s > 0 or options.node.shutdown_slowdrain,
        )
        reload = WorkersReload(running, options, request, read_again, has_code=has_code)
        if options.app.reload and options.server.asgi:
            watch = SourceWatch(Path.cwd(), reload)
            await watch.start()
        await running.run()
    finally:
        if watch is not None:
            await watch.stop(NATS_END_S)
        notifier.close()
        await handover.close(0)
        if embedded is not None:
            await embedded.close(NATS_END_S)
