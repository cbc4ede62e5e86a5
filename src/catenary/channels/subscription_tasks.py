"""Tasks of this process that belong to subscriptions: each ends with its subscription, or when its cable stops.

Knows: subscriptions, the cable of each. Does not know: what the tasks do.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Final

import msgspec

from catenary.channels.call import Broadcaster
from catenary.channels.subscription_key import SubscriptionKey

END_S: Final = 5.0
"""The longest wait for a task that was cancelled."""


class _Entry(msgspec.Struct, frozen=True, eq=False):
    task: asyncio.Task[None]
    cable: Broadcaster
    abandon: Callable[[], Awaitable[None]]


_entries: Final[dict[SubscriptionKey, _Entry]] = {}


def start(
    key: SubscriptionKey,
    cable: Broadcaster,
    work: Coroutine[Any, Any, None],
    abandon: Callable[[], Awaitable[None]],
) -> None:
    """Starts the task of a subscription, and cancels an earlier one. ``abandon`` is called after the task was cancelled because
    the cable stops, although the subscription goes on: the client can be notified. It does not raise."""
    former = _entries.pop(key, None)
    if former is not None:
        former.task.cancel()
    task = asyncio.get_running_loop().create_task(work)
    entry = _entries[key] = _Entry(task, cable, abandon)

    def forget(_: asyncio.Task[None]) -> None:
        if _entries.get(key) is entry:
            del _entries[key]

    task.add_done_callback(forget)


async def end(key: SubscriptionKey) -> None:
    """Cancels the task of a subscription, if it has one, and waits until it has ended, for at most :data:`END_S`."""
    entry = _entries.pop(key, None)
    if entry is not None:
        entry.task.cancel()
        await asyncio.wait((entry.task,), timeout=END_S)


async def abandon_all(cable: Broadcaster) -> None:
    """Ends all tasks of a cable that stops while its subscriptions go on, because its process is replaced."""
    for key, entry in tuple(_entries.items()):
        if entry.cable is cable:
            await end(key)
            await entry.abandon()


def running() -> int:
    """The number of tasks in this process."""
    return len(_entries)
