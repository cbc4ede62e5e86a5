"""Several worker processes on the same ports: started, watched, replaced and stopped together.

Each worker is a complete server with an event loop of its own, and a node of the cluster. The sockets belong to this
process: while a worker is replaced, new connections to its share of a port wait in the kernel.
Knows: processes, signals, sockets. Does not know: what workers serve.
"""

import asyncio
import contextlib
import functools
import logging
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable, Collection, Sequence
from typing import Any, Final

from catenary.errors import ConfigError
from catenary.process.binding import ListenAddress
from catenary.process.heartbeats import HeartbeatMonitor
from catenary.process.lifecycle import EXIT_HINT, HASTEN_HINT, REPLACED
from catenary.process.notifier import Notifier
from catenary.process.port_sockets import PortSockets
from catenary.process.worker_context import WorkerContext
from catenary.supervision.backoff import Backoff
from catenary.supervision.service import Service, Supervisor

_log: Final = logging.getLogger("catenary.workers")

SHORT_LIFE_S: Final = 5.0
"""A worker that dies sooner after its start is replaced after a pause that doubles."""

GRACE_S: Final = 5.0
"""Time after the shutdown timeout until workers are killed."""


class WorkerFailed(ConfigError):
    """A worker exited before it served; it has logged the reason."""


class Workers:
    """``number`` processes that run ``command`` and listen on ``addresses``, whose ports differ.

    ``sockets`` opens the ports. ``started`` is called when all workers serve for the first time.
    ``end_s`` is how long the shutdown of a worker may take; with ``is_patient``, a second signal hastens it.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        number: int,
        addresses: Sequence[ListenAddress],
        sockets: PortSockets,
        started: Callable[[], None],
        notifier: Notifier,
        nats_url: str,
        end_s: float,
        start_s: float,
        watchdog_s: float,
        is_patient: bool,
    ) -> None:
        """Binds the ports. A worker is killed if it does not serve ``start_s`` after its start, or if it does nothing for
        ``watchdog_s`` later (0: never). Raises :class:`ConfigError`."""
        self._command = tuple(command)
        self._started = started
        self._notifier = notifier
        notifier.describe = self._describe
        self._nats_url = nats_url
        self._end_s = end_s
        self._start_s = start_s
        self._watchdog_s = watchdog_s
        self._hint = HASTEN_HINT if is_patient else EXIT_HINT
        self._can_hasten = is_patient
        self._stop_signal: signal.Signals = signal.SIGTERM
        opened = {each.port: sockets.open_shares(each, number) for each in addresses}
        sockets.close_unused()
        self._shares = [
            {port: shares[index] for port, shares in opened.items()} for index in range(number)
        ]
        self._lifeline, self._hold = os.pipe()
        self._processes: dict[int, asyncio.subprocess.Process] = {}
        """The worker of each index; while it is being replaced, the one before."""
        self._alive: set[asyncio.subprocess.Process] = set()
        self._have_served: set[int] = set()
        self._starting = [asyncio.Lock() for _ in range(number)]
        """Held while a worker of an index is started, so that it is started once."""
        self.directory = _directory()
        """For the files and sockets of the workers; only this user can enter it. Empty if there is none."""
        self._ending = asyncio.Event()
        self._failed: asyncio.Future[WorkerFailed] = asyncio.get_running_loop().create_future()

    async def run(self) -> None:
        """Runs the workers until a signal. Raises :class:`WorkerFailed` if one fails to start the first time."""
        try:
            await self._run()
        finally:
            self._remove_directory()

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT, REPLACED):
            loop.add_signal_handler(number, self._on_signal, number)
        supervisor = Supervisor()
        keepers = [
            Service(
                f"supervision of worker {index + 1}",
                functools.partial(self._keep, index),
                supervisor,
            )
            for index in range(len(self._shares))
        ]
        for keeper in keepers:
            keeper.start()
        ending = asyncio.create_task(self._ending.wait())
        ends: tuple[asyncio.Future[Any], ...] = (ending, self._failed)
        try:
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            self._ending.set()
            self._notifier.stopping()
            self._signal_all(self._stop_signal)
            # The workers have copies. The last one to close its copy ends the queue of waiting connections.
            self._close_shares()
            await asyncio.gather(*(each.stop(self._end_s + GRACE_S) for each in keepers))
            await self._ended(self._alive)
            if self._failed.done():
                raise self._failed.result()
        finally:
            self._signal_all(signal.SIGKILL)
            await asyncio.gather(*(each.stop() for each in keepers))
            ending.cancel()
            os.close(self._hold)
            os.close(self._lifeline)
            self._close_shares()
        _log.info("Stopped")

    def _close_shares(self) -> None:
        for share in self._shares:
            for sockets in share.values():
                for each in sockets:
                    each.close()

    def _describe(self) -> str:
        """The status for systemd."""
        serving = [self._processes[index] for index in self._have_served]
        alive = sum(each.returncode is None for each in serving)
        if self._ending.is_set():
            return f"Shutting down: {alive} workers have not ended"
        return f"Serving with {alive} of {len(self._shares)} workers"

    def _remove_directory(self) -> None:
        if self.directory:
            shutil.rmtree(self.directory, ignore_errors=True)

    def _on_signal(self, number: signal.Signals) -> None:
        if self._ending.is_set() and self._can_hasten:
            self._can_hasten = False
            _log.warning(
                "Another %s: the workers no longer wait; the next one exits at once", number.name
            )
            self._signal_all(number)
            return
        if self._ending.is_set():
            _log.warning("Another %s: exiting at once", number.name)
            self._signal_all(signal.SIGKILL)
            self._remove_directory()
            logging.shutdown()
            os._exit(128 + number)
        if number == REPLACED:
            self._stop_signal = REPLACED
        why = "another server serves the ports" if number == REPLACED else number.name
        _log.info("%s: shutting down; %s", why, self._hint)
        self._ending.set()

    @property
    def is_ending(self) -> bool:
        """Whether the shutdown has begun: no worker is started any more."""
        return self._ending.is_set()

    def hang_up(self) -> None:
        """Sends SIGHUP to the workers that serve. One that is being started reads the present configuration anyway."""
        for index in self._have_served:
            process = self._processes[index]
            if process.returncode is None:
                process.send_signal(signal.SIGHUP)

    def _kill(self, index: int, process: asyncio.subprocess.Process) -> None:
        """Ends a worker whose event loop hangs; its keeper starts another one."""
        _log.error(
            "Worker %d (pid %d) has not reported for %.0f s: killing it",
            index + 1,
            process.pid,
            self._watchdog_s,
        )
        if process.returncode is None:
            process.kill()

    async def replace(self) -> bool:
        """Replaces the workers one after the other: a new one serves before the old one closes its clients, which
        connect again. Returns False if a new worker could not be started, then it and the others stay as they are; and at the
        shutdown."""
        for index in range(len(self._shares)):
            async with self._starting[index]:
                old = self._processes.get(index)
                try:
                    new = await self._start(index)
                except OSError as error:
                    _log.error("Worker %d can't be replaced: %s", index + 1, error)
                    return False
                if new is None:
                    if not self.is_ending:
                        _log.error(
                            "Worker %d can't be replaced: the new one could not start", index + 1
                        )
                    return False
            if old is not None and old.returncode is None:
                old.send_signal(REPLACED)
                await self._ended({old})
            if self._ending.is_set():
                return False
        return True

    async def _ended(self, processes: Collection[asyncio.subprocess.Process]) -> None:
        """Returns when these have exited; kills those that take too long."""
        ends = [asyncio.create_task(each.wait()) for each in processes]
        if not ends:
            return
        await asyncio.wait(ends, timeout=self._end_s + GRACE_S)
        for process in tuple(processes):
            if process.returncode is None:
                process.kill()
        await asyncio.gather(*ends)

    def _signal_all(self, number: signal.Signals) -> None:
        for process in self._alive:
            if process.returncode is None:
                process.send_signal(number)

    async def _keep(self, index: int) -> None:
        """Runs the worker of one index, again after each death, until the shutdown."""
        backoff = Backoff(steady_s=SHORT_LIFE_S)
        while not self._ending.is_set():
            end = await self._run_worker(index, backoff)
            if self._ending.is_set():
                return
            if index not in self._have_served:
                if not self._failed.done():
                    message = f"workers: worker {index + 1} could not be started"
                    self._failed.set_result(WorkerFailed(message))
                await self._ending.wait()
                return
            pause = backoff.failed()
            if pause.is_logged:
                _log.error(
                    "Worker %d %s; restarting it in %.1f s",
                    index + 1,
                    end,
                    pause.seconds,
                )
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause.seconds):
                    await self._ending.wait()

    async def _run_worker(self, index: int, backoff: Backoff) -> str:
        """Runs the worker of an index, and those that replace it, to their end; returns how the last one ended."""
        try:
            async with self._starting[index]:
                process = self._processes.get(index)
                # One that lives was started by an earlier run of this service, which has failed, or replaces the one before.
                if process is None or process.returncode is not None:
                    process = await self._start(index)
        except OSError as error:
            # No more processes or file descriptors.
            return f"can't be started ({error})"
        if process is None:
            return "could not start"
        backoff.works()
        while True:
            status = await process.wait()
            async with self._starting[index]:
                present = self._processes[index]
            if present is process:
                break
            process = present
        end = f"signal {-status}" if status < 0 else f"status {status}"
        return f"(pid {process.pid}) has died ({end})"

    async def _start(self, index: int) -> asyncio.subprocess.Process | None:
        """Starts a worker; returns it when it serves, or None when it has exited before, or was killed because it took too
        long, and at the shutdown, which closes the sockets for it. Raises OSError."""
        if self.is_ending:
            return None
        share = self._shares[index]
        read_end, write_end = os.pipe()
        watchdog_s = self._watchdog_s
        beats, heartbeat = os.pipe() if watchdog_s else (-1, -1)
        context = WorkerContext(
            number=index + 1,
            sockets={port: [each.fileno() for each in bound] for port, bound in share.items()},
            nats_url=self._nats_url,
            ready=write_end,
            lifeline=self._lifeline,
            directory=self.directory,
            heartbeat=heartbeat,
            watchdog_s=watchdog_s,
        )
        inherited = [number for numbers in context.sockets.values() for number in numbers]
        inherited += [each for each in (write_end, self._lifeline, heartbeat) if each >= 0]
        try:
            process = await asyncio.create_subprocess_exec(
                *self._command,
                env={**os.environ, **context.to_environ()},
                pass_fds=inherited,
                # Ctrl-C in a terminal must reach this process only, which signals the workers.
                process_group=0,
            )
        except BaseException:
            os.close(read_end)
            if watchdog_s:
                os.close(beats)
            raise
        finally:
            os.close(write_end)
            if watchdog_s:
                os.close(heartbeat)
        self._alive.add(process)
        if watchdog_s:
            HeartbeatMonitor(beats, watchdog_s, functools.partial(self._kill, index, process))
        if self._ending.is_set():
            # The signal arrived while this worker was being started.
            process.terminate()
        watch = asyncio.create_task(process.wait())
        watch.add_done_callback(lambda _: self._alive.discard(process))
        try:
            serves = await _is_written(read_end, self._start_s)
        except TimeoutError:
            _log.error(
                "Worker %d (pid %d) does not serve after %g s: killing it",
                index + 1,
                process.pid,
                self._start_s,
            )
            process.kill()
            serves = False
        if not serves:
            await watch
            return None
        self._processes[index] = process
        is_first_time = index not in self._have_served
        self._have_served.add(index)
        _log.info("Worker %d serves (pid %d)", index + 1, process.pid)
        if is_first_time and len(self._have_served) == len(self._shares):
            self._started()
        return process


def _directory() -> str:
    try:
        return tempfile.mkdtemp(prefix="catenary-workers-")
    except OSError as error:
        _log.warning("Each worker shows its own metrics only (TMPDIR): %s", error)
        return ""


def command() -> tuple[str, ...]:
    """The command line of this process, to start workers with."""
    return (sys.executable, "-m", "catenary", *sys.argv[1:])


async def _is_written(read_end: int, timeout_s: float) -> bool:
    """Whether a byte is written to a pipe before its other end is closed. Raises TimeoutError if neither happens in time (0:
    waits forever)."""
    loop = asyncio.get_running_loop()
    written: asyncio.Future[bool] = loop.create_future()

    def read() -> None:
        with contextlib.suppress(BlockingIOError):
            found = os.read(read_end, 1)
            loop.remove_reader(read_end)
            if not written.done():
                written.set_result(found != b"")

    os.set_blocking(read_end, False)
    loop.add_reader(read_end, read)
    try:
        await asyncio.wait((written,), timeout=timeout_s or None)
        if not written.done():
            # This process may have been stopped itself: timers come before pipes in a turn of the loop.
            read()
        if not written.done():
            raise TimeoutError
        return written.result()
    finally:
        loop.remove_reader(read_end)
        os.close(read_end)
