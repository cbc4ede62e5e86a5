"""Calls of a cable's application without a server, and a channel whose methods differ in how they run."""

import asyncio
import threading
from collections.abc import Awaitable, Callable
from typing import ClassVar

from catenary import Channel, action
from catenary.messages.decisions import Decision
from catenary.messages.environment import Environment
from catenary.messages.names import Identifier, Sid

PACE = Identifier('{"channel":"Pace"}')


def environment(sid: str = "s1", identifiers: str = "") -> Environment:
    """A client."""
    return Environment(Sid(sid), "", {}, identifiers)


class Pace(Channel):
    """``blocking`` blocks until ``gate`` is set: see :func:`renew_pace`."""

    done: ClassVar[list[str]] = []
    gate: ClassVar[threading.Event] = threading.Event()

    @action
    async def at_once(self) -> None:
        self.transmit("now")

    @action
    async def later(self) -> None:
        async with asyncio.timeout(5):
            await asyncio.sleep(0)
        self.transmit("later")

    @action
    def blocking(self) -> None:
        self.gate.wait(5)
        self.done.append("blocked")

    @action
    async def hold_the_loop(self, *, wait: bool) -> None:
        if wait:
            await asyncio.sleep(0)
        threading.Event().wait(0.03)

    @action
    async def publish(self) -> None:
        self.broadcast_to(1, "x")


def renew_pace() -> None:
    """Forgets what earlier tests did."""
    Pace.done.clear()
    Pace.gate = threading.Event()


async def decided(answer: Decision | Awaitable[Decision]) -> Decision:
    """The decision, now or later."""
    return answer if isinstance(answer, Decision) else await answer


async def answered(ask: Callable[[], Decision | Awaitable[Decision]]) -> Decision:
    """The decision of a call that must be made inside the loop."""
    return await decided(ask())


async def cancelled(answer: Decision | Awaitable[Decision]) -> "asyncio.Task[Decision]":
    """Starts to wait for a decision, and cancels the wait."""
    assert not isinstance(answer, Decision)
    task = asyncio.get_running_loop().create_task(decided(answer))
    for _ in range(3):
        await asyncio.sleep(0)
    task.cancel()
    return task


class RecordingPublisher:
    """Accepts publications: when ``gate`` is set, or not at all with an ``error``."""

    def __init__(self) -> None:
        self.published: list[bytes] = []
        self.threads: set[int] = set()
        self.gate: asyncio.Event | None = None
        self.error: Exception | None = None

    def publish(self, raw: bytes) -> Awaitable[None] | None:
        """Satisfies Publisher."""
        self.published.append(raw)
        self.threads.add(threading.get_ident())
        return None if self.gate is None and self.error is None else self._accept()

    async def _accept(self) -> None:
        if self.gate is not None:
            await self.gate.wait()
        if self.error is not None:
            raise self.error
