"""Services: whatever ends one is logged, shown by the supervisor, and followed by another run."""

import asyncio
import logging
import sys
from collections.abc import Awaitable, Callable

import pytest

from catenary.metrics.counters import Counters
from catenary.supervision import service
from catenary.supervision.service import Service, Supervisor, until_first_ends
from tests.parts.heart import settle
from tests.parts.virtual_time import in_virtual_time

Failing = Callable[[], Awaitable[None]]


async def raises_type_error() -> None:
    raise TypeError("no such argument: name")


async def raises_system_exit() -> None:
    sys.exit(0)


async def is_cancelled_by_what_it_waits_for() -> None:
    waited: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    asyncio.get_running_loop().call_soon(waited.cancel)
    await waited


async def cancels_itself() -> None:
    task = asyncio.current_task()
    assert task is not None
    task.cancel()
    await asyncio.sleep(0)


async def returns() -> None:
    pass


async def raises_a_base_exception() -> None:
    raise BaseException("odd")  # noqa: TRY002


class Flaky:
    """Fails once in the given way, then runs until it is cancelled."""

    def __init__(self, failing: Failing) -> None:
        self._failing = failing
        self.runs = 0
        self.is_back = asyncio.Event()

    async def __call__(self) -> None:
        self.runs += 1
        if self.runs == 1:
            await self._failing()
            return
        self.is_back.set()
        await asyncio.Event().wait()


@pytest.mark.parametrize(
    ("failing", "word"),
    [
        (raises_type_error, "TypeError"),
        (raises_system_exit, "SystemExit"),
        (is_cancelled_by_what_it_waits_for, "CancelledError"),
        (cancels_itself, "CancelledError"),
        (raises_a_base_exception, "BaseException"),
        (returns, "it returned"),
    ],
)
@in_virtual_time
async def test_whatever_ends_a_service_it_is_told_and_run_again(
    failing: Failing, word: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "STEADY_S", 0.05)
    counters = Counters()
    supervisor = Supervisor(counters)
    flaky = Flaky(failing)
    listening = Service("listening", flaky, supervisor)
    listening.start()
    assert supervisor.trouble is None
    await settle()
    assert supervisor.trouble == f"listening has failed ({word})"
    assert counters.service_failures_total == 1
    (record,) = caplog.records
    assert record.levelno == logging.ERROR
    assert word in record.message
    if failing is not returns:
        assert record.exc_info is not None
        assert record.exc_info[2] is not None, "the traceback says where"
    await flaky.is_back.wait()
    async with asyncio.timeout(5):
        while supervisor.trouble is not None:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    await listening.stop()
    assert flaky.runs == 2
    assert counters.service_failures_total == 1


@in_virtual_time
async def test_a_task_that_is_cancelled_before_it_begins_is_run_again() -> None:
    flaky = Flaky(raises_type_error)
    flaky.runs = 1
    supervisor = Supervisor()
    listening = Service("listening", flaky, supervisor)
    listening.start()
    for task in asyncio.all_tasks():
        if task.get_name() == "listening":
            task.cancel()
    await settle()
    assert supervisor.trouble == "listening has failed (CancelledError)"
    await flaky.is_back.wait()
    await listening.stop()


@in_virtual_time
async def test_a_stopped_service_is_not_told_nor_run_again(
    caplog: pytest.LogCaptureFixture,
) -> None:
    flaky = Flaky(returns)
    flaky.runs = 1
    supervisor = Supervisor()
    listening = Service("listening", flaky, supervisor)
    await listening.stop()
    listening.start()
    assert listening in supervisor.services
    await flaky.is_back.wait()
    await listening.stop()
    assert not supervisor.services
    await settle()
    assert not caplog.records
    assert flaky.runs == 2


@in_virtual_time
async def test_a_failed_service_that_is_stopped_is_not_run_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("catenary.supervision.backoff.delay_s", lambda *_: 0)
    flaky = Flaky(raises_type_error)
    supervisor = Supervisor()
    listening = Service("listening", flaky, supervisor)
    listening.start()
    await settle()
    assert supervisor.trouble is not None
    await listening.stop()
    assert supervisor.trouble is None
    runs = flaky.runs
    await settle()
    assert flaky.runs == runs


@in_virtual_time
async def test_a_service_may_end_by_itself_while_it_is_being_stopped(
    caplog: pytest.LogCaptureFixture,
) -> None:
    closing = asyncio.Event()
    done: list[str] = []

    async def work() -> None:
        await closing.wait()
        await asyncio.sleep(0.01)
        done.append("finished")

    listening = Service("listening", work, Supervisor())
    listening.start()
    await settle()
    closing.set()
    await listening.stop(5)
    assert done == ["finished"]
    assert not caplog.records


@in_virtual_time
async def test_a_service_that_swallows_its_cancellation_is_cancelled_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(service, "_CANCEL_AGAIN_S", 0.01)
    swallowed = 0

    async def work() -> None:
        nonlocal swallowed
        while swallowed < 3:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                swallowed += 1

    stubborn = Service("stubborn", work, Supervisor())
    stubborn.start()
    await settle()
    await stubborn.stop()
    assert swallowed == 3


@in_virtual_time
async def test_services_may_end_when_the_server_does(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("catenary.supervision.backoff.delay_s", lambda *_: 0)
    supervisor = Supervisor()
    flaky = Flaky(raises_type_error)
    Service("listening", flaky, supervisor).start()
    supervisor.close()
    await settle()
    assert flaky.runs == 1
    assert not caplog.records


@in_virtual_time
async def test_one_failure_of_several_is_logged(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("catenary.supervision.backoff.delay_s", lambda *_: 0.001)
    runs = 0

    async def work() -> None:
        nonlocal runs
        runs += 1
        raise TypeError

    failing = Service("failing", work, Supervisor())
    failing.start()
    async with asyncio.timeout(5):
        while runs < 20:  # noqa: ASYNC110
            await asyncio.sleep(0.001)
    await failing.stop()
    assert [record.args[2] for record in caplog.records if isinstance(record.args, tuple)] == [
        1,
        8,
        16,
    ]


@in_virtual_time
async def test_a_run_finds_a_fresh_task(monkeypatch: pytest.MonkeyPatch) -> None:
    """On Python 3.11.2 the state of a task after a failed TaskGroup turns the next timeout into a cancellation."""
    monkeypatch.setattr("catenary.supervision.backoff.delay_s", lambda *_: 0.001)
    timed_out = asyncio.Event()
    runs = 0

    async def fails() -> None:
        await asyncio.sleep(0)
        raise ValueError

    async def work() -> None:
        nonlocal runs
        runs += 1
        try:
            async with asyncio.timeout(0.001):
                await asyncio.Event().wait()
        except TimeoutError:
            if runs > 3:
                timed_out.set()
        async with asyncio.TaskGroup() as group:
            group.create_task(fails())

    running = Service("running", work, Supervisor())
    running.start()
    await timed_out.wait()
    await running.stop()


# Side by side


@in_virtual_time
async def test_the_first_to_end_ends_the_others_and_a_timeout_stays_a_timeout() -> None:
    cancelled: list[str] = []

    async def stays() -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.append("stays")
            raise

    async def fails() -> None:
        await asyncio.sleep(0)
        raise ValueError("over")

    for _ in range(3):
        with pytest.raises(ValueError, match="over"):
            await until_first_ends(stays(), fails())
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.001):
                await asyncio.Event().wait()
    assert cancelled == ["stays"] * 3
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0


@in_virtual_time
async def test_who_is_cancelled_takes_all_of_them_along() -> None:
    ended: list[int] = []

    async def stays(number: int) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(number)

    both = asyncio.get_running_loop().create_task(until_first_ends(stays(1), stays(2)))
    await settle()
    both.cancel()
    with pytest.raises(asyncio.CancelledError):
        await both
    assert ended == [1, 2]


@in_virtual_time
async def test_returning_ends_them_too() -> None:
    await until_first_ends(asyncio.sleep(0), asyncio.sleep(60))
    assert asyncio.get_running_loop().time() == 0
