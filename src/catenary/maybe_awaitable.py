"""Values that may still be to come: ports return ``X | Awaitable[X]``, so that a value at hand costs no task.

Knows: awaitables. Does not know: event loops, tasks.
"""

from collections.abc import Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")


def then(value: T | Awaitable[T], go_on: Callable[[T], R | Awaitable[R]]) -> R | Awaitable[R]:
    """Calls ``go_on`` with a value: at once, or when the value that is returned is awaited.

    Exceptions of the awaitable are raised where the returned one is awaited; ``go_on`` is not called then.
    """
    if isinstance(value, Awaitable):
        return _await_then(value, go_on)
    return go_on(value)


async def _await_then(value: Awaitable[T], go_on: Callable[[T], R | Awaitable[R]]) -> R:
    return await settled(go_on(await value))


async def settled(value: T | Awaitable[T]) -> T:
    """The value, awaited if it has to be."""
    return await value if isinstance(value, Awaitable) else value
