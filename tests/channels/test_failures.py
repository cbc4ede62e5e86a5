"""Exceptions of the application: logged, reported to ``on_error``, and limited to one call."""

import asyncio
import logging
import sys

import pytest

from catenary import Cable, Channel, action
from catenary.channels.testing import TestCable
from catenary.logs.fields import fields_of
from catenary.messages.decisions import Verdict
from catenary.messages.names import Identifier
from tests.channels.direct_calls import (
    answered,
    decided,
    environment,
)
from tests.channels.room import Room
from tests.parts.heart import in_loop


@in_loop
async def test_an_exception_in_an_action_fails_this_call_only(
    cable: TestCable,
) -> None:
    room = await (await cable.connect(user_id=1)).subscribe(Room, id=1)
    with pytest.raises(ZeroDivisionError):
        await room.perform("break_down")
    await room.perform("tell")
    assert room.messages == [{"hello": "news 1"}, [False, [], 0, 1]]


def test_a_failure_is_logged_with_sid_name_and_traceback(
    cable: TestCable, caplog: pytest.LogCaptureFixture
) -> None:
    @in_loop
    async def scenario() -> None:
        room = await (await cable.connect(user_id=1)).subscribe(Room, id=1)
        with pytest.raises(ZeroDivisionError):
            await room.perform("break_down")

    scenario()
    (record,) = [each for each in caplog.records if each.levelno == logging.ERROR]
    assert record.getMessage() == "Room.break_down failed"
    assert fields_of(record)["sid"] == "sid-1"
    assert record.exc_info is not None
    assert "on purpose" in caplog.text
    assert cable.cable.application.failed_total == 1


def test_a_cancelled_future_fails_the_call_that_awaits_it(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Awaiting(Channel):
        @action
        async def wait(self) -> None:
            future = asyncio.get_running_loop().create_future()
            future.cancel()
            await future

    @in_loop
    async def scenario() -> None:
        cable = Cable(channels=[Awaiting])
        identifier = Identifier('{"channel":"Awaiting"}')
        decision = await decided(
            cable.application.perform(environment(), identifier, '{"action":"wait"}')
        )
        assert decision.verdict is Verdict.ERROR

    scenario()
    assert "Awaiting.wait failed" in caplog.text


@pytest.mark.parametrize("how", ["at_once", "later", "in_a_thread"])
def test_sys_exit_ends_its_call_and_not_the_server(
    how: str, caplog: pytest.LogCaptureFixture
) -> None:
    class Leaving(Channel):
        @action
        async def at_once(self) -> None:
            sys.exit(3)

        @action
        async def later(self) -> None:
            await asyncio.sleep(0)
            sys.exit(3)

        @action
        def in_a_thread(self) -> None:
            sys.exit(3)

    @in_loop
    async def scenario() -> None:
        cable = Cable(channels=[Leaving])
        identifier = Identifier('{"channel":"Leaving"}')
        command = f'{{"action":"{how}"}}'
        decision = await decided(cable.application.perform(environment(), identifier, command))
        assert decision.verdict is Verdict.ERROR

    scenario()
    assert f"Leaving.{how} failed" in caplog.text
    assert "sys.exit(3)\n" in caplog.text, "the traceback names the line"


def test_a_function_in_on_error_may_fail(caplog: pytest.LogCaptureFixture) -> None:
    class Failing(Channel):
        @action
        async def fail(self) -> None:
            raise LookupError("on purpose")

    def report(sid: str, name: str, error: Exception) -> None:
        reported.append((sid, name, str(error)))
        raise OSError("no network")

    reported: list[tuple[str, str, str]] = []
    cable = Cable(channels=[Failing])
    cable.on_error.append(report)
    identifier = Identifier('{"channel":"Failing"}')
    asyncio.run(
        answered(lambda: cable.application.perform(environment(), identifier, '{"action":"fail"}'))
    )
    assert reported == [("s1", "Failing.fail", "on purpose")]
    assert "A function in Cable.on_error failed" in caplog.text
    assert "on purpose" in caplog.text
