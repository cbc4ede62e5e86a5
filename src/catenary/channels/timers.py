"""Timers of channels: methods that run every so many seconds while their subscription lives.

Each run is a command, in order with the client's other commands. A run that is due while the previous
one is under way is skipped. The event loop has one timer for each declared method, not for each client:
all intervals of a method are equal, so insertion order is the order of the due times.
"""

import asyncio
import functools
import secrets
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from contextvars import Context
from typing import Protocol

import msgspec

from catenary.channels.subscription_key import SubscriptionKey
from catenary.messages.names import Identifier, Sid


class DeclaredTimer(msgspec.Struct, array_like=True, frozen=True):
    """A method of a channel that runs every ``interval_s`` while a subscription lives."""

    channel: str
    name: str
    interval_s: float


class ChannelTimer:
    """One declared method, for all subscriptions that have it. Belongs to the running loop."""

    __slots__ = ("_due", "_fire", "_handle", "_interval_s", "_loop", "_running")

    def __init__(self, interval_s: float, fire: Callable[[SubscriptionKey], bool]) -> None:
        """``fire`` starts a run; it returns False where the subscription no longer exists."""
        self._interval_s = interval_s
        self._fire = fire
        self._loop = asyncio.get_running_loop()
        # In a plain dict, finding the first key takes longer the more keys were deleted before it.
        self._due: OrderedDict[SubscriptionKey, float] = OrderedDict()
        self._running: set[SubscriptionKey] = set()
        self._handle: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        return len(self._due)

    @property
    def interval_s(self) -> float:
        """Seconds from one run to the next."""
        return self._interval_s

    def keys(self) -> tuple[SubscriptionKey, ...]:
        """The subscriptions that have the timer."""
        return tuple(self._due)

    def add(self, key: SubscriptionKey) -> None:
        """Starts the timer of a subscription: the first run is due after one interval."""
        self._due.setdefault(key, self._loop.time() + self._interval_s)
        if self._handle is None:
            self._schedule()

    def remove(self, key: SubscriptionKey) -> None:
        """Stops the timer of a subscription."""
        self._due.pop(key, None)
        self._running.discard(key)

    def finish_run(self, key: SubscriptionKey) -> None:
        """Notes that a run has ended."""
        self._running.discard(key)

    def stop(self) -> None:
        """Stops the timers of all subscriptions."""
        self._due.clear()
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None

    def _schedule(self) -> None:
        first = next(iter(self._due.values()), None)
        # Not in the context of the subscription that sets the timer: all runs would belong to the trace of its command.
        self._handle = (
            None if first is None else self._loop.call_at(first, self._wake, context=Context())
        )

    def _wake(self) -> None:
        try:
            self._fire_due()
        finally:
            self._schedule()

    def _fire_due(self) -> None:
        now = self._loop.time()
        while self._due:
            key, due = next(iter(self._due.items()))
            if due > now:
                break
            del self._due[key]
            # Before the run starts: one that fails to start must not be the last one.
            self._due[key] = now + self._interval_s
            if key in self._running:
                continue
            self._running.add(key)
            try:
                exists = self._fire(key)
            except BaseException:
                self._running.discard(key)
                raise
            if not exists:
                self.remove(key)


class Fire(Protocol):
    """Starts a run."""

    def __call__(self, timer: str, key: SubscriptionKey, /) -> bool:
        """False where the subscription no longer exists."""
        ...


class TimerScheduler:
    """The timers of all declared methods of all channels. Belongs to the running loop."""

    def __init__(self, fire: Fire) -> None:
        self._fire = fire
        self._timers: dict[tuple[str, str], ChannelTimer] = {}

    @property
    def declared(self) -> int:
        """The number of declared methods."""
        return len(self._timers)

    @property
    def running(self) -> int:
        """The number of timers: one for each subscription and method."""
        return sum(map(len, self._timers.values()))

    def declare(self, declared: Iterable[DeclaredTimer]) -> None:
        """Replaces the declared methods.

        The timers of those that are declared again go on; new ones start with subscriptions that
        are added later.
        """
        before, self._timers = self._timers, {}
        for each in declared:
            name = (each.channel, each.name)
            timer = before.pop(name, None)
            if timer is not None and timer.interval_s == each.interval_s:
                self._timers[name] = timer
                continue
            fire = functools.partial(self._fire, each.name)
            fresh = self._timers[name] = ChannelTimer(each.interval_s, fire)
            if timer is not None:
                for key in timer.keys():  # noqa: SIM118  (it is no mapping)
                    fresh.add(key)
                timer.stop()
        for timer in before.values():
            timer.stop()

    def add(self, channel: str, key: SubscriptionKey) -> None:
        """Starts the timers of a subscription to ``channel``."""
        for timer in self._of(channel):
            timer.add(key)

    def remove(self, channel: str, key: SubscriptionKey) -> None:
        """Stops the timers of a subscription."""
        for timer in self._of(channel):
            timer.remove(key)

    def finish_run(self, channel: str, name: str, key: SubscriptionKey) -> None:
        """Notes that a run has ended."""
        timer = self._timers.get((channel, name))
        if timer is not None:
            timer.finish_run(key)

    def stop(self) -> None:
        """Stops all timers."""
        self.declare(())

    def _of(self, channel: str) -> Iterator[ChannelTimer]:
        return (timer for (owner, _), timer in self._timers.items() if owner == channel)


class Performer(Protocol):
    """Runs commands that the application itself starts. A node satisfies it."""

    def perform(self, sid: Sid, identifier: Identifier, data: str, /) -> bool:
        """Queues a command after those that the client has sent; returns False where the session has
        no such subscription."""
        ...


class LocalTimers(TimerScheduler):
    """The timers of a cable that runs in the server's own process.

    A run is an action whose name only this process knows, so that no client can start one.
    """

    def __init__(self, declared_timers: tuple[DeclaredTimer, ...]) -> None:
        super().__init__(self._perform)
        self.declared_timers = declared_timers
        self.prefix = f"$every:{secrets.token_hex(8)}:"
        """The beginning of the action's name; the method's name follows."""
        self._performer: Performer | None = None

    def start(self, performer: Performer) -> None:
        """Runs timers from now on, in the running loop."""
        self._performer = performer
        self.declare(self.declared_timers)

    def stop(self) -> None:
        """Stops all timers."""
        super().stop()
        self._performer = None

    def command(self, name: str) -> str:
        """The data of the command that runs a method once."""
        return msgspec.json.encode({"action": self.prefix + name}).decode()

    def _perform(self, timer: str, key: SubscriptionKey) -> bool:
        if self._performer is None:
            return False
        return self._performer.perform(key.sid, key.identifier, self.command(timer))
