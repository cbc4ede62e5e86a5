"""From the first start to the last phase of the shutdown.

Knows: time, signals, listeners. Does not know: what is served.
"""

import asyncio
import logging
import os
import signal
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from catenary.errors import ServerEnded
from catenary.process.listener import Listener
from catenary.process.resources import freeze_gc
from catenary.process.shutdown import Shutdown

_log: Final = logging.getLogger("catenary.server")


class StopSignals:
    """SIGTERM and SIGINT: the first one sets ``received``, the second one ends the process at once."""

    def __init__(self) -> None:
        self.received = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._on_signal, number)

    def _on_signal(self, number: signal.Signals) -> None:
        if self.received.is_set():
            _log.warning("Second %s: exiting at once", number.name)
            logging.shutdown()
            os._exit(128 + number)
        _log.info("%s: shutting down; a second one exits at once", number.name)
        self.received.set()


async def run(
    listeners: Sequence[Listener],
    *,
    start: Sequence[Callable[[], Awaitable[None]]],
    shutdown: Shutdown,
    started: Callable[[], None],
    stopping: Callable[[], None],
    shutdown_delay_s: float,
    shutdown_timeout_s: float,
) -> None:
    """Calls ``start`` in order, serves until a signal, waits ``shutdown_delay_s``, runs the ``shutdown``.

    ``started`` is called when clients are served, ``stopping`` before the delay. An exception from ``start`` is raised. A listener that ends before a
    signal shuts the server down, because its connections ended with it: raises :class:`ServerEnded` after that.
    """
    signals = StopSignals()
    for each in start:
        await each()
    freeze_gc()
    serving = [listener.listen() for listener in listeners]
    started()
    signalled = asyncio.create_task(signals.received.wait())
    ended, _ = await asyncio.wait([signalled, *serving], return_when=asyncio.FIRST_COMPLETED)
    stopping()
    unasked = ended - {signalled}
    for task in unasked:
        error = asyncio.CancelledError() if task.cancelled() else task.exception()
        _log.error("A listener has ended unexpectedly: shutting down", exc_info=error)
    if shutdown_delay_s > 0:
        await asyncio.sleep(shutdown_delay_s)
    await shutdown.run(shutdown_timeout_s)
    signalled.cancel()
    for task in serving:
        task.cancel()
    failures = await asyncio.gather(*serving, return_exceptions=True)
    for failure in failures:
        if isinstance(failure, Exception) and not unasked:
            raise failure
    _log.info("Stopped")
    if unasked:
        raise ServerEnded("a listener has ended unexpectedly")
