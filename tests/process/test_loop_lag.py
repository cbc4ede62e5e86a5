"""The event-loop lag, as it is measured and forgotten."""

import asyncio
import time

import pytest

from catenary.metrics.counters import Counters
from catenary.process import loop_lag
from catenary.process.loop_lag import WINDOW, LoopLag
from tests.parts.heart import in_loop


@in_loop
async def test_the_worst_lag_of_the_window_is_shown_and_then_forgotten(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(loop_lag, "INTERVAL_S", 0.005)
    counters = Counters()
    lag = LoopLag(counters)
    await lag.start()
    time.sleep(0.2)  # noqa: ASYNC251  (what is measured: the loop is held)
    while counters.event_loop_lag_ms == 0:  # noqa: ASYNC110
        await asyncio.sleep(0)
    assert counters.event_loop_lag_ms >= 190
    async with asyncio.timeout(20):
        while counters.event_loop_lag_ms >= 190:  # noqa: ASYNC110
            await asyncio.sleep(0.005 * WINDOW)
    await lag.stop(1)


@in_loop
async def test_nothing_is_measured_after_the_stop(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop_lag, "INTERVAL_S", 0)
    counters = Counters()
    lag = LoopLag(counters)
    await lag.start()
    await lag.stop(1)
    time.sleep(0.01)  # noqa: ASYNC251
    for _ in range(10):
        await asyncio.sleep(0)
    assert counters.event_loop_lag_ms == 0
