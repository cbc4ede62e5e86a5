"""Runs the methods of an application: coroutine functions in the event loop, plain functions in threads.

- Coroutine functions run in the task of their call, because ``asyncio.timeout`` needs one. Each step is
  timed, because a step that does not return to the event loop delays every client.
- Plain functions may block, so they run in a limited number of threads.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine, Generator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from contextvars import copy_context
from inspect import isawaitable
from types import coroutine
from typing import Any, Final, TypeVar

from catenary.channels.declaration import Method
from catenary.logs.rate_limited import RateLimitedLogger

_limited: Final = RateLimitedLogger(logging.getLogger("catenary.channels"))
T = TypeVar("T")

Around = Callable[[], AbstractContextManager[object]]
"""Returns the context manager that surrounds a method."""


class Runner:
    """Runs methods. ``threads`` is how many plain functions run at once; others wait.

    ``around`` surrounds plain functions in their thread, and coroutines in the event loop, where it must
    not block.
    """

    def __init__(self, *, threads: int, slow_s: float, around: Around = nullcontext) -> None:
        self._around = around
        self._threads = threads
        self._slow_s = slow_s
        self._pool: ThreadPoolExecutor | None = None
        self.slow_total = 0
        """Times a method blocked the event loop for longer than ``slow_s``."""
        self.waiting = 0
        """Plain functions that run or wait for a thread."""

    def close(self) -> None:
        """Drops calls that wait for a thread; those that run end by themselves."""
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)
            self._pool = None

    async def run(
        self,
        method: Method,
        owner: object,
        arguments: dict[str, Any],
        completed: Callable[[], None] | None = None,
    ) -> None:
        """Runs a method to its end. Raises its exceptions.

        ``completed`` is called when the method has returned: also if this wait is cancelled while the
        method runs in a thread, because a thread can't be cancelled.
        """
        match method.kind:
            case "async":
                with self._around():
                    await _timed(method.function(owner, **arguments), method.name, self._note)
            case "sync":
                await self._run_in_thread(method, owner, arguments, completed)
                return
        if completed is not None:
            completed()

    async def _run_in_thread(
        self,
        method: Method,
        owner: object,
        arguments: dict[str, Any],
        completed: Callable[[], None] | None,
    ) -> None:
        """A cancelled wait for a function that has begun continues until its end."""
        future = self._submit(method, owner, arguments)
        self.waiting += 1
        try:
            result = await asyncio.wrap_future(future)
        except asyncio.CancelledError:
            if not future.cancelled():
                await _end_of(future)
                if completed is not None and future.exception() is None:
                    completed()
            raise
        finally:
            self.waiting -= 1
        if isawaitable(result):
            # A plain function that returns a coroutine, as some decorators make them.
            with self._around():
                await result
        if completed is not None:
            completed()

    def _submit(self, method: Method, owner: object, arguments: dict[str, Any]) -> "Future[Any]":
        if self._pool is None:
            self._pool = ThreadPoolExecutor(self._threads, thread_name_prefix="catenary-channel")
        context = copy_context()

        def run() -> Any:
            with self._around():
                return method.function(owner, **arguments)

        return self._pool.submit(context.run, run)

    def _note(self, name: str, took_s: float) -> None:
        if took_s > self._slow_s:
            self.slow_total += 1
            _limited.warning("%s blocked the event loop for %d ms", name, took_s * 1000)


def run_now(work: Coroutine[Any, Any, T]) -> T:
    """Runs a coroutine that does not wait. Raises RuntimeError if it does."""
    try:
        work.send(None)
    except StopIteration as done:
        result: T = done.value
        return result
    work.close()
    raise RuntimeError("expected a coroutine without anything to wait for")


@coroutine
def _timed(
    work: Coroutine[Any, Any, T], name: str, note: Callable[[str, float], None]
) -> Generator[Any, Any, T]:
    """Runs a coroutine unchanged, and reports how long each step took."""
    step: Callable[[], Any] = lambda: work.send(None)  # noqa: E731
    while True:
        began = time.perf_counter()
        try:
            waits_for = step()
        except StopIteration as done:
            result: T = done.value
            return result
        finally:
            note(name, time.perf_counter() - began)
        try:
            sent = yield waits_for
        except GeneratorExit:
            work.close()
            raise
        except BaseException as error:  # noqa: BLE001
            # The coroutine handles it, CancelledError above all.
            step = _thrower(work, error)
        else:
            step = _sender(work, sent)


def _sender(work: Coroutine[Any, Any, Any], value: Any) -> Callable[[], Any]:
    return lambda: work.send(value)


def _thrower(work: Coroutine[Any, Any, Any], error: BaseException) -> Callable[[], Any]:
    return lambda: work.throw(error)


async def _end_of(future: "Future[Any]") -> None:
    """Waits for the end of a function in a thread, however often the wait is cancelled."""
    ended = asyncio.ensure_future(asyncio.wait([asyncio.wrap_future(future)]))
    while not ended.done():
        try:
            await asyncio.shield(ended)
        except asyncio.CancelledError:
            continue
