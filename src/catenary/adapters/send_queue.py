"""Large batches of publications, sent over several turns of the event loop without losing their order.

A batch of 10,000 messages takes some 50 ms to pack. A :class:`SendQueue` lets an adapter pause while it does that:
calls that arrive meanwhile wait, and run in the order in which they were added.
Knows: the order of calls. Does not know: what is sent, where.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from functools import partial
from typing import Any, Final, NamedTuple

from catenary.adapters.pacing import paced
from catenary.errors import BackendError
from catenary.metrics.counters import Counters

AT_ONCE: Final = 100
"""Messages that are sent in one turn of the loop: about 1 ms. A smaller batch needs no queue while it is idle."""

WAITING_LIMIT: Final = 100_000
"""Messages that may wait for a large batch; those beyond are refused, and counted."""

PAUSE_S: Final = 0.1
"""Time until a worker that was cancelled is replaced."""

Send = Callable[[], Coroutine[Any, Any, Awaitable[object] | None]]
"""Sends something, with pauses if it is large. Returns an awaitable for the answer, which the queue does not wait for,
or None if there is no answer to wait for."""


class _Waiting(NamedTuple):
    number: int
    send: Send
    done: "asyncio.Future[None]"


class SendQueue:
    """Runs one ``send`` after another. While it is idle, an adapter sends small batches without it."""

    __slots__ = ("_answers", "_counters", "_limit", "_number", "_waiting", "_worker")

    def __init__(self, counters: Counters, limit: int = WAITING_LIMIT) -> None:
        self._counters = counters
        self._limit = limit
        self._waiting: deque[_Waiting] = deque()
        self._number = 0
        self._worker: asyncio.Task[None] | None = None
        # Keeps references: the event loop has none.
        self._answers: set[asyncio.Future[object]] = set()

    @property
    def is_idle(self) -> bool:
        """Nothing is being sent and nothing waits, so whatever is sent now is in order."""
        return self._worker is None

    def add(self, number: int, send: Send) -> Awaitable[None]:
        """Calls ``send``, which sends ``number`` messages, after all that were added before it.

        Awaiting raises what ``send`` or its answer raises, or :class:`BackendError` if too many messages wait. A
        caller that is cancelled does not cancel ``send``.
        """
        loop = asyncio.get_running_loop()
        done: asyncio.Future[None] = loop.create_future()
        if self._number > 0 and self._number + number > self._limit:
            self._counters.pubsub_refused_total += number
            done.set_exception(BackendError("too many publications wait for a large batch"))
            return done
        self._number += number
        self._waiting.append(_Waiting(number, send, done))
        if self._worker is None:
            self._start_worker()
        return asyncio.shield(done)

    def _start_worker(self) -> None:
        self._worker = asyncio.get_running_loop().create_task(self._work())
        self._worker.add_done_callback(self._worker_ended)

    async def _work(self) -> None:
        async for each in paced(self._take_waiting()):
            await self._send(each)

    def _take_waiting(self) -> Iterator[_Waiting]:
        while self._waiting:
            each = self._waiting.popleft()
            self._number -= each.number
            yield each

    async def _send(self, each: _Waiting) -> None:
        try:
            answer = await each.send()
        except asyncio.CancelledError:
            _fail(each.done, BackendError("sending was cancelled"))
            raise
        except Exception as error:  # noqa: BLE001  (the caller awaits it)
            _fail(each.done, error)
            return
        if answer is None:
            _succeed(each.done)
            return
        future = asyncio.ensure_future(answer)
        self._answers.add(future)
        future.add_done_callback(partial(self._answered, each.done))

    def _answered(self, done: "asyncio.Future[None]", answer: "asyncio.Future[object]") -> None:
        self._answers.discard(answer)
        if answer.cancelled():
            _fail(done, BackendError("the answer was cancelled"))
            return
        error = answer.exception()
        if error is None:
            _succeed(done)
        else:
            _fail(done, error)

    def _worker_ended(self, worker: "asyncio.Task[None]") -> None:
        if worker.cancelled():
            # Not at once: a loop that is being closed cancels all tasks, and must not get new ones.
            asyncio.get_running_loop().call_later(PAUSE_S, self._start_worker)
        elif self._waiting:
            self._start_worker()
        else:
            self._worker = None


def _succeed(done: "asyncio.Future[None]") -> None:
    if not done.done():
        done.set_result(None)


def _fail(done: "asyncio.Future[None]", error: BaseException) -> None:
    if not done.done():
        done.set_exception(error)
