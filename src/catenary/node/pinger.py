"""Heartbeats: every client hears a ping in its own interval, so that it notices a dead connection.

A wheel for each pair of interval and precision, with no timer, no task and no frame per client:
a turn of the wheel encodes one ping for all who are due. Sessions that ended fall off at their next turn.
Source: "Ping" of the Action Cable protocol; ``pi`` and ``ptp`` of docs/configuration.md (anycable).
"""

import asyncio
from collections.abc import Callable
from typing import Final

import msgspec

from catenary.messages.replies import Ping
from catenary.node.encoder import Encoder
from catenary.node.session import Session

SLOTS: Final = 30
"""Turns of a wheel in one interval: every 100 ms at the usual 3 s."""

_PER_SECOND: Final = {"s": 1, "ms": 1_000, "ns": 1_000_000_000}
PRECISIONS: Final = frozenset(_PER_SECOND)


class Heartbeat(msgspec.Struct, frozen=True):
    """How one client wants to be pinged: every ``interval_s``, with timestamps in s, ms or ns."""

    interval_s: float
    precision: str = "s"


class Pinger:
    """All wheels. ``clock_ns`` is the wall clock in nanoseconds since the epoch."""

    __slots__ = ("_clock_ns", "_loop", "_wheels")

    def __init__(self, loop: asyncio.AbstractEventLoop, clock_ns: Callable[[], int]) -> None:
        self._loop = loop
        self._clock_ns = clock_ns
        self._wheels: dict[Heartbeat, Wheel] = {}

    def add(self, session: Session, heartbeat: Heartbeat) -> None:
        """Pings a session until it is closed; an interval of 0 or less means never."""
        if heartbeat.interval_s <= 0:
            return
        wheel = self._wheels.get(heartbeat)
        if wheel is None:
            wheel = self._wheels[heartbeat] = Wheel()
            self._loop.call_later(heartbeat.interval_s / SLOTS, self._turn, heartbeat, wheel)
        wheel.add(session)

    def _turn(self, heartbeat: Heartbeat, wheel: "Wheel") -> None:
        """Pings who is due. A wheel that has nobody left is taken away, with its timer."""
        timestamp = self._clock_ns() * _PER_SECOND[heartbeat.precision] // 1_000_000_000
        frames: dict[Encoder, bytes | None] = {}
        for session in wheel.turn():
            encoder = session.encoder
            if encoder not in frames:
                frames[encoder] = encoder.encode(Ping(timestamp))
            frame = frames[encoder]
            if frame is not None:
                session.outbound.write(frame)
        if wheel.size == 0:
            del self._wheels[heartbeat]
        else:
            self._loop.call_later(heartbeat.interval_s / SLOTS, self._turn, heartbeat, wheel)


class Wheel:
    """Slots of sessions; one slot is due at each turn."""

    __slots__ = ("_at", "_joined", "_slots", "size")

    def __init__(self) -> None:
        self._slots: list[list[Session]] = [[] for _ in range(SLOTS)]
        self._at = 0
        self._joined = 0
        self.size = 0

    def add(self, session: Session) -> None:
        """The first ping comes after half an interval or more, and never to all newcomers at once."""
        self._joined += 1
        ahead = SLOTS // 2 + self._joined % (SLOTS // 2)
        self._slots[(self._at + ahead) % SLOTS].append(session)
        self.size += 1

    def turn(self) -> list[Session]:
        """Those who are due now; who has left is forgotten."""
        slot = self._slots[self._at]
        due = [session for session in slot if not session.closed]
        self._slots[self._at] = due
        self.size -= len(slot) - len(due)
        self._at = (self._at + 1) % SLOTS
        return due
