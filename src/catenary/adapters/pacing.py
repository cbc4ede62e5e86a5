"""Loops over many items, which pause so that the event loop can do other work in between.

A response of Redis or NATS may hold everything that is stored of a stream, and a restored connection has to ask for
every stream. All loops share one budget for each turn of the event loop: a hundred responses that arrive together
take no longer turns than one.
Knows: a budget. Does not know: what is done with the items.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable
from typing import Final, TypeVar

T = TypeVar("T")

BUDGET_BYTES: Final = 65_536
"""Bytes for all loops in one turn of the event loop: about 1 ms."""

ITEM_BYTES: Final = 300
"""Bytes that each item counts in addition to its size: 200 items are one turn, however small they are."""

SLICE_BYTES: Final = 8_192
"""Bytes after which a loop looks at the budget."""

WOKEN_AT_ONCE: Final = 16
"""Loops that continue in the next turn; each may need all of its budget."""


class _Budget:
    """The budget of the present turn of one event loop, and the loops that wait for the next turn."""

    __slots__ = ("_is_due", "_waiting", "loop", "room")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.room = BUDGET_BYTES
        self._is_due = False
        self._waiting: deque[asyncio.Future[None]] = deque()

    def spend(self, size: int) -> None:
        self.room -= size
        self._renew_later()

    async def wait(self) -> None:
        """Returns when a turn has room."""
        add = self._waiting.append
        while True:
            wait = self.loop.create_future()
            add(wait)
            self._renew_later()
            await wait
            if self.room > 0:
                return
            # Others have used up this turn: this loop is among the first in the next one.
            add = self._waiting.appendleft

    def _renew_later(self) -> None:
        if not self._is_due:
            self._is_due = True
            self.loop.call_soon(self._renew)

    def _renew(self) -> None:
        self.room = BUDGET_BYTES
        self._is_due = False
        for _ in range(min(len(self._waiting), WOKEN_AT_ONCE)):
            wait = self._waiting.popleft()
            if not wait.done():
                wait.set_result(None)
        if self._waiting:
            self._renew_later()


_current: _Budget | None = None


def _budget() -> _Budget:
    """The budget of the running event loop. A process has one event loop at a time."""
    global _current  # noqa: PLW0603
    loop = asyncio.get_running_loop()
    if _current is None or _current.loop is not loop:
        _current = _Budget(loop)
    return _current


def _nothing(item: object) -> int:
    return 0


async def paced(items: Iterable[T], size: Callable[[T], int] = _nothing) -> AsyncIterator[T]:
    """Yields the items in order, over as many turns as they need; ``size`` returns the bytes of an item."""
    budget = _budget()
    if budget.room <= 0:
        await budget.wait()
    spent = 0
    for item in items:
        yield item
        spent += ITEM_BYTES + size(item)
        if spent >= SLICE_BYTES:
            budget.spend(spent)
            spent = 0
            if budget.room <= 0:
                await budget.wait()
    budget.spend(spent)
