"""Runs coroutines one after the other for each key, in the order of the calls, and side by side for different keys."""

import asyncio
from collections.abc import Callable, Coroutine, Hashable
from typing import Any, Generic, TypeVar

from catenary.adapters.nats.flushes import Shared

Key = TypeVar("Key", bound=Hashable)
Result = TypeVar("Result")


class KeyedLock(Generic[Key]):
    """The last task of each key; a key is forgotten when its last task has ended."""

    __slots__ = ("_last",)

    def __init__(self) -> None:
        self._last: dict[Key, asyncio.Task[Any]] = {}

    def run(self, key: Key, work: Callable[[], Coroutine[Any, Any, Result]]) -> Shared[Result]:
        """Runs some work after all earlier work of this key.

        Cancelling the one that awaits it does not cancel the work, which would leave it half done.
        """
        before = self._last.get(key)
        task = asyncio.get_running_loop().create_task(_after(before, work))
        self._last[key] = task

        def done(task: "asyncio.Task[Result]") -> None:
            if self._last.get(key) is task:
                del self._last[key]

        task.add_done_callback(done)
        return Shared(task)

    async def settle(self) -> None:
        """Waits until all work is done."""
        while self._last:
            await asyncio.wait(list(self._last.values()))


async def _after(
    before: "asyncio.Task[Any] | None", work: Callable[[], Coroutine[Any, Any, Result]]
) -> Result:
    if before is not None:
        await asyncio.wait([before])
    return await work()
