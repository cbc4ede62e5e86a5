"""Where methods run: in the event loop or in threads, inside ``around``, and for how long."""

import asyncio
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import ClassVar

import pytest

from catenary import Cable, Channel, action, rescue_from
from catenary.channels.testing import TestCable
from catenary.messages.names import Identifier
from tests.channels.direct_calls import (
    PACE,
    Pace,
    decided,
    environment,
    renew_pace,
)
from tests.parts.heart import in_loop


@in_loop
async def test_plain_methods_run_in_parallel_and_block_no_other_call() -> None:
    cable = Cable(channels=[Pace], threads=2)
    slow = [
        asyncio.ensure_future(
            decided(
                cable.application.perform(environment(f"s{number}"), PACE, '{"action":"blocking"}')
            )
        )
        for number in range(3)
    ]
    await asyncio.sleep(0)
    quick = await decided(cable.application.perform(environment(), PACE, '{"action":"later"}'))
    assert quick.replies
    assert not any(each.done() for each in slow)
    Pace.gate.set()
    await asyncio.gather(*slow)
    assert Pace.done == ["blocked"] * 3
    await cable.stop(1)


@in_loop
async def test_a_call_that_is_cancelled_while_it_waits_for_a_thread_never_runs() -> None:
    cable = Cable(channels=[Pace], threads=1)
    first, second = (
        asyncio.ensure_future(
            decided(cable.application.perform(environment(sid), PACE, '{"action":"blocking"}'))
        )
        for sid in ("a", "b")
    )
    await asyncio.sleep(0)
    second.cancel()
    await asyncio.wait([second])
    Pace.gate.set()
    await first
    assert Pace.done == ["blocked"]
    await cable.stop(1)


@pytest.fixture(autouse=True)
def _fresh() -> None:
    renew_pace()


_user: ContextVar[str] = ContextVar("user", default="none")


@in_loop
async def test_context_variables_reach_the_threads() -> None:
    class Asking(Channel):
        @action
        def tell(self) -> None:
            self.transmit(_user.get())

    served = TestCable(Cable(channels=[Asking]))
    asking = await (await served.connect()).subscribe(Asking)
    _user.set("jack")
    await asking.perform("tell")
    asking.assert_transmitted("jack")
    served.close()


class Surrounded(Channel):
    steps: ClassVar[list[tuple[str, bool]]] = []

    @classmethod
    @contextmanager
    def around(cls) -> Iterator[None]:
        cls.note("in")
        try:
            yield
        finally:
            cls.note("out")

    @classmethod
    def note(cls, step: str) -> None:
        cls.steps.append((step, threading.current_thread() is threading.main_thread()))

    @action
    def plain(self) -> None:
        self.note("plain")

    @action
    async def waiting(self) -> None:
        await asyncio.sleep(0)
        self.note("waiting")

    @action
    async def at_once(self) -> None:
        self.note("at once")

    @action
    async def failing(self) -> None:
        await asyncio.sleep(0)
        raise LookupError

    @rescue_from(LookupError)
    def rescued(self, error: LookupError) -> None:
        self.note("rescued")


@in_loop
async def test_around_is_entered_where_the_method_runs() -> None:
    cable = Cable(channels=[Surrounded], around=Surrounded.around)
    for name, expected in {
        "plain": [("in", False), ("plain", False), ("out", False)],
        "waiting": [("in", True), ("waiting", True), ("out", True)],
        "at_once": [("in", True), ("at once", True), ("out", True)],
        "failing": [
            ("in", True),
            ("out", True),
            ("in", False),
            ("rescued", False),
            ("out", False),
        ],
    }.items():
        data = json.dumps({"action": name})
        await decided(
            cable.application.perform(environment(), Identifier('{"channel":"Surrounded"}'), data)
        )
        assert Surrounded.steps == expected
        Surrounded.steps.clear()
    cable.application.release()


@pytest.mark.parametrize("wait", [False, True])
def test_a_method_that_blocks_the_loop_is_named_in_the_log(
    wait: bool, caplog: pytest.LogCaptureFixture
) -> None:
    @in_loop
    async def scenario() -> None:
        cable = Cable(channels=[Pace], slow_ms=20)
        data = json.dumps({"action": "hold_the_loop", "wait": wait})
        await decided(cable.application.perform(environment(), PACE, data))
        await decided(cable.application.perform(environment(), PACE, '{"action":"later"}'))
        assert cable.application.slow_total == 1

    scenario()
    assert "Pace.hold_the_loop blocked the event loop for" in caplog.text
