"""The timers of channels whose code runs in other processes.

Subscriptions outlive these processes, so their timers are here, beside the sockets; what a timer runs
is a call like every other. Knows: which methods are declared, and for which subscriptions they run.
Does not know: who carries them out.
"""

from collections.abc import Sequence
from typing import Final

import msgspec

from catenary.channels.timers import Beats, DeclaredTimer, Place, Strike
from catenary.messages.lenient_json import reader
from catenary.messages.names import Identifier


class _Params(msgspec.Struct, gc=False):
    channel: str


_read_channel: Final = reader(_Params)


class CodeTimers:
    """The same as :class:`Beats`, for those who know no more of a subscription than its place."""

    def __init__(self, strike: Strike) -> None:
        self._beats = Beats(strike)

    def declare(self, declared: Sequence[DeclaredTimer]) -> None:
        """The code has changed."""
        self._beats.declare(declared)

    def begin(self, place: Place) -> None:
        """A subscription lives."""
        self._beats.begin(self._channel(place.identifier), place)

    def end(self, place: Place) -> None:
        """It is over."""
        self._beats.end(self._channel(place.identifier), place)

    def ran(self, timer: str, place: Place) -> None:
        """A run is over."""
        self._beats.ran(self._channel(place.identifier), timer, place)

    def stop(self) -> None:
        """No more runs."""
        self._beats.stop()

    def _channel(self, identifier: Identifier) -> str:
        """Empty for what names none, and where no channel has timers."""
        if not self._beats.declared:
            return ""
        try:
            return _read_channel(identifier).channel
        except msgspec.DecodeError:
            return ""
