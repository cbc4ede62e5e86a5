"""Methods that run again and again while their subscription lives.

Each run is a command of its own, in the order of the client's other commands; one that is not over
when the next is due is not run twice. There is one timer of the loop for each declared method, not
for each client: with one interval for all, who was added last is due last.
"""

import asyncio
import functools
import secrets
from collections.abc import Callable, Iterable
from typing import Protocol

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


class Performer(Protocol):
    """Runs commands that the application itself begins."""

    def perform(self, sid: Sid, identifier: Identifier, data: str) -> bool:
        """As if the client had said it, behind what it said before; False where there is no such
        subscription."""
        ...


class Beats:
    """All declared methods of a cable, by channel and name. They run while somebody performs them."""

    def __init__(self) -> None:
        # A secret of this process: clients can't name it
        self._prefix = f"$every:{secrets.token_hex(8)}:"
        self._beats: dict[tuple[str, str], Beat] = {}

    @property
    def running(self) -> int:
        """Timers that run: one for each subscription and method."""
        return sum(map(len, self._beats.values()))

    def start(self, performer: Performer, declared: Iterable[tuple[str, str, float]]) -> None:
        """From now on; ``declared`` are channels, names and intervals in seconds."""
        for channel, name, interval_s in declared:
            run = functools.partial(self._strike, performer, name)
            self._beats[channel, name] = Beat(interval_s, run)

    def stop(self) -> None:
        """No more runs."""
        for beat in self._beats.values():
            beat.stop()
        self._beats.clear()

    def begin(self, channel: str, names: Iterable[str], place: Place) -> None:
        """A subscription lives."""
        for beat in self._of(channel, names):
            beat.begin(place)

    def end(self, channel: str, names: Iterable[str], place: Place) -> None:
        """It is over."""
        for beat in self._of(channel, names):
            beat.end(place)

    def ran(self, channel: str, name: str, place: Place) -> None:
        """A run is over."""
        for beat in self._of(channel, (name,)):
            beat.ran(place)

    def command(self, name: str) -> str:
        """What is performed to run a method once."""
        return msgspec.json.encode({"action": self._prefix + name}).decode()

    def named(self, action: str) -> str:
        """The method that such a command runs; empty for an action of a client."""
        return action.removeprefix(self._prefix) if action.startswith(self._prefix) else ""

    def _of(self, channel: str, names: Iterable[str]) -> Iterable[Beat]:
        """Those that run: none where nobody performs them."""
        for name in names:
            beat = self._beats.get((channel, name))
            if beat is not None:
                yield beat

    def _strike(self, performer: Performer, name: str, place: Place) -> bool:
        return performer.perform(place.sid, place.identifier, self.command(name))
