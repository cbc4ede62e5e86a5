"""Methods that run again and again while their subscription lives.

Each run is a command of its own, in the order of the client's other commands; one that is not over
when the next is due is not run twice. There is one timer of the loop for each declared method, not
for each client: with one interval for all, who was added last is due last.
"""

import asyncio
import functools
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from typing import Protocol

import msgspec

from catenary.messages.names import Identifier, Sid


class Place(msgspec.Struct, frozen=True):
    """One subscription."""

    sid: Sid
    identifier: Identifier


class DeclaredTimer(msgspec.Struct, array_like=True, frozen=True):
    """A method of a channel that runs every ``interval_s`` while a subscription lives."""

    channel: str
    name: str
    interval_s: float


Run = Callable[[Place], bool]
"""Begins a run; False where the subscription is not there any more."""


class Beat:
    """One declared method, for all subscriptions that have it. Belongs to the running loop."""

    __slots__ = ("_due", "_interval_s", "_loop", "_run", "_timer", "_under_way")

    def __init__(self, interval_s: float, run: Run) -> None:
        self._interval_s = interval_s
        self._run = run
        self._loop = asyncio.get_running_loop()
        # A plain dict looks for its first key past all those that were deleted.
        self._due: OrderedDict[Place, float] = OrderedDict()
        self._under_way: set[Place] = set()
        self._timer: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        return len(self._due)

    @property
    def interval_s(self) -> float:
        """From one run to the next."""
        return self._interval_s

    def places(self) -> tuple[Place, ...]:
        """The subscriptions that have it."""
        return tuple(self._due)

    def begin(self, place: Place) -> None:
        """A subscription lives: its first run is due after one interval."""
        self._due.setdefault(place, self._loop.time() + self._interval_s)
        if self._timer is None:
            self._wait()

    def end(self, place: Place) -> None:
        """It is over."""
        self._due.pop(place, None)
        self._under_way.discard(place)

    def ran(self, place: Place) -> None:
        """A run is over."""
        self._under_way.discard(place)

    def stop(self) -> None:
        """No more runs."""
        self._due.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _wait(self) -> None:
        first = next(iter(self._due.values()), None)
        self._timer = None if first is None else self._loop.call_at(first, self._strike)

    def _strike(self) -> None:
        try:
            self._run_due()
        finally:
            self._wait()

    def _run_due(self) -> None:
        now = self._loop.time()
        while self._due:
            place, due = next(iter(self._due.items()))
            if due > now:
                break
            del self._due[place]
            if place in self._under_way:
                self._due[place] = now + self._interval_s
                continue
            self._under_way.add(place)
            # Before it begins: a run that can't begin must not be the last one.
            self._due[place] = now + self._interval_s
            try:
                is_there = self._run(place)
            except BaseException:
                self._under_way.discard(place)
                raise
            if not is_there:
                self.end(place)


class Strike(Protocol):
    """Begins a run."""

    def __call__(self, timer: str, place: Place, /) -> bool:
        """False where the subscription is not there any more."""
        ...


class Beats:
    """All declared methods of all channels. Belongs to the running loop."""

    def __init__(self, strike: Strike) -> None:
        self._strike = strike
        self._beats: dict[tuple[str, str], Beat] = {}

    @property
    def declared(self) -> int:
        """How many methods are declared."""
        return len(self._beats)

    @property
    def running(self) -> int:
        """Timers that run: one for each subscription and method."""
        return sum(map(len, self._beats.values()))

    def declare(self, declared: Iterable[DeclaredTimer]) -> None:
        """What is still declared goes on for the subscriptions that have it, what is new is for those
        that come."""
        before, self._beats = self._beats, {}
        for timer in declared:
            key = (timer.channel, timer.name)
            beat = before.pop(key, None)
            if beat is not None and beat.interval_s == timer.interval_s:
                self._beats[key] = beat
                continue
            run = functools.partial(self._strike, timer.name)
            fresh = self._beats[key] = Beat(timer.interval_s, run)
            if beat is not None:
                for place in beat.places():
                    fresh.begin(place)
                beat.stop()
        for beat in before.values():
            beat.stop()

    def begin(self, channel: str, place: Place) -> None:
        """A subscription to a channel lives."""
        for beat in self._of(channel):
            beat.begin(place)

    def end(self, channel: str, place: Place) -> None:
        """It is over."""
        for beat in self._of(channel):
            beat.end(place)

    def ran(self, channel: str, timer: str, place: Place) -> None:
        """A run is over."""
        beat = self._beats.get((channel, timer))
        if beat is not None:
            beat.ran(place)

    def stop(self) -> None:
        """No more runs."""
        self.declare(())

    def _of(self, channel: str) -> Iterator[Beat]:
        return (beat for (owner, _), beat in self._beats.items() if owner == channel)
