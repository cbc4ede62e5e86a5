"""Long-lived tasks: started, supervised, restarted after failures, stopped.

An asyncio task that fails is silent: nothing awaits it, so its exception is not logged and its work stops. A service
is such a task with supervision.
Knows: tasks, pauses, the log. Does not know: what a service does.
"""

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any, Final

from catenary.metrics.counters import Counters
from catenary.supervision.backoff import STEADY_S, Backoff

_log: Final = logging.getLogger("catenary.supervision")

_CANCEL_AGAIN_S: Final = 1.0
"""A service that has suppressed its cancellation is cancelled again after this time."""

Run = Callable[[], Coroutine[Any, Any, None]]


class Supervisor:
    """The services of one server. Moves ``service_failures_total``."""

    __slots__ = ("_counters", "_ended", "_is_closing", "_services")

    def __init__(self, counters: Counters | None = None) -> None:
        self._counters = Counters() if counters is None else counters
        self._services: dict[Service, None] = {}
        self._ended: str | None = None
        self._is_closing = False

    @property
    def trouble(self) -> str | None:
        """Names the service that has failed and does not run, or was restarted less than a second ago; None if all run."""
        troubles = (each.trouble for each in self._services if each.trouble is not None)
        return self._ended or next(troubles, None)

    @property
    def services(self) -> "tuple[Service, ...]":
        """The services that were started and not stopped."""
        return tuple(self._services)

    @property
    def is_closing(self) -> bool:
        """Whether the server shuts down. Then services that end are not restarted."""
        return self._is_closing

    def close(self) -> None:
        """Called when the server shuts down: from now on services may end."""
        self._is_closing = True

    def note_end(self, name: str, error: BaseException) -> None:
        """A part has failed that can't be restarted: logged, and reported as trouble from now on."""
        if self._is_closing:
            return
        self.count_failure()
        self._ended = f"{name} has failed ({type(error).__name__})"
        _log.error("%s has failed and can't be restarted", name, exc_info=error)

    # For services

    def add(self, service: "Service") -> None:
        """Called when a service is started."""
        self._services[service] = None

    def remove(self, service: "Service") -> None:
        """Called when a service is stopped."""
        self._services.pop(service, None)

    def count_failure(self) -> None:
        """Called when a service has ended unexpectedly."""
        self._counters.service_failures_total += 1


class Service:
    """A coroutine that runs from :meth:`start` to :meth:`stop`, and is restarted if it ends before.

    ``run`` handles the errors that it expects and does not return. If it ends by an exception, an unrequested
    cancellation or a return, that is logged with its traceback, ``trouble`` reports it, and it is started again after
    a pause that doubles with each failure. Each run has a task of its own, so that state of a failed task does not reach
    the next run: on Python 3.11.2 ``cancelling()`` stays above 0 after a TaskGroup whose child failed, and then
    ``asyncio.timeout`` raises CancelledError.
    """

    __slots__ = (
        "_backoff",
        "_is_stopped",
        "_run",
        "_supervisor",
        "_task",
        "_timer",
        "name",
        "trouble",
    )

    def __init__(self, name: str, run: Run, supervisor: Supervisor | None = None) -> None:
        """``name`` appears in the log and at /ready. Without a ``supervisor``, the service has one of its own."""
        self.name = name
        self.trouble: str | None = None
        """Why it does not run, or was restarted less than a second ago; None if it runs."""
        self._run = run
        self._supervisor = Supervisor() if supervisor is None else supervisor
        self._backoff = Backoff()
        self._is_stopped = True
        self._task: asyncio.Task[BaseException | None] | None = None
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Starts running."""
        self._is_stopped = False
        self._supervisor.add(self)
        self._begin_run()

    def cancel(self) -> None:
        """Stops the service without waiting for its end."""
        self._release()
        if self._task is not None:
            self._task.cancel()

    async def stop(self, timeout_s: float = 0) -> None:
        """Waits up to ``timeout_s`` for the coroutine to return, then cancels it; returns when it has ended."""
        self._release()
        task = self._task
        if task is None:
            return
        if timeout_s > 0:
            await asyncio.wait([task], timeout=timeout_s)
        while not task.done():
            task.cancel()
            await asyncio.wait([task], timeout=_CANCEL_AGAIN_S)

    def _release(self) -> None:
        """From now on the coroutine may end."""
        self._is_stopped = True
        self._supervisor.remove(self)
        if self._timer is not None:
            self._timer.cancel()

    def _begin_run(self) -> None:
        loop = asyncio.get_running_loop()
        self._task = loop.create_task(self._guarded(), name=self.name)
        self._task.add_done_callback(self._ended)
        self._timer = None
        if self.trouble is not None:
            self._timer = loop.call_later(STEADY_S, self._note_steady)

    async def _guarded(self) -> BaseException | None:
        """Returns the exception instead of raising it: SystemExit in a task would end the event loop."""
        try:
            await self._run()
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # noqa: BLE001  (logged by _ended)
            return error
        return None

    def _note_steady(self) -> None:
        self._timer = None
        self.trouble = None
        self._backoff.works()

    def _ended(self, task: "asyncio.Task[BaseException | None]") -> None:
        if self._is_stopped or self._supervisor.is_closing:
            return
        if self._timer is not None:
            self._timer.cancel()
        # A task that was cancelled before its first step has not reached _guarded.
        error = asyncio.CancelledError() if task.cancelled() else task.exception() or task.result()
        what = "it returned" if error is None else type(error).__name__
        self.trouble = f"{self.name} has failed ({what})"
        self._supervisor.count_failure()
        pause = self._backoff.failed()
        if pause.is_logged:
            _log.error(
                "%s has failed unexpectedly (%s, %d in a row); restarting in %.1f s",
                self.name,
                what,
                pause.failures,
                pause.seconds,
                exc_info=error,
            )
        self._timer = asyncio.get_running_loop().call_later(pause.seconds, self._begin_run)


def is_cancelled() -> bool:
    """Whether the running task itself was cancelled. If not, a CancelledError comes from something it awaited."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


async def until_first_ends(*works: Coroutine[Any, Any, None]) -> None:
    """Runs coroutines concurrently until one of them ends, then cancels and awaits the others.

    Raises the exception of the one that ended. Their tasks have the name of the calling task. Replaces TaskGroup, which
    on Python 3.11.2 leaves its task with ``cancelling()`` above 0 after a child has failed, so that every later
    ``asyncio.timeout`` in it raises CancelledError.
    """
    loop = asyncio.get_running_loop()
    whole = asyncio.current_task()
    name = None if whole is None else whole.get_name()
    tasks = [loop.create_task(work, name=name) for work in works]
    try:
        ended, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    for task in tasks:
        if task in ended:
            task.result()
