"""Heartbeats: pings every client in its own interval, so that it notices a dead connection.

One timer wheel for each heartbeat configuration, without a timer, a task or a frame per client: a turn of the wheel
encodes one ping for all clients that are due. Closed sessions are removed at their next turn.
Source: "Ping" of the Action Cable protocol; ``pi`` and ``ptp`` of docs/configuration.md (anycable).
"""

import asyncio
from collections.abc import Callable
from typing import Final

from catenary.messages.heartbeat import PER_SECOND, Heartbeat
from catenary.messages.reasons import Reason
from catenary.node.encoder import Encoder
from catenary.node.session import Session

SLOTS: Final = 30
"""Turns of a wheel per interval: one each 100 ms at the default interval of 3 s."""


MANY: Final = 1000
"""Closed sessions that may remain on the wheels, whatever their intervals."""


class Pinger:
    """All wheels. ``clock_ns`` is the wall clock in nanoseconds since the epoch."""

    __slots__ = ("_clock_ns", "_left", "_loop", "_many", "_wheels")

    def __init__(self, loop: asyncio.AbstractEventLoop, clock_ns: Callable[[], int]) -> None:
        self._loop = loop
        self._clock_ns = clock_ns
        self._wheels: dict[Heartbeat, Wheel] = {}
        # Sessions closed since the last pruning, and how many may be before the next
        self._left = 0
        self._many = MANY

    def add(self, session: Session, heartbeat: Heartbeat) -> None:
        """Pings a session until it is closed; an interval of 0 or less means never."""
        if heartbeat.interval_s <= 0:
            return
        wheel = self._wheels.get(heartbeat)
        if wheel is None:
            wheel = self._wheels[heartbeat] = Wheel(self._loop.time())
            self._turn_later(heartbeat, wheel)
        wheel.add(session)

    def left(self) -> None:
        """A session has closed. It is removed at its next turn, or earlier if there are many."""
        self._left += 1
        if self._left > self._many:
            self._prune()

    def _prune(self) -> None:
        """Prunes the wheels if at least half of their sessions are closed; else checks again when that many are."""
        if self._left > self._size / 2:
            self._left = 0
            for wheel in self._wheels.values():
                wheel.prune()
        self._many = max(MANY, self._size // 2)

    @property
    def _size(self) -> int:
        return sum(wheel.size for wheel in self._wheels.values())

    def _turn(self, heartbeat: Heartbeat, wheel: "Wheel") -> None:
        """Turns a wheel, and removes it with its timer if it is empty."""
        try:
            self._ping(heartbeat, wheel)
        finally:
            # A session that can't be pinged must not end the pings of all others.
            if wheel.size == 0:
                del self._wheels[heartbeat]
            else:
                self._turn_later(heartbeat, wheel)

    def _ping(self, heartbeat: Heartbeat, wheel: "Wheel") -> None:
        """Pings the sessions that are due."""
        timestamp = self._clock_ns() * PER_SECOND[heartbeat.precision] // 1_000_000_000
        frames: dict[Encoder, bytes | None] = {}
        for session in wheel.turn():
            if heartbeat.pong_timeout_s > 0 and self._is_gone(session, heartbeat):
                session.close(Reason.NO_PONG)
                continue
            encoder = session.encoder
            if encoder not in frames:
                frames[encoder] = encoder.encode_ping(timestamp, is_native=heartbeat.is_native)
            frame = frames[encoder]
            if frame is not None:
                session.outbound.write(frame)

    def _turn_later(self, heartbeat: Heartbeat, wheel: "Wheel") -> None:
        """Schedules from the previous due time, so that timer lateness does not accumulate.

        After a pause of a whole interval or more (suspended computer) the schedule starts again from now.
        """
        now = self._loop.time()
        if now - wheel.due_at > heartbeat.interval_s:
            wheel.due_at = now
        wheel.due_at += heartbeat.interval_s / SLOTS
        self._loop.call_at(wheel.due_at, self._turn, heartbeat, wheel)

    def _is_gone(self, session: Session, heartbeat: Heartbeat) -> bool:
        """Whether the client has sent nothing since a ping longer ago than the pong timeout. A pong is expected by the next turn."""
        now = self._loop.time()
        if session.silent_since == 0:
            session.silent_since = now
            return False
        return now - session.silent_since >= heartbeat.pong_timeout_s


class Wheel:
    """Slots of sessions; one slot is due at each turn."""

    __slots__ = ("_at", "_joined", "_slots", "due_at", "size")

    def __init__(self, due_at: float) -> None:
        """``due_at`` is the loop time of the last turn, at first that of the wheel's start."""
        self.due_at = due_at
        self._slots: list[list[Session]] = [[] for _ in range(SLOTS)]
        self._at = 0
        self._joined = 0
        self.size = 0

    def add(self, session: Session) -> None:
        """Adds a session. Its first ping is due after half an interval or more; new sessions are spread over the slots."""
        self._joined += 1
        ahead = SLOTS // 2 + self._joined % (SLOTS // 2)
        self._slots[(self._at + ahead) % SLOTS].append(session)
        self.size += 1

    def prune(self) -> None:
        """Removes closed sessions from all slots."""
        self._slots = [[each for each in slot if not each.closed] for slot in self._slots]
        self.size = sum(map(len, self._slots))

    def turn(self) -> list[Session]:
        """Returns the open sessions of the next slot and removes the closed ones from it."""
        slot = self._slots[self._at]
        due = [session for session in slot if not session.closed]
        self._slots[self._at] = due
        self.size -= len(slot) - len(due)
        self._at = (self._at + 1) % SLOTS
        return due
