"""Several processes on the same ports: started, watched, replaced, ended together.

Each worker is a whole server with a loop of its own, and a node of the cluster. The sockets belong
to this process: while a worker is replaced, clients that come to its share of a port wait in the
kernel. Knows: processes, signals, sockets. Does not know: what workers serve.
"""

import asyncio
import logging
import os
import signal
import socket
import sys
from collections.abc import Sequence
from typing import Final

from catenary.errors import ConfigError
from catenary.server import hangup
from catenary.server.lifecycle import bind
from catenary.server.place import Place, told_to

_log: Final = logging.getLogger("catenary.workers")

SHORT_LIFE_S: Final = 5.0
"""A worker that dies sooner after its start is replaced later and later."""

LONGEST_PAUSE_S: Final = 5.0

GRACE_S: Final = 5.0
"""What workers may take beyond the time of an orderly end, before they are killed."""


class WorkerFailed(ConfigError):
    """A worker ended before it served anybody; it has said why itself."""


class Workers:
    """``number`` processes that run ``command`` on ``ports`` of ``host``.

    ``end_s`` is how long an orderly end may take; with ``reloads``, a SIGHUP is passed to every worker.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        number: int,
        host: str,
        ports: Sequence[int],
        nats_url: str,
        end_s: float,
        reloads: bool = False,
    ) -> None:
        """Binds the ports. Raises :class:`ConfigError`."""
        self._command = tuple(command)
        self._nats_url = nats_url
        self._end_s = end_s
        self._reloads = reloads
        _refuse_taken(host, ports)
        self._shares = [_bound(host, ports) for _ in range(number)]
        self._lifeline, self._hold = os.pipe()
        self._processes: dict[int, asyncio.subprocess.Process] = {}
        self._serving: dict[int, asyncio.subprocess.Process] = {}
        self._ending = asyncio.Event()

    async def run(self) -> None:
        """Serves until a signal. Raises :class:`WorkerFailed` where no worker can be started."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._on_signal, number)
        if self._reloads:
            hangup.listen(self._reload)
        keeping = [asyncio.create_task(self._keep(index)) for index in range(len(self._shares))]
        ending = asyncio.create_task(self._ending.wait())
        try:
            await asyncio.wait([ending, *keeping], return_when=asyncio.FIRST_COMPLETED)
            self._ending.set()
            self._tell(signal.SIGTERM)
            await asyncio.wait(keeping, timeout=self._end_s + GRACE_S)
            for task in keeping:
                if task.done():
                    task.result()
        finally:
            self._tell(signal.SIGKILL)
            await asyncio.wait(keeping)
            ending.cancel()
            os.close(self._hold)
            os.close(self._lifeline)
            for share in self._shares:
                for sockets in share.values():
                    for each in sockets:
                        each.close()
        _log.info("Stopped")

    def _on_signal(self, number: signal.Signals) -> None:
        if self._ending.is_set():
            _log.warning("Second %s: ending at once", number.name)
            self._tell(signal.SIGKILL)
            logging.shutdown()
            os._exit(128 + number)
        _log.info("%s: shutting down; the same again ends at once", number.name)
        self._ending.set()

    def _reload(self) -> None:
        """Passes SIGHUP to the workers that serve: one that starts loads the present code anyway, and
        dies of the signal before it has a handler."""
        _log.info("SIGHUP: the workers reload their code")
        for process in self._serving.values():
            if process.returncode is None:
                process.send_signal(signal.SIGHUP)

    def _tell(self, number: signal.Signals) -> None:
        for process in self._processes.values():
            if process.returncode is None:
                process.send_signal(number)

    async def _keep(self, index: int) -> None:
        """Sees to it that there is a worker in one place."""
        loop = asyncio.get_running_loop()
        has_served = False
        short_lives = 0
        while not self._ending.is_set():
            begun = loop.time()
            process, is_ready = await self._start(index)
            has_served = has_served or is_ready
            status = await process.wait()
            if self._ending.is_set():
                return
            if not has_served:
                raise WorkerFailed(f"workers: worker {index + 1} could not be started")
            short_lives = short_lives + 1 if loop.time() - begun < SHORT_LIFE_S else 0
            pause_s = min(0.1 * 2.0 ** min(short_lives, 10), LONGEST_PAUSE_S) if short_lives else 0
            _log.error(
                "Worker %d (pid %d) has died (%s); another takes its place in %.1f s",
                index + 1,
                process.pid,
                f"signal {-status}" if status < 0 else f"status {status}",
                pause_s,
            )
            try:
                await asyncio.wait_for(self._ending.wait(), pause_s)
            except TimeoutError:
                pass

    async def _start(self, index: int) -> tuple[asyncio.subprocess.Process, bool]:
        """A new worker, and whether it came so far as to serve."""
        share = self._shares[index]
        read_end, write_end = os.pipe()
        place = Place(
            number=index + 1,
            sockets={port: [each.fileno() for each in bound] for port, bound in share.items()},
            nats_url=self._nats_url,
            ready=write_end,
            lifeline=self._lifeline,
        )
        inherited = [number for numbers in place.sockets.values() for number in numbers]
        try:
            process = await asyncio.create_subprocess_exec(
                *self._command,
                env={**os.environ, **told_to(place)},
                pass_fds=[*inherited, write_end, self._lifeline],
                # Ctrl-C in a terminal is for this process, which tells the others.
                process_group=0,
            )
        finally:
            os.close(write_end)
        self._processes[index] = process
        if self._ending.is_set():
            # The signal was given while this one began.
            process.terminate()
        is_ready = await _is_written(read_end)
        if is_ready:
            self._serving[index] = process
            _log.info("Worker %d serves (pid %d)", index + 1, process.pid)
        return process, is_ready


def command() -> tuple[str, ...]:
    """What started this process, to start it once more."""
    return (sys.executable, "-m", "catenary", *sys.argv[1:])


def _refuse_taken(host: str, ports: Sequence[int]) -> None:
    """Shared sockets would be granted beside those of another server of this user."""
    for port in ports:
        for each in bind(host, port):
            each.close()


def _bound(host: str, ports: Sequence[int]) -> dict[int, list[socket.socket]]:
    return {port: bind(host, port, shared=True) for port in ports}


async def _is_written(read_end: int) -> bool:
    """Whether a byte comes through a pipe before its other end is closed."""
    loop = asyncio.get_running_loop()
    written: asyncio.Future[bool] = loop.create_future()

    def read() -> None:
        loop.remove_reader(read_end)
        if not written.done():
            written.set_result(os.read(read_end, 1) != b"")

    os.set_blocking(read_end, False)
    loop.add_reader(read_end, read)
    try:
        return await written
    finally:
        loop.remove_reader(read_end)
        os.close(read_end)
