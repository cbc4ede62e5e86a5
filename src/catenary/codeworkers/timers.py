"""Timers of channels whose code runs in code workers.

Subscriptions outlive code workers, so their timers run in the serving process; each run is a call.
Knows: the declared methods, the keys of subscriptions. Does not know: workers.
"""

from collections.abc import Sequence
from typing import Final

import msgspec

from catenary.channels.subscription_key import SubscriptionKey
from catenary.channels.timers import DeclaredTimer, Fire, TimerScheduler
from catenary.messages.lenient_json import reader
from catenary.messages.names import Identifier


class _Params(msgspec.Struct, gc=False):
    channel: str


_read_channel: Final = reader(_Params)


class WorkerTimers:
    """A :class:`TimerScheduler` that finds the channel of a subscription in its identifier."""

    def __init__(self, fire: Fire) -> None:
        self._scheduler = TimerScheduler(fire)

    def declare(self, declared: Sequence[DeclaredTimer]) -> None:
        """Replaces the declared methods, after new code was loaded."""
        self._scheduler.declare(declared)

    def add(self, key: SubscriptionKey) -> None:
        """Starts the timers of a subscription."""
        self._scheduler.add(self._channel(key.identifier), key)

    def remove(self, key: SubscriptionKey) -> None:
        """Stops the timers of a subscription."""
        self._scheduler.remove(self._channel(key.identifier), key)

    def finish_run(self, timer: str, key: SubscriptionKey) -> None:
        """Notes that a run has ended."""
        self._scheduler.finish_run(self._channel(key.identifier), timer, key)

    def stop(self) -> None:
        """Stops all timers."""
        self._scheduler.stop()

    def _channel(self, identifier: Identifier) -> str:
        """Empty if the identifier names no channel, or if no channel has timers."""
        if not self._scheduler.declared:
            return ""
        try:
            return _read_channel(identifier).channel
        except msgspec.DecodeError:
            return ""
