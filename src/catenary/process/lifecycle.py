"""From bound ports to the last goodbye.

uvicorn listens and accepts; starting, signals and the order of the end are here.
Knows: time, signals, uvicorn. Does not know: what is served.
"""

import asyncio
import contextlib
import functools
import gc
import logging
import os
import resource
import signal
import socket
from collections.abc import Awaitable, Callable, Iterator, Sequence
from pathlib import Path
from typing import Final, cast

import uvicorn

from catenary.errors import ServerEnded

_log: Final = logging.getLogger("catenary.server")

ACCEPTS_PER_TURN: Final = 2
"""How often each socket is listened on: libuv accepts one connection in a turn of the loop from each.

Who comes alone costs 3 % more than with one, for an accept that finds nobody, with four 9 %. Whoever
comes in a crowd shares turns, and costs 7 % less."""

ACCEPTS_IN_A_CROWD: Final = 8
"""The same while many come: an eighth less than with two where a hundred or more wait."""

CROWD: Final = 30
"""Connections in a tenth of a second."""

CROWD_IS_OVER: Final = 10
"""Tenths of a second without a crowd."""


class Listener(uvicorn.Server):
    """uvicorn on one port, without signal handlers of its own: one process has several."""

    def __init__(self, config: uvicorn.Config, sockets: list[socket.socket]) -> None:
        super().__init__(config)
        again = [each.dup() for each in sockets for _ in range(ACCEPTS_PER_TURN - 1)]
        self._sockets = [*sockets, *again]
        self._own = sockets
        self._has_stopped_accepting = False
        # While many come
        self._more: list[asyncio.Server] = []
        self._came = 0
        self._quiet_ticks = 0

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def listen(self) -> None:
        """Serves until :meth:`stop`, then until its connections are gone."""
        await self.serve(sockets=self._sockets)

    async def on_tick(self, counter: int) -> bool:
        """Called by uvicorn ten times in a second. True where it is to end."""
        came = self.server_state.total_requests - self._came
        self._came += came
        if came >= CROWD:
            self._quiet_ticks = 0
            if not self._more and not self._has_stopped_accepting:
                await self._accept_more()
        elif self._more:
            self._quiet_ticks += 1
            if self._quiet_ticks == CROWD_IS_OVER:
                self._accept_less()
        return await super().on_tick(counter)

    async def _accept_more(self) -> None:
        loop, config = asyncio.get_running_loop(), self.config
        build = functools.partial(
            cast("Callable[..., asyncio.Protocol]", config.http_protocol_class),
            config=config,
            server_state=self.server_state,
            app_state=self.lifespan.state,
        )
        # Where there are no more files to open, it goes on with those that there are.
        with contextlib.suppress(OSError):
            for each in self._own * (ACCEPTS_IN_A_CROWD - ACCEPTS_PER_TURN):
                more = await loop.create_server(
                    build, sock=each.dup(), ssl=config.ssl, backlog=config.backlog
                )
                self._more.append(more)
        if self._has_stopped_accepting:  # meanwhile
            self._accept_less()

    def _accept_less(self) -> None:
        """Whoever knocks meanwhile is accepted by the others: all have one queue."""
        for each in self._more:
            each.close()
        self._more.clear()

    def stop_accepting(self) -> None:
        """Takes no new connections, and serves those that there are."""
        self._has_stopped_accepting = True
        self._accept_less()
        for server in self.servers:
            server.close()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Called by uvicorn: takes no new connections, and returns when those that there are have
        ended."""
        self._accept_less()
        await super().shutdown(sockets)

    def stop(self) -> None:
        """Takes no new connections and asks those that there are to end."""
        self.should_exit = True


def find_the_dead(sockets: Sequence[socket.socket], timeout_s: int) -> None:
    """Whoever leaves TCP unanswered for so long is dead to these listening sockets; 0: as the system
    has it.

    Accepted connections inherit that, so that it costs none of them a call or a byte.
    TCP_USER_TIMEOUT is about data that is not acknowledged, which would be sent again for a quarter
    of an hour; keep-alive asks where nothing is on its way. tcp(7).
    """
    if timeout_s == 0:
        return
    for listening in sockets:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for name, value in (
            ("TCP_KEEPIDLE", max(timeout_s // 4, 1)),
            ("TCP_KEEPINTVL", max(timeout_s // 4, 1)),
            ("TCP_KEEPCNT", 3),
            ("TCP_USER_TIMEOUT", timeout_s * 1000),
        ):
            # macOS has not got all of them.
            if hasattr(socket, name):
                listening.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


class Ending:
    """The two signals: the first asks for an orderly end, the second ends at once."""

    def __init__(self) -> None:
        self.asked = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._on_signal, number)

    def _on_signal(self, number: signal.Signals) -> None:
        if self.asked.is_set():
            _log.warning("Second %s: ending at once", number.name)
            logging.shutdown()
            os._exit(128 + number)
        _log.info("%s: shutting down; the same again ends at once", number.name)
        self.asked.set()


async def run(
    listeners: Sequence[Listener],
    *,
    start: Sequence[Callable[[], Awaitable[None]]],
    finish: Sequence[Callable[[float], Awaitable[None]]],
    started: Callable[[], None],
    drain: Callable[[], Awaitable[None]],
    shutdown_delay_s: float,
    shutdown_timeout_s: float,
) -> None:
    """Starts everything, serves until a signal, ends in order.

    ``started`` is called when clients are served, ``drain`` before the listeners stop. ``finish`` is called after the last client has gone, with the seconds that are left of
    ``shutdown_timeout_s``; what is not done by then is given up. A starter that fails raises. A
    listener that ends before a signal came ends everything, because its connections ended with it:
    raises :class:`ServerEnded`.
    """
    ending = Ending()
    for each in start:
        await each()
    settle_memory()
    serving = [asyncio.create_task(listener.listen()) for listener in listeners]
    started()
    asked = asyncio.create_task(ending.asked.wait())
    ended, _ = await asyncio.wait([asked, *serving], return_when=asyncio.FIRST_COMPLETED)
    unasked = ended - {asked}
    for task in unasked:
        error = asyncio.CancelledError() if task.cancelled() else task.exception()
        _log.error("A listener has ended unexpectedly: shutting down", exc_info=error)
    if shutdown_delay_s > 0:
        await asyncio.sleep(shutdown_delay_s)
    deadline = asyncio.get_running_loop().time() + shutdown_timeout_s
    await drain()
    # Whoever does not end must leave time for what comes behind.
    patience_s = (deadline - asyncio.get_running_loop().time()) * 2 / 3
    for listener in listeners:
        listener.stop()
    await asyncio.wait(serving, timeout=patience_s)
    await finish_all(finish, deadline)
    asked.cancel()
    for task in serving:
        task.cancel()
    failures = await asyncio.gather(*serving, return_exceptions=True)
    for failure in failures:
        if isinstance(failure, Exception) and not unasked:
            raise failure
    _log.info("Stopped")
    if unasked:
        raise ServerEnded("a listener has ended unexpectedly")


async def finish_all(finish: Sequence[Callable[[float], Awaitable[None]]], deadline: float) -> None:
    """Ends one part after the other, each with what is left until ``deadline`` on the loop's clock,
    and at least 0.1 s. One that fails is logged, and the others end all the same."""
    clock = asyncio.get_running_loop().time
    for close in finish:
        try:
            await close(max(deadline - clock(), 0.1))
        except Exception:  # noqa: BLE001
            # Disconnect calls and publications that wait must not be lost by a fault elsewhere.
            _log.exception("A part of the server did not end in order")


def settle_memory() -> None:
    """What is there now stays: the collector need not look at it again.

    Sessions are freed by reference counts; cycles are rare, so that a scan of everything may be.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 50)


def raise_open_files() -> int:
    """Lifts the process's own limit of open files to what the system grants; returns it."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def resident_bytes() -> int:
    """Memory of this process; where the system does not tell, the most that it ever had."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return pages * resource.getpagesize()
