"""Publishes the publications of one source in order, each after the one before it is finished.

Most are finished at once. While one takes time, the source is not read, so later ones wait there; those of one read
wait here.
Knows: when to read. Does not know: the source.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Iterator
from typing import Final

from catenary.adapters.pacing import paced
from catenary.errors import BackendError, BackendRefused, PublicationError
from catenary.logs.rate_limited import RateLimitedLogger
from catenary.metrics.counters import Counters

_limited: Final = RateLimitedLogger(logging.getLogger("catenary.broadcasts"))

PAUSE_S: Final = 0.1
"""Time until a worker that was cancelled is replaced."""


class OrderedIntake:
    """Calls ``publish`` for each publication; calls ``pause`` and ``resume`` to stop and continue reading."""

    __slots__ = (
        "_counters",
        "_current",
        "_is_given_up",
        "_pause",
        "_publish",
        "_resume",
        "_waiting",
        "_worker",
    )

    def __init__(
        self,
        publish: Callable[[bytes], Awaitable[None] | None],
        counters: Counters,
        *,
        pause: Callable[[], None],
        resume: Callable[[], None],
    ) -> None:
        self._publish = publish
        self._counters = counters
        self._pause = pause
        self._resume = resume
        self._waiting: deque[bytes] = deque()
        self._is_given_up = False
        # The one that is being published; the others are in ``_waiting``
        self._current: tuple[bytes, Awaitable[None]] | None = None
        self._worker: asyncio.Task[None] | None = None

    def add(self, raw: bytes) -> None:
        """Publishes a publication after those that were added before."""
        if self._worker is None:
            self._begin(raw)
            if self._current is None:
                return
            self._start_worker()
        else:
            self._waiting.append(raw)
        self._pause()

    async def finish(self) -> None:
        """Waits until all that were added are published."""
        while self._worker is not None:
            await asyncio.wait([self._worker])

    async def give_up(self) -> int:
        """Drops all that are not published; returns how many may be lost."""
        if self._worker is None:
            return 0
        self._is_given_up = True
        lost = 1 + len(self._waiting)
        self._counters.lost_publications_total += lost
        self._worker.cancel()
        await asyncio.wait([self._worker])
        return lost

    async def _work(self) -> None:
        """Publishes one after the other until none waits."""
        await self._finish_current()
        async for raw in paced(self._take_waiting(), len):
            self._begin(raw)
            await self._finish_current()

    def _take_waiting(self) -> Iterator[bytes]:
        while self._waiting:
            yield self._waiting.popleft()

    def _start_worker(self) -> None:
        self._worker = asyncio.get_running_loop().create_task(self._work())
        self._worker.add_done_callback(self._ended)

    def _ended(self, worker: "asyncio.Task[None]") -> None:
        """The worker has finished, or was cancelled from outside and is replaced."""
        if worker.cancelled() and not self._is_given_up:
            # Not at once: a loop that is being closed cancels all tasks, and must not get new ones.
            asyncio.get_running_loop().call_later(PAUSE_S, self._go_on)
        else:
            self._go_on()

    def _go_on(self) -> None:
        self._worker = None
        if self._is_given_up:
            return
        if self._waiting or self._current is not None:
            self._start_worker()
        else:
            self._resume()

    def _begin(self, raw: bytes) -> None:
        """Calls ``publish``; a publication that is not finished at once becomes the current one."""
        try:
            sent = self._publish(raw)
        except PublicationError as error:
            # Counted by the node; the publisher does not expect an answer.
            _refuse(error, raw)
            return
        except Exception:  # noqa: BLE001  (the next ones are published anyway)
            self._lose(raw)
            return
        if sent is not None:
            self._current = raw, sent

    async def _finish_current(self) -> None:
        if self._current is None:
            return
        raw, sent = self._current
        try:
            await sent
        except PublicationError as error:
            # The same, for a batch that was read over several turns.
            _refuse(error, raw)
        except BackendRefused as error:
            self._counters.refused_publications_total += 1
            _refuse(error, raw)
        except BackendError as error:
            self._counters.lost_publications_total += 1
            _limited.warning("Publication lost: %s; it begins with %.100r", error, raw[:100])
        except asyncio.CancelledError:
            # Either ``give_up`` has cancelled the worker, or the awaited publication was cancelled.
            if self._is_given_up:
                raise
            self._lose(raw)
        except Exception:  # noqa: BLE001  (the next ones are published anyway)
            self._lose(raw)
        self._current = None

    def _lose(self, raw: bytes) -> None:
        self._counters.lost_publications_total += 1
        _limited.exception("Publishing failed; the publication begins with %.100r", raw[:100])


def _refuse(error: Exception, raw: bytes) -> None:
    _limited.warning(
        "Publication refused: %s; it begins with %.100r",
        error,
        raw[:100],
        event="publication_refused",
        reason=str(error),
    )
