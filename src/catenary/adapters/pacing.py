"""Loops over what may be much, with a turn for the event loop now and then.

An answer of Redis or NATS may hold all that is kept of a stream, and a connection that is back has all streams to
ask for: what is done for each of them must not hold up everybody else.
Knows: a budget. Does not know: what is done.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from typing import Final, TypeVar

T = TypeVar("T")

BUDGET_BYTES: Final = 65_536
"""What is done in one turn of the loop: about 1 ms."""

ITEM_BYTES: Final = 300
"""What each item counts beside its size: 200 in a turn, however small they are."""


def _nothing(item: object) -> int:
    return 0


async def paced(items: Iterable[T], size: Callable[[T], int] = _nothing) -> AsyncIterator[T]:
    """The items, in order; ``size`` says how many bytes there are to one. A few small ones are one turn."""
    room = BUDGET_BYTES
    for item in items:
        yield item
        room -= ITEM_BYTES + size(item)
        if room <= 0:
            room = BUDGET_BYTES
            await asyncio.sleep(0)
