"""From the first start to the last phase of the shutdown.

Knows: time, signals, listeners. Does not know: what is served.
"""

import asyncio
import contextlib
import logging
import os
import signal
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from catenary.errors import ServerEnded
from catenary.process.accept_queues import AcceptQueues
from catenary.process.drain import Drain
from catenary.process.listener import Listener
from catenary.process.resources import freeze_gc
from catenary.process.shutdown import Shutdown

_log: Final = logging.getLogger("catenary.server")


REPLACED: Final = signal.SIGUSR1
"""Another process accepts at the same sockets: this one stops, and accepts no new connections from then on."""


def _nothing_to_hasten() -> bool:
    return False


EXIT_HINT: Final = "a second signal exits at once"
HASTEN_HINT: Final = "a second signal hastens that, a third one exits at once"


class StopSignals:
    """SIGTERM, SIGINT and :data:`REPLACED`: the first one sets ``received``, the second one calls ``hasten``.

    That returns whether the shutdown was waiting for time to pass. If it was not, the second signal ends the process at once,
    and so does a third one.

    ``is_patient`` tells whether the shutdown will wait, for the log.
    """

    def __init__(self, *, is_patient: bool = False) -> None:
        self.received = asyncio.Event()
        self.hasten: Callable[[], bool] = _nothing_to_hasten
        self._hint = HASTEN_HINT if is_patient else EXIT_HINT
        self.is_replaced = False
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT, REPLACED):
            loop.add_signal_handler(number, self._on_signal, number)

    def _on_signal(self, number: signal.Signals) -> None:
        if not self.received.is_set():
            self.is_replaced = number == REPLACED
            why = "another process serves the ports" if self.is_replaced else number.name
            _log.info("%s: shutting down; %s", why, self._hint)
            self.received.set()
        elif self.hasten():
            _log.warning("Another %s: no longer waiting; the next one exits at once", number.name)
        else:
            _log.warning("Another %s: exiting at once", number.name)
            logging.shutdown()
            os._exit(128 + number)


async def run(
    listeners: Sequence[Listener],
    *,
    start: Sequence[Callable[[], Awaitable[None]]],
    shutdown: Shutdown,
    started: Callable[[], None],
    stopping: Callable[[], None],
    shutdown_delay_s: float,
    shutdown_timeout_s: float,
    drain: Drain,
) -> None:
    """Calls ``start`` in order, serves until a signal, waits ``shutdown_delay_s``, runs the ``shutdown``.
    A second signal ends the delay and hastens the ``drain``, which is part of the shutdown.

    ``started`` is called when clients are served, ``stopping`` before the delay. A process that is replaced accepts nothing
    from the signal on, and does not wait. An exception from ``start`` is raised. A listener that ends before a signal shuts
    the server down, because its connections ended with it: raises :class:`ServerEnded` after that.
    """
    signals = StopSignals(is_patient=shutdown_delay_s > 0 or drain.is_slow)
    for each in start:
        await each()
    freeze_gc()
    serving = [listener.listen() for listener in listeners]
    started()
    signalled = asyncio.create_task(signals.received.wait())
    ended, _ = await asyncio.wait([signalled, *serving], return_when=asyncio.FIRST_COMPLETED)
    for listener in listeners:
        listener.stop_keeping_connections()
    if signals.is_replaced:
        # The new process is ready, and load balancers must not find this one, which is not.
        drain.follow(AcceptQueues(each for listener in listeners for each in listener.own))
        for listener in listeners:
            listener.stop_accepting()
    else:
        stopping()
    unasked = ended - {signalled}
    for task in unasked:
        error = asyncio.CancelledError() if task.cancelled() else task.exception()
        _log.error("A listener has ended unexpectedly: shutting down", exc_info=error)
    if shutdown_delay_s > 0 and not signals.is_replaced:
        await _delay(shutdown_delay_s, signals, drain)
    signals.hasten = drain.hasten
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


async def _delay(seconds: float, signals: StopSignals, drain: Drain) -> None:
    """Waits, until a second signal at most."""
    hastened = asyncio.Event()

    def hasten() -> bool:
        drain.hasten()
        hastened.set()
        return True

    signals.hasten = hasten
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await hastened.wait()
