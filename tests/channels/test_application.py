"""When a cable decides a call: at once or later; what happens when its client leaves meanwhile."""

import asyncio
import sys
import threading
from typing import ClassVar

import pytest

from catenary import Cable, Channel, action, callback
from catenary.errors import BackendError
from catenary.messages.decisions import Decision, Verdict
from catenary.messages.names import Identifier
from tests.channels.direct_calls import (
    PACE,
    Pace,
    RecordingPublisher,
    cancelled,
    decided,
    environment,
)
from tests.parts.heart import in_loop


@in_loop
async def test_a_call_without_code_of_the_application_is_decided_at_once() -> None:
    cable = Cable(channels=[Pace])
    assert isinstance(cable.application.connect(environment()), Decision)
    assert isinstance(cable.application.subscribe(environment(), PACE), Decision)
    assert isinstance(cable.application.unsubscribe(environment(), PACE), Decision)


@in_loop
async def test_a_method_that_does_not_wait_is_decided_at_once_since_python_3_12() -> None:
    cable = Cable(channels=[Pace])
    answer = cable.application.perform(environment(), PACE, '{"action":"at_once"}')
    assert isinstance(answer, Decision) == (sys.version_info >= (3, 12))
    assert (await decided(answer)).replies


@in_loop
async def test_a_method_that_waits_has_a_task_so_that_timeouts_work() -> None:
    cable = Cable(channels=[Pace])
    answer = cable.application.perform(environment(), PACE, '{"action":"later"}')
    assert not isinstance(answer, Decision)
    assert (await answer).replies


@in_loop
async def test_an_answer_waits_for_publications_that_are_not_accepted_yet() -> None:
    cable, recorder = Cable(channels=[Pace]), RecordingPublisher()
    await cable.application.start(recorder)
    await decided(cable.application.perform(environment(), PACE, '{"action":"publish"}'))
    recorder.gate = asyncio.Event()
    answer = cable.application.perform(environment(), PACE, '{"action":"publish"}')
    assert not isinstance(answer, Decision)
    task = asyncio.ensure_future(answer)
    await asyncio.sleep(0)
    assert not task.done()
    recorder.gate.set()
    assert (await task).verdict is Verdict.SUCCESS
    await cable.stop(1)


def test_a_publication_that_is_not_accepted_is_logged_unless_it_is_awaited(
    caplog: pytest.LogCaptureFixture,
) -> None:
    @in_loop
    async def scenario() -> None:
        cable, recorder = Cable(channels=[Pace]), RecordingPublisher()
        await cable.application.start(recorder)
        recorder.error = BackendError("away")
        decision = await decided(
            cable.application.perform(environment(), PACE, '{"action":"publish"}')
        )
        assert decision.verdict is Verdict.SUCCESS
        assert caplog.messages == ["A publication was not accepted: away"]
        cable.broadcast("chat", "x")
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert caplog.messages == ["A publication was not accepted: away"] * 2
        with pytest.raises(BackendError):
            await cable.broadcast("chat", "this call raises")
        await cable.stop(1)

    scenario()
    assert len(caplog.messages) == 2


class Pair(Channel):
    """``subscribed`` and ``unsubscribed`` belong together."""

    counted: ClassVar[list[str]] = []
    gate: ClassVar[asyncio.Event]
    door: ClassVar[threading.Event]

    def subscribed(self) -> None:
        self.door.wait(5)
        self.counted.append("+")

    async def unsubscribed(self) -> None:
        await self.gate.wait()
        self.counted.append("-")


PAIR = Identifier('{"channel":"Pair"}')


@pytest.fixture
def pair() -> Cable:
    Pair.counted.clear()
    Pair.door = threading.Event()
    return Cable(channels=[Pair])


def test_a_client_that_leaves_during_subscribe_is_unsubscribed_at_once(pair: Cable) -> None:
    @in_loop
    async def scenario() -> None:
        Pair.gate = asyncio.Event()
        Pair.gate.set()
        task = await cancelled(pair.application.subscribe(environment(), PAIR))
        Pair.door.set()
        await asyncio.wait([task])
        await pair.application.disconnect(environment(), ())
        await pair.stop(5)
        assert Pair.counted == ["+", "-"]

    scenario()


def test_a_client_that_leaves_during_unsubscribe_is_unsubscribed_once(pair: Cable) -> None:
    @in_loop
    async def scenario() -> None:
        Pair.gate = asyncio.Event()
        Pair.door.set()
        await decided(pair.application.subscribe(environment(), PAIR))
        task = await cancelled(pair.application.unsubscribe(environment(), PAIR))
        await asyncio.wait([task])
        # The node did not get the answer: for it, the subscription lived until the end of the session.
        Pair.gate.set()
        await pair.application.disconnect(environment(), (PAIR,))
        await pair.stop(5)
        assert Pair.counted == ["+", "-"]

    scenario()


@pytest.mark.parametrize(("later_s", "times"), [(1, 1), (10, 2)])
def test_behind_rpc_an_end_long_after_another_one_is_a_new_one(later_s: int, times: int) -> None:
    @in_loop
    async def scenario() -> None:
        now = [100.0]
        Pair.counted.clear()
        Pair.gate = asyncio.Event()
        Pair.gate.set()
        cable = Cable(channels=[Pair], clock=lambda: now[0])
        await decided(cable.application.unsubscribe(environment(), PAIR))
        # Meanwhile the client may have subscribed again, in another process.
        now[0] += later_s
        await cable.application.disconnect(environment(), (PAIR,))
        assert Pair.counted == ["-"] * times

    scenario()


@in_loop
async def test_a_client_that_leaves_cancels_its_method() -> None:
    class Patient(Channel):
        @action
        async def wait(self) -> None:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                noted.append("cancelled")
                raise

        @callback.before_subscribe
        async def check(self) -> None: ...

    noted: list[str] = []
    cable = Cable(channels=[Patient])
    identifier = Identifier('{"channel":"Patient"}')
    task = await cancelled(
        cable.application.perform(environment(), identifier, '{"action":"wait"}')
    )
    await asyncio.wait([task])
    assert (task.cancelled(), noted) == (True, ["cancelled"])
