"""The phases of a shutdown: order, time limits, faults. From outside: tests/server/test_shutdown_phases.py."""

import asyncio
import logging
from collections.abc import Awaitable, Callable

import pytest

from catenary.process import shutdown
from catenary.process.shutdown import Phase, Shutdown
from tests.parts.heart import in_loop

FIRST, SECOND, THIRD = PHASES = (
    Phase("close the doors", 0.5),
    Phase("count the money", 0.5),
    Phase("switch off", 1),
)


class Parts:
    """Parts of a server that note when they are closed."""

    def __init__(self) -> None:
        self.shutdown = Shutdown(PHASES)
        self.closed: list[str] = []
        self.limits_s: dict[str, float] = {}

    def add(
        self, phase: Phase, name: str, close: Callable[[], Awaitable[object]] | None = None
    ) -> None:
        async def noting(limit_s: float) -> None:
            self.limits_s[name] = limit_s
            if close is not None:
                await close()
            self.closed.append(name)

        self.shutdown.add(phase, noting)


def messages(caplog: pytest.LogCaptureFixture, level: int) -> list[str]:
    return [each.getMessage() for each in caplog.records if each.levelno == level]


@in_loop
async def test_phases_run_in_their_order_whatever_was_added_first(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG, "catenary.server")
    parts = Parts()
    for phase, name in ((THIRD, "c"), (FIRST, "a"), (FIRST, "b")):
        parts.add(phase, name)
    await parts.shutdown.run(10)
    assert parts.closed == ["a", "b", "c"]
    first, second = messages(caplog, logging.DEBUG)
    assert first.startswith("Shutdown phase ended: close the doors (0.0")
    assert second.startswith("Shutdown phase ended: switch off (0.0")


@in_loop
async def test_each_phase_has_its_share_of_the_time_that_is_left() -> None:
    parts = Parts()
    for phase, name in zip(PHASES, "abc", strict=True):
        parts.add(phase, name)
    await parts.shutdown.run(100)
    assert parts.limits_s == pytest.approx({"a": 50, "b": 50, "c": 100}, abs=0.5)


@in_loop
async def test_a_phase_has_some_time_where_none_is_left() -> None:
    parts = Parts()
    parts.add(FIRST, "a")
    await parts.shutdown.run(-5)
    assert parts.limits_s == {"a": shutdown.MIN_PHASE_S}


@in_loop
async def test_the_parts_of_one_phase_do_not_wait_for_each_other() -> None:
    parts = Parts()
    other_has_begun = asyncio.Event()

    async def begin() -> None:
        other_has_begun.set()

    parts.add(FIRST, "waits", other_has_begun.wait)
    parts.add(FIRST, "begins", begin)
    await parts.shutdown.run(10)
    assert parts.closed == ["begins", "waits"]


async def hang() -> None:
    await asyncio.Event().wait()


async def fail() -> None:
    raise OSError("no way")


async def leave() -> None:
    raise SystemExit(3)


async def cancel_itself() -> None:
    raise asyncio.CancelledError


@pytest.mark.parametrize(
    ("fault", "line"),
    [
        (hang, "Shutdown phase abandoned after 0.2 s: close the doors"),
        (fail, "Shutdown phase failed: close the doors"),
        (leave, "Shutdown phase failed: close the doors"),
        (cancel_itself, "Shutdown phase failed: close the doors (CancelledError)"),
    ],
)
@in_loop
async def test_a_fault_in_one_phase_keeps_nothing_else_from_ending(
    fault: Callable[[], Awaitable[object]],
    line: str,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(shutdown, "GRACE_S", 0.05)
    parts = Parts()
    parts.add(FIRST, "faulty", fault)
    parts.add(FIRST, "beside")
    parts.add(SECOND, "later")
    await parts.shutdown.run(0.3)
    assert parts.closed == ["beside", "later"]
    assert messages(caplog, logging.ERROR) == [line]


@in_loop
async def test_cancelling_the_shutdown_cancels_what_it_waits_for() -> None:
    parts = Parts()
    began, ended = asyncio.Event(), asyncio.Event()

    async def close(limit_s: float) -> None:
        began.set()
        try:
            await hang()
        finally:
            ended.set()

    parts.shutdown.add(FIRST, close)
    running = asyncio.create_task(parts.shutdown.run(60))
    await began.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    await ended.wait()
