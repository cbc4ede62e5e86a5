"""The event-loop lag: measured, shown for one window, then dropped."""

import asyncio
import time

from catenary.metrics.counters import Counters
from catenary.process.loop_lag import INTERVAL_S, WINDOW, LoopLag
from catenary.supervision.ticker import Ticker
from tests.parts.heart import in_loop


class _Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_the_worst_lag_of_the_window_is_shown() -> None:
    clock, counters = _Clock(), Counters()
    lag = LoopLag(counters, clock)
    clock.now = 7.0
    lag.measure()
    assert counters.event_loop_lag_ms == 0
    shown = []
    for late_s in (0.2, 0.05, *[0.01] * WINDOW):
        clock.now += INTERVAL_S + late_s
        lag.measure()
        shown.append(counters.event_loop_lag_ms)
    assert shown == [200] * WINDOW + [50, 10]
    measured = counters.event_loop_lag_seconds.read()
    assert (measured.count, round(measured.sum, 6)) == (22, 0.45)


def test_an_early_timer_is_no_lag() -> None:
    clock, counters = _Clock(), Counters()
    lag = LoopLag(counters, clock)
    lag.measure()
    clock.now = INTERVAL_S - 0.01
    lag.measure()
    assert counters.event_loop_lag_ms == 0


@in_loop
async def test_a_held_loop_is_measured() -> None:
    counters = Counters()
    lag = LoopLag(counters, asyncio.get_running_loop().time)
    measured = asyncio.Event()

    def measure() -> None:
        lag.measure()
        measured.set()

    ticker = Ticker(INTERVAL_S, measure)
    await ticker.start()
    await measured.wait()
    measured.clear()
    time.sleep(2 * INTERVAL_S)  # noqa: ASYNC251  (the subject: the loop is held)
    await measured.wait()
    await ticker.stop(1)
    assert counters.event_loop_lag_ms >= 1000 * INTERVAL_S - 10
