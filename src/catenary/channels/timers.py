"""Methods that run again and again while their subscription lives.

Each run is a command of its own, in the order of the client's other commands; one that is not over
when the next is due is not run twice. There is one timer of the loop for each declared method, not
for each client: with one interval for all, who was added last is due last.
"""

import asyncio
from collections.abc import Callable

import msgspec

from catenary.messages.names import Identifier, Sid


class Place(msgspec.Struct, frozen=True):
    """One subscription."""

    sid: Sid
    identifier: Identifier


Run = Callable[[Place], bool]
"""Begins a run; False where the subscription is not there any more."""


class Beat:
    """One declared method, for all subscriptions that have it. Belongs to the running loop."""

    __slots__ = ("_due", "_interval_s", "_loop", "_run", "_timer", "_under_way")

    def __init__(self, interval_s: float, run: Run) -> None:
        self._interval_s = interval_s
        self._run = run
        self._loop = asyncio.get_running_loop()
        self._due: dict[Place, float] = {}
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
            if self._run(place):
                self._due[place] = now + self._interval_s
            else:
                self._under_way.discard(place)
        self._wait()
