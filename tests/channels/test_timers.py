"""Timers of channels run while their subscription lives."""

import asyncio
from contextvars import ContextVar
from typing import ClassVar

from catenary import Cable, Channel, every
from catenary.channels.subscription_key import SubscriptionKey
from catenary.channels.testing import TestCable
from catenary.channels.timers import ChannelTimer
from catenary.messages.names import Identifier, Sid
from tests.channels.direct_calls import RecordingPublisher, decided, environment
from tests.parts.heart import in_loop


class Clock(Channel):
    ticks: int = Channel.state(0)
    ticked: ClassVar[list[str]] = []

    @every(0.01)
    async def tick(self) -> None:
        self.ticks += 1
        self.ticked.append(f"{self.connection.sid} {self.ticks}")


CLOCK = Identifier('{"channel":"Clock"}')


class Sessions:
    """Satisfies Performer like a node: performs the action, and stores the state."""

    def __init__(self, cable: Cable) -> None:
        self.cable = cable
        self.clients = {"a": environment("a"), "b": environment("b")}
        self.ran = asyncio.Event()
        self.runs: set[asyncio.Future[None]] = set()

    def perform(self, sid: Sid, identifier: Identifier, data: str) -> bool:
        if sid not in self.clients:
            return False
        run = asyncio.ensure_future(self._run(sid, identifier, data))
        self.runs.add(run)
        run.add_done_callback(self.runs.discard)
        return True

    async def _run(self, sid: Sid, identifier: Identifier, data: str) -> None:
        decision = await decided(
            self.cable.application.perform(self.clients[sid], identifier, data)
        )
        self.clients[sid].merge_istate(identifier, decision.istate or {})
        self.ran.set()

    async def gone(self) -> None:
        """Waits until the cable runs no timer; nothing reports that."""
        while self.cable.application.timers.running:  # noqa: ASYNC110
            await asyncio.sleep(0.01)

    async def tick(self) -> None:
        self.ran.clear()
        await self.ran.wait()


@in_loop
async def test_timers_run_while_their_subscription_lives() -> None:
    Clock.ticked.clear()
    cable = Cable(channels=[Clock])
    sessions = Sessions(cable)
    await cable.application.start(RecordingPublisher(), sessions)
    for sid in ("a", "b"):
        cable.application.subscribe(sessions.clients[sid], CLOCK)
    while not {"a 2", "b 2"} <= set(Clock.ticked):
        await sessions.tick()
    cable.application.unsubscribe(sessions.clients["b"], CLOCK)
    # A run of b may have begun before.
    await asyncio.gather(*sessions.runs)
    before = [each for each in Clock.ticked if each.startswith("b")]
    for _ in range(3):
        await sessions.tick()
    assert [each for each in Clock.ticked if each.startswith("b")] == before
    del sessions.clients["a"]
    assert cable.application.timers.running == 1
    await sessions.gone()
    await cable.stop(1)


@in_loop
async def test_runs_are_not_in_the_context_of_the_subscription_that_set_the_timer() -> None:
    """A trace, say: all runs would be parts of the command that subscribed."""
    trace = ContextVar("trace", default="")
    seen: asyncio.Queue[str] = asyncio.Queue()

    def fire(_: SubscriptionKey) -> bool:
        seen.put_nowait(trace.get())
        return True

    timer = ChannelTimer(0.001, fire)
    trace.set("of a command")
    key = SubscriptionKey(Sid("a"), CLOCK)
    timer.add(key)
    assert not await seen.get()
    timer.finish_run(key)
    assert not await seen.get()
    timer.stop()


@in_loop
async def test_a_test_runs_a_timer_itself() -> None:
    served = TestCable(Cable(channels=[Clock]))
    clock = await (await served.connect()).subscribe(Clock)
    await clock.tick("tick")
    await clock.tick("tick")
    assert Clock.ticked[-1] == f"{clock.connection.sid} 2"
    served.close()
