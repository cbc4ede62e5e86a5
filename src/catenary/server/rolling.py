"""SIGHUP for a server with workers: their parent checks the configuration; then they apply it, or are replaced one by one.

Knows: options, workers. Does not know: signals, what workers serve.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Final

from catenary.config.changes import Changes, with_changes
from catenary.config.load import StartRequest
from catenary.config.options import OptionRow, Options
from catenary.errors import ConfigError
from catenary.process.workers import Workers
from catenary.server.http_routes import shared_addresses
from catenary.server.listeners import check_certificate
from catenary.server.reload import read_again, report, report_refused
from catenary.server.replaced_values import SECRETS
from catenary.server.standalone import public_key
from catenary.server.worker_configuration import Retired, WorkerConfiguration

_log: Final = logging.getLogger("catenary.workers")


class WorkersReload:
    """Reloads the workers of a server that runs with these options, which ``request`` asked for. With ``has_code``, workers run
    code of the application, which only new processes load again."""

    def __init__(
        self,
        workers: Workers,
        options: Options,
        request: StartRequest,
        read: Callable[[], StartRequest],
        *,
        has_code: bool,
    ) -> None:
        self._workers = workers
        self._options = options
        self._read = read
        self._has_code = has_code
        self._configuration = WorkerConfiguration(request.config_path, request.config_text)
        self._task: asyncio.Task[None] | None = None
        self._is_asked_again = False
        self._write(self._configuration)

    def __call__(self) -> asyncio.Future[None]:
        """Starts a reload; during another one, when that has ended. The future is done when all have ended."""
        self._is_asked_again = True
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._run())
        return self._task

    async def _run(self) -> None:
        while self._is_asked_again:
            self._is_asked_again = False
            await self._reload()

    async def _reload(self) -> None:
        if self._workers.is_ending:
            _log.info("Reload: ignored, because the server shuts down")
            return
        running = self._options
        try:
            request, read, found = read_again(self._read, running)
            _refuse_fixed(running, read, found.restart)
            _check_files(read)
        except ConfigError as error:
            report_refused(error)
            return
        before = self._configuration
        self._write(self._following(found, request, read))
        if not (found.restart or self._has_code):
            self._workers.hang_up()
            self._options = with_changes(running, read, found.places)
            return
        report(found, running, read, later="applied by new workers")
        _log.info("Reload: replacing the workers one by one")
        if await self._workers.replace():
            self._options = read
            _log.info("Reload: all workers have been replaced")
        elif self._workers.is_ending:
            _log.info("Reload: stopped, because the server shuts down")
        else:
            self._write(before)
            _log.error("Reload: stopped, the workers that were not replaced serve as before")

    def _following(
        self, found: Changes, request: StartRequest, read: Options
    ) -> WorkerConfiguration:
        now, before = time.time(), self._configuration
        retired = [each for each in before.retired if each.until > now]
        grace_s = read.access.rotation_grace_s
        if grace_s and not SECRETS.isdisjoint(found.places):
            retired.insert(0, Retired(before.text, now + grace_s))
        return WorkerConfiguration(request.config_path, request.config_text, tuple(retired))

    def _write(self, configuration: WorkerConfiguration) -> None:
        self._configuration = configuration
        if self._workers.directory:
            configuration.write(self._workers.directory)


def _refuse_fixed(running: Options, read: Options, rows: tuple[OptionRow, ...]) -> None:
    """The parent has opened the ports, and runs NATS: a new worker can't change that. Raises :class:`ConfigError`."""
    fixed = [row.option.toml for row in rows if row.room == "enats" or row.place in _FIXED]
    if not fixed and {*shared_addresses(running)} != {*shared_addresses(read)}:
        fixed = [row.option.toml for row in rows]
    if fixed:
        raise ConfigError(f"{', '.join(fixed)}: changing this needs a restart of the server")


def _check_files(read: Options) -> None:
    """Raises :class:`ConfigError` for files that no worker could use."""
    if read.server.ssl_cert:
        check_certificate(read.server)
    if read.jwt.public_key:
        public_key(read.jwt.public_key)


_FIXED: Final = frozenset({"server.workers", "server.handover_socket", "app.reload"})
