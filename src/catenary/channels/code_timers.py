"""The timers of channels whose code runs in other processes.

Subscriptions outlive these processes, so their timers are here, beside the sockets; what a timer runs
is a call like every other. Knows: which methods are declared, and for which subscriptions they run.
Does not know: who carries them out.
"""

import functools
from collections.abc import Iterator, Sequence
from typing import Final, Protocol

import msgspec

from catenary.channels.timers import Beat, Place
from catenary.messages.names import Identifier
from catenary.protocols.code_workers import DeclaredTimer


class Strike(Protocol):
    """Begins a run."""

    def __call__(self, timer: str, place: Place, /) -> bool:
        """False where the subscription is not there any more."""
        ...


class _Params(msgspec.Struct, gc=False):
    channel: str


_read_channel: Final = msgspec.json.Decoder(_Params).decode


class CodeTimers:
    """All declared methods of ``every``. Belongs to the running loop."""

    def __init__(self, strike: Strike) -> None:
        self._strike = strike
        self._beats: dict[tuple[str, str], Beat] = {}

    def declare(self, declared: Sequence[DeclaredTimer]) -> None:
        """The code has changed: what it still declares goes on for the subscriptions that have it,
        what is new is for those that come."""
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

    def begin(self, place: Place) -> None:
        """A subscription lives."""
        for _, beat in self._of(place.identifier):
            beat.begin(place)

    def end(self, place: Place) -> None:
        """It is over."""
        for _, beat in self._of(place.identifier):
            beat.end(place)

    def ran(self, timer: str, place: Place) -> None:
        """A run is over."""
        for name, beat in self._of(place.identifier):
            if name == timer:
                beat.ran(place)

    def stop(self) -> None:
        """No more runs."""
        self.declare(())

    def _of(self, identifier: Identifier) -> Iterator[tuple[str, Beat]]:
        """The timers of a subscription's channel, by their names."""
        if not self._beats:
            return
        try:
            channel = _read_channel(identifier).channel
        except (msgspec.DecodeError, RecursionError):
            return
        for (owner, name), beat in self._beats.items():
            if owner == channel:
                yield name, beat
