"""The timer wheel of heartbeats, turned by a clock of the test."""

import asyncio
import contextlib
import gc
import heapq
import itertools
from collections import Counter
from collections.abc import Callable
from typing import Any, cast

import pytest

from catenary.messages.environment import Environment
from catenary.messages.heartbeat import Heartbeat
from catenary.messages.names import Sid
from catenary.node.encoder import Encoder
from catenary.node.pinger import MANY, SLOTS, Pinger
from catenary.node.session import Session
from catenary.protocols.actioncable_json import ActionCableJson
from catenary.wire.framing import WEBSOCKET_TEXT
from tests.parts.heart import MemoryOutbound

START_NS = 1_700_000_000_123_456_789


class Clockwork:
    """A loop that has nothing but timers, and a wall clock that moves with them."""

    def __init__(self, late_s: float = 0) -> None:
        """Its timers are late by so much."""
        self.now_s = 0.0
        self._late_s = late_s
        self._numbers = itertools.count()
        self.timers: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = []

    def time(self) -> float:
        return self.now_s

    def call_at(self, when_s: float, callback: Callable[..., None], *args: Any) -> None:
        heapq.heappush(self.timers, (when_s, next(self._numbers), callback, args))

    def clock_ns(self) -> int:
        return START_NS + round(self.now_s * 1e9)

    def run(self, seconds: float) -> None:
        """Lets time pass."""
        end = self.now_s + seconds + 1e-9
        while self.timers and self.timers[0][0] <= end:
            due_s, _, callback, args = heapq.heappop(self.timers)
            self.now_s = max(self.now_s, due_s) + self._late_s
            callback(*args)
        self.now_s = max(self.now_s, end)


class Pinged:
    """A pinger on a clockwork, and the moments at which each session was pinged."""

    def __init__(self, late_s: float = 0) -> None:
        self.clockwork = Clockwork(late_s)
        loop = cast("asyncio.AbstractEventLoop", self.clockwork)
        self.pinger = Pinger(loop, self.clockwork.clock_ns)
        self.encoder = Encoder(ActionCableJson(), WEBSOCKET_TEXT)

    def add(self, heartbeat: Heartbeat) -> tuple[Session, "TimedOutbound"]:
        outbound = TimedOutbound(self.clockwork)
        session = Session(Environment(Sid("s"), "ws://test/", {}), self.encoder, outbound)
        self.pinger.add(session, heartbeat)
        return session, outbound


class TimedOutbound(MemoryOutbound):
    def __init__(self, clockwork: Clockwork) -> None:
        super().__init__()
        self.at_s: list[float] = []
        self._clockwork = clockwork

    def _write(self, encoded: bytes) -> None:
        super()._write(encoded)
        self.at_s.append(self._clockwork.now_s)


@pytest.mark.parametrize("interval_s", [1, 3, 60])
def test_pings_come_in_the_clients_own_interval(interval_s: int) -> None:
    pinged = Pinged()
    _, outbound = pinged.add(Heartbeat(interval_s))
    pinged.clockwork.run(interval_s * 4.5)
    assert len(outbound.at_s) == 4
    first, *_ = outbound.at_s
    assert interval_s / 2 <= first <= interval_s * 1.04
    for earlier, later in itertools.pairwise(outbound.at_s):
        assert later - earlier == pytest.approx(interval_s)


@pytest.mark.parametrize(
    ("precision", "divisor"), [("s", 1_000_000_000), ("ms", 1_000_000), ("ns", 1)]
)
def test_the_timestamp_has_the_precision_that_was_asked_for(precision: str, divisor: int) -> None:
    pinged = Pinged()
    _, outbound = pinged.add(Heartbeat(3, precision))
    pinged.clockwork.run(3.1)
    (ping,) = outbound.heard
    expected = (START_NS + round(outbound.at_s[0] * 1e9)) // divisor
    assert ping == {"type": "ping", "message": expected}


def test_a_crowd_that_comes_at_once_is_not_pinged_at_once() -> None:
    pinged = Pinged()
    crowd = [pinged.add(Heartbeat(3))[1] for _ in range(150)]
    pinged.clockwork.run(3.1)
    moments = Counter(round(outbound.at_s[0], 3) for outbound in crowd)
    assert len(moments) == SLOTS // 2
    assert max(moments.values()) == 150 // (SLOTS // 2)


def test_one_frame_serves_all_sessions_that_are_due() -> None:
    pinged = Pinged()
    crowd = [pinged.add(Heartbeat(3))[1] for _ in range(60)]
    pinged.clockwork.run(3.1)
    assert len({id(outbound.frames[0]) for outbound in crowd}) == SLOTS // 2


@pytest.mark.parametrize("interval_s", [0, -1])
def test_a_session_without_pings_needs_no_timer(interval_s: int) -> None:
    pinged = Pinged()
    _, outbound = pinged.add(Heartbeat(interval_s))
    assert pinged.clockwork.timers == []
    pinged.clockwork.run(100)
    assert outbound.frames == []


def test_closed_sessions_are_not_pinged_and_others_are() -> None:
    pinged = Pinged()
    gone, silent = pinged.add(Heartbeat(3))
    _, loud = pinged.add(Heartbeat(3))
    pinged.clockwork.run(3.1)
    gone.closed = True
    pinged.clockwork.run(6)
    assert len(silent.at_s) == 1
    assert len(loud.at_s) == 3


def test_a_wheel_without_anybody_is_taken_away_and_comes_again() -> None:
    pinged = Pinged()
    for _ in range(40):
        pinged.add(Heartbeat(3))[0].closed = True
    pinged.clockwork.run(3.1)
    assert pinged.clockwork.timers == []
    _, outbound = pinged.add(Heartbeat(3))
    assert len(pinged.clockwork.timers) == 1
    pinged.clockwork.run(3.1)
    assert len(outbound.at_s) == 1


def test_each_pair_of_interval_and_precision_has_one_timer() -> None:
    pinged = Pinged()
    for _ in range(10):
        pinged.add(Heartbeat(3))
        pinged.add(Heartbeat(3, "ms"))
        pinged.add(Heartbeat(5))
    assert len(pinged.clockwork.timers) == 3


def test_closed_sessions_are_removed_however_long_the_interval() -> None:
    """Or whoever drops clients with a long ?pi= fills the memory."""
    pinged = Pinged()
    pinged.add(Heartbeat(86_400))
    outbounds = [pinged.add(Heartbeat(86_400)) for _ in range(MANY + 1)]
    for session, _ in outbounds:
        session.closed = True
        pinged.pinger.left()
    assert gc.get_referrers(outbounds[0][0]) == [outbounds[0]], "only the test knows it now"


def test_timers_that_are_late_do_not_make_the_interval_longer() -> None:
    pinged = Pinged(late_s=0.02)
    _, outbound = pinged.add(Heartbeat(3))
    pinged.clockwork.run(300)
    assert 98 <= len(outbound.at_s) <= 100
    assert max(later - at for at, later in itertools.pairwise(outbound.at_s)) < 3.1


def test_a_computer_that_slept_does_not_ping_for_all_that_time() -> None:
    pinged = Pinged()
    _, outbound = pinged.add(Heartbeat(3))
    pinged.clockwork.run(30)
    before = len(outbound.at_s)
    pinged.clockwork.now_s += 3600
    pinged.clockwork.run(3)
    assert len(outbound.at_s) - before <= 2


def test_a_session_that_cannot_be_pinged_does_not_end_the_pings_of_others() -> None:
    pinged = Pinged()
    broken, _ = pinged.add(Heartbeat(3))
    _, others = pinged.add(Heartbeat(3))

    def fail(encoded: bytes) -> None:
        raise RuntimeError("the transport is closed")

    broken.outbound.write = fail
    for _ in range(150):
        with contextlib.suppress(RuntimeError):
            pinged.clockwork.run(0.1)
    assert len(others.at_s) == 5
