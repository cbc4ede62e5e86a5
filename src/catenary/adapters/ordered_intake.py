"""What publishers send, handed on in the order in which it comes, each before the next.

Most are done with at once. While one takes its time nothing more is read, so the rest waits where it
comes from; what waits here is what came in one read. Knows: when to read. Does not know: from where.
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
"""Until a worker that was cancelled by mistake is followed by another."""


class OrderedIntake:
    """Hands on to ``publish``; ``pause`` and ``resume`` say when to read."""

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
        # What is being published, and what waits for that
        self._current: tuple[bytes, Awaitable[None]] | None = None
        self._worker: asyncio.Task[None] | None = None

    def add(self, raw: bytes) -> None:
        """Publishes what has come, behind what came before."""
        if self._worker is None:
            self._begin(raw)
            if self._current is None:
                return
            self._start_worker()
        else:
            self._waiting.append(raw)
        self._pause()

    async def finish(self) -> None:
        """Waits for what has come."""
        while self._worker is not None:
            await asyncio.wait([self._worker])

    async def give_up(self) -> int:
        """Drops what has come; returns how many publications may be lost by that."""
        if self._worker is None:
            return 0
        self._is_given_up = True
        lost = 1 + len(self._waiting)
        self._counters.lost_publications_total += lost
        self._worker.cancel()
        await asyncio.wait([self._worker])
        return lost

    async def _work(self) -> None:
        """Waits until a publication is done with, then the next, until none waits."""
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
        """Nothing waits any more, or the worker was cancelled by mistake: then another goes on."""
        if worker.cancelled() and not self._is_given_up:
            # Not at once: a loop that is being closed cancels everything, and nothing may begin then.
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
        """Publishes; where that is not done at once, it becomes the current one."""
        try:
            sent = self._publish(raw)
        except PublicationError:
            # Counted and logged by the node; nobody is there to be told.
            return
        except Exception:  # noqa: BLE001  (the next one is to come all the same)
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
        except PublicationError:
            # Counted and logged by the node, as where it is raised at once.
            pass
        except BackendRefused as error:
            self._counters.refused_publications_total += 1
            _limited.warning("Publication refused: %s; it begins with %.100r", error, raw[:100])
        except BackendError as error:
            self._counters.lost_publications_total += 1
            _limited.warning("A publication is lost: %s; it begins with %.100r", error, raw[:100])
        except asyncio.CancelledError:
            # By whoever gives up, or by what was waited for: then the next one is to come.
            if self._is_given_up:
                raise
            self._lose(raw)
        except Exception:  # noqa: BLE001  (the next one is to come all the same)
            self._lose(raw)
        self._current = None

    def _lose(self, raw: bytes) -> None:
        self._counters.lost_publications_total += 1
        _limited.exception("A publication could not be handled; it begins with %.100r", raw[:100])
