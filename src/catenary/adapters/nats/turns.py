"""One after the other for the same key, in the order of the calls; side by side for others."""

import asyncio
from collections.abc import Callable, Coroutine, Hashable
from typing import Any, Generic, TypeVar

from catenary.adapters.nats.connection import Shared

Key = TypeVar("Key", bound=Hashable)
Result = TypeVar("Result")


class Turns(Generic[Key]):
    """Who has the last turn of each key; nothing is left of keys whose turns are over."""

    __slots__ = ("_last",)

    def __init__(self) -> None:
        self._last: dict[Key, asyncio.Task[Any]] = {}

    def take(self, key: Key, work: Callable[[], Coroutine[Any, Any, Result]]) -> Shared[Result]:
        """Does some work when all work of this key that was called for before is done.

        Work that has begun goes on whoever waits for it, so that none is done by half.
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
        """Waits until all that was called for is done."""
        while self._last:
            await asyncio.wait(list(self._last.values()))


async def _after(
    before: "asyncio.Task[Any] | None", work: Callable[[], Coroutine[Any, Any, Result]]
) -> Result:
    if before is not None:
        await asyncio.wait([before])
    return await work()
