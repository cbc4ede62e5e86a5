"""The processes that run the application's code: started, replaced when they die, reloaded.

A generation is a number of workers that loaded the code at the same time. A reload starts the next
generation beside the present one, which takes calls until every new worker is ready; then it finishes
the calls under way and ends. So no call is lost, and none is made twice.
Knows: processes, how they end. Does not know: what is called, clients.
"""

import asyncio
import functools
import logging
from collections.abc import Callable, Sequence
from typing import Final

from catenary.channels.timers import DeclaredTimer
from catenary.codeworkers.call_queue import CallQueue
from catenary.codeworkers.link import WorkerLink
from catenary.codeworkers.process import CodeProcess
from catenary.errors import ConfigError
from catenary.metrics.counters import Counters
from catenary.supervision.backoff import Backoff
from catenary.supervision.service import Service, Supervisor

_log: Final = logging.getLogger("catenary.code")

START_S: Final = 120.0
"""How long loading code may take: some applications load models of gigabytes, but a hang must end."""

STOP_S: Final = 5.0
"""How long an application may take to stop after its calls; part of the time limit of a shutdown."""

SHORT_LIFE_S: Final = 5.0
"""The pause before a restart doubles for workers that live shorter than this."""


class Generations:
    """Runs ``command`` in ``number`` processes. Belongs to the running loop.

    Moves ``app_reloads_total``, ``app_failed_reloads_total`` and ``app_worker_deaths_total``.
    """

    def __init__(
        self,
        command: Sequence[str],
        number: int,
        *,
        end_s: float,
        create_link: Callable[[], WorkerLink],
        queue: CallQueue,
        loaded: Callable[[Sequence[DeclaredTimer]], None],
        counters: Counters,
        supervisor: Supervisor | None,
    ) -> None:
        """Replaced workers have ``end_s`` to finish their calls. ``queue`` gets the links of the workers
        that are ready, ``loaded`` the timers that new code declares.
        """
        self._command = tuple(command)
        self._number = number
        self._end_s = end_s
        self._create_link = create_link
        self._queue = queue
        self._loaded = loaded
        self._counters = counters
        self._supervisor = supervisor
        self._loop = asyncio.get_running_loop()
        self._generation = 0
        self._workers: list[CodeProcess] = []
        self._restarters: list[Service] = []
        """One for each worker, by its index."""
        self._retired: dict[asyncio.Task[None], CodeProcess] = {}
        """Replaced workers that have not ended yet."""
        self._reloading: asyncio.Task[None] | None = None
        self._is_reload_wanted = False
        self._is_closing = False

    async def start(self) -> None:
        """Returns when every worker has loaded the code. Raises :class:`ConfigError`."""
        workers = await self._start_generation()
        if workers is None:
            raise ConfigError(
                "app_workers: expected code that can be loaded, got the error logged above"
            )
        self._activate(workers)
        if self._is_reload_wanted:
            self.reload()

    def reload(self) -> None:
        """Loads the code again. A request during a reload, or before the start, causes one more reload."""
        self._is_reload_wanted = not self._is_closing
        if self._is_reload_wanted and self._workers and self._reloading is None:
            self._reloading = self._loop.create_task(self._reload())

    async def close(self, timeout_s: float) -> None:
        """Lets all workers finish their calls and stop, then kills those that have not ended."""
        self._is_closing = True
        retired = tuple(self._retired.values())
        tasks = [*filter(None, (self._reloading, *self._retired))]
        for task in tasks:
            task.cancel()
        for restarter in self._restarters:
            await restarter.stop()
        await asyncio.gather(*tasks, return_exceptions=True)
        stop_s = min(STOP_S, timeout_s)
        calls_s = max(timeout_s - stop_s, 0)
        await asyncio.gather(
            *(worker.end(calls_s, stop_s) for worker in (*self._workers, *retired))
        )

    # Reloads

    async def _reload(self) -> None:
        try:
            while self._is_reload_wanted:
                self._is_reload_wanted = False
                _log.info("Reloading the application code")
                workers = await self._start_generation()
                if workers is None:
                    self._counters.app_failed_reloads_total += 1
                    _log.error("Reload failed: the previous code keeps running")
                else:
                    self._counters.app_reloads_total += 1
                    self._activate(workers)
        finally:
            self._reloading = None

    def _activate(self, workers: list[CodeProcess]) -> None:
        """Gives new calls to these workers, and retires the generation before."""
        for restarter in self._restarters:
            restarter.cancel()
        previous, self._workers = self._workers, workers
        self._loaded(workers[0].link.ready.result() or ())
        self._restarters = [
            Service(
                f"code worker {index + 1}",
                functools.partial(self._restart, index),
                self._supervisor,
            )
            for index in range(self._number)
        ]
        for restarter in self._restarters:
            restarter.start()
        for worker in previous:
            task = self._loop.create_task(worker.end(self._end_s, STOP_S))
            self._retired[task] = worker
            task.add_done_callback(self._retired.pop)
        pids = ", ".join(str(each.pid) for each in workers)
        _log.info("Application code loaded: generation %d (pid %s)", self._generation, pids)
        self._queue.replace_links(each.link for each in workers)

    # Starts

    async def _start_generation(self) -> list[CodeProcess] | None:
        """As many workers as are wanted, all of them ready; None if one failed to load the code.

        The first one starts alone, so that an error in the code is logged once.
        """
        self._generation += 1
        first = await self._start_worker()
        if first is None:
            return None
        others = [self._loop.create_task(self._start_worker()) for _ in range(self._number - 1)]
        try:
            workers = [first, *await asyncio.gather(*others)]
        except BaseException:
            for task in others:
                task.cancel()
            ends = await asyncio.gather(*others, return_exceptions=True)
            for each in (first, *ends):
                if isinstance(each, CodeProcess):
                    await each.kill()
            raise
        ready = [worker for worker in workers if worker is not None]
        if len(ready) == self._number:
            return ready
        for worker in ready:
            await worker.kill()
        return None

    async def _start_worker(self) -> CodeProcess | None:
        """A worker that is ready; None if it ended before, and has logged why."""
        try:
            worker = await CodeProcess.start(self._command, self._create_link())
        except OSError as error:
            _log.error("A code worker can't be started: %s", error)
            return None
        try:
            async with asyncio.timeout(START_S):
                is_ready = await worker.link.ready is not None
        except TimeoutError:
            _log.error("A code worker did not load its code within %.0f s", START_S)
            is_ready = False
        except BaseException:
            await worker.kill()
            raise
        if not is_ready:
            await worker.kill()
            return None
        return worker

    async def _restart(self, index: int) -> None:
        """Runs as a service: starts another worker whenever this one of the generation dies."""
        backoff = Backoff(steady_s=SHORT_LIFE_S)
        backoff.works()
        while True:
            worker = self._workers[index]
            await worker.link.gone.wait()
            status = await worker.kill()
            self._counters.app_worker_deaths_total += 1
            pause = backoff.failed()
            if pause.is_logged:
                _log.error(
                    "A code worker (pid %d) has died (%s); another starts in %.1f s",
                    worker.pid,
                    f"signal {-status}" if status < 0 else f"status {status}",
                    pause.seconds,
                )
            await asyncio.sleep(pause.seconds)
            another = await self._start_worker()
            while another is None:
                await asyncio.sleep(backoff.failed().seconds)
                another = await self._start_worker()
            self._workers[index] = another
            if backoff.works():
                _log.info("A code worker was started in its place (pid %d)", another.pid)
            self._queue.add_link(another.link)
