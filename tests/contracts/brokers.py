"""What the contract suites of a broker run over: each adapter, and how its time goes by.

An adapter that is added here may return awaitables, and may take real time for ``elapse``: suites
await whatever is awaitable, and ask for times of whole seconds.
"""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from catenary.adapters.memory.history import LocalHistory
from catenary.adapters.memory.presence import LocalPresence
from catenary.adapters.memory.sessions import LocalSessions
from catenary.ports import History, Presence, SessionCache

T = TypeVar("T")

LATE_S = 1
"""How late an adapter may notice that a time is over."""


async def answer(value: T | Awaitable[T]) -> T:
    """The value, at once or awaited."""
    if isinstance(value, Awaitable):
        return await value
    return value


@dataclass
class Clock:
    """Seconds that go by when a test says so."""

    now: float = field(default=1_700_000_000.25)

    def __call__(self) -> float:
        return self.now

    async def elapse(self, seconds: float) -> None:
        self.now += seconds


@dataclass(frozen=True)
class Subject(Generic[T]):
    """A built adapter; ``elapse`` lets seconds go by, and ``now_s`` is its clock."""

    port: T
    elapse: Callable[[float], Awaitable[None]]
    now_s: Callable[[], float]


@asynccontextmanager
async def local_history(limit: int, ttl_s: int) -> AsyncIterator[Subject[History]]:
    clock = Clock()
    history = LocalHistory(limit=limit, ttl_s=ttl_s, epoch="2vRx", clock=clock)

    async def elapse(seconds: float) -> None:
        await clock.elapse(seconds)
        history.sweep()

    yield Subject(history, elapse, clock)


@asynccontextmanager
async def local_sessions(ttl_s: int) -> AsyncIterator[Subject[SessionCache]]:
    clock = Clock()
    yield Subject(LocalSessions(ttl_s=ttl_s, clock=clock), clock.elapse, clock)


@asynccontextmanager
async def local_presence(ttl_s: int) -> AsyncIterator[Subject[Presence]]:
    clock = Clock()
    yield Subject(LocalPresence(ttl_s=ttl_s, clock=clock), clock.elapse, clock)


HISTORIES: dict[str, Callable[[int, int], AbstractAsyncContextManager[Subject[History]]]] = {
    "memory": local_history,
}
SESSION_CACHES: dict[str, Callable[[int], AbstractAsyncContextManager[Subject[SessionCache]]]] = {
    "memory": local_sessions,
}
PRESENCES: dict[str, Callable[[int], AbstractAsyncContextManager[Subject[Presence]]]] = {
    "memory": local_presence,
}
