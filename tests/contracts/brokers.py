"""The subjects of the contract suites of a broker: each adapter, and how its time passes.

An adapter that is added here may return awaitables, and may take real time for ``elapse``: suites
await whatever is awaitable, and ask for times of whole seconds.
"""

import asyncio
import time
from collections import defaultdict, deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from typing import Generic, TypeVar

import msgspec

from catenary.adapters.memory.history import LocalHistory
from catenary.adapters.memory.presence import LocalPresence
from catenary.adapters.memory.sessions import LocalSessions
from catenary.adapters.nats.payload import unpack
from catenary.adapters.nats.wire import value_of
from catenary.broker.stream_rules import StreamRules
from catenary.messages.names import Stream
from catenary.messages.publications import Position, Publication
from catenary.ports import History, Presence, SessionCache
from tests.parts.nats_node import jetstream_server, nats_node
from tests.parts.redis import redis_server
from tests.parts.redis_cluster import shared_redis_cluster
from tests.parts.redis_node import LIMITS, RedisNode, redis_node

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


@dataclass(frozen=True)
class Kept(Subject[History]):
    """A history, and the write that its pub/sub makes: it returns the publication with its position."""

    append: Callable[[Publication], Publication | Awaitable[Publication]]


@asynccontextmanager
async def local_history(
    limit: int, ttl_s: int, rules: StreamRules | None = None
) -> AsyncIterator[Kept]:
    clock = Clock()
    history = LocalHistory(limit=limit, ttl_s=ttl_s, epoch="2vRx", clock=clock, rules=rules)

    async def elapse(seconds: float) -> None:
        await clock.elapse(seconds)
        history.sweep()

    yield Kept(history, elapse, clock, history.append)


@asynccontextmanager
async def local_sessions(ttl_s: int) -> AsyncIterator[Subject[SessionCache]]:
    clock = Clock()
    yield Subject(LocalSessions(ttl_s=ttl_s, clock=clock), clock.elapse, clock)


@asynccontextmanager
async def local_presence(ttl_s: int) -> AsyncIterator[Subject[Presence]]:
    clock = Clock()
    yield Subject(LocalPresence(ttl_s=ttl_s, clock=clock), clock.elapse, clock)


@asynccontextmanager
async def redis_history(
    limit: int, ttl_s: int, rules: StreamRules | None = None
) -> AsyncIterator[Kept]:
    limits = msgspec.structs.replace(LIMITS, history_limit=limit, history_ttl_s=ttl_s)
    with redis_server() as server:
        async with redis_node(server, limits, rules=rules) as node:
            yield _kept(node)


def _kept(node: RedisNode) -> Kept:
    def append(publication: Publication) -> Publication | Awaitable[Publication]:
        if publication.transient:
            return publication
        channel = node.engine.names.channels.of(publication.stream)
        return _positioned(publication, node.engine.appender.append(publication, channel))

    return Kept(node.history, asyncio.sleep, time.time, append)


async def _positioned(publication: Publication, position: Awaitable[bytes]) -> Publication:
    epoch, offset = (await position).decode().split()
    return msgspec.structs.replace(publication, position=Position(epoch, int(offset)))


@asynccontextmanager
async def redis_sessions(ttl_s: int) -> AsyncIterator[Subject[SessionCache]]:
    limits = msgspec.structs.replace(LIMITS, sessions_ttl_s=ttl_s)
    with redis_server() as server:
        async with redis_node(server, limits) as node:
            elapse = deadlines_of(node, "test:sessions:deadlines")
            yield Subject(node.sessions, elapse, time.time)


@asynccontextmanager
async def redis_presence(ttl_s: int) -> AsyncIterator[Subject[Presence]]:
    limits = msgspec.structs.replace(LIMITS, presence_ttl_s=ttl_s)
    with redis_server() as server:
        async with redis_node(server, limits) as node:
            elapse = deadlines_of(node, "test:presence:deadlines")
            yield Subject(node.presence, elapse, time.time)


def deadlines_of(node: RedisNode, key: str) -> Callable[[float], Awaitable[None]]:
    """Lets time pass for tests: all deadlines come nearer, and so does the end of
    the pause after connecting. Tests of the adapter itself take real time."""

    async def elapse(seconds: float) -> None:
        commands = node.engine.commands
        commands.up_since_s -= seconds
        for sid in await commands.call("ZRANGE", key, 0, -1):
            await commands.call("ZINCRBY", key, int(-1000 * seconds), sid)

    return elapse


@asynccontextmanager
async def cluster_history(
    limit: int, ttl_s: int, rules: StreamRules | None = None
) -> AsyncIterator[Kept]:
    limits = msgspec.structs.replace(LIMITS, history_limit=limit, history_ttl_s=ttl_s)
    async with redis_node(shared_redis_cluster(), limits, rules=rules) as node:
        yield _kept(node)


@asynccontextmanager
async def cluster_sessions(ttl_s: int) -> AsyncIterator[Subject[SessionCache]]:
    limits = msgspec.structs.replace(LIMITS, sessions_ttl_s=ttl_s)
    async with redis_node(shared_redis_cluster(), limits) as node:
        elapse = deadlines_of(node, "test:{:between}:sessions:deadlines")
        yield Subject(node.sessions, elapse, time.time)


@asynccontextmanager
async def cluster_presence(ttl_s: int) -> AsyncIterator[Subject[Presence]]:
    limits = msgspec.structs.replace(LIMITS, presence_ttl_s=ttl_s)
    async with redis_node(shared_redis_cluster(), limits) as node:
        elapse = deadlines_of(node, "test:{:between}:presence:deadlines")
        yield Subject(node.presence, elapse, time.time)


@asynccontextmanager
async def nats_history(
    limit: int, ttl_s: int, rules: StreamRules | None = None
) -> AsyncIterator[Kept]:
    limits = msgspec.structs.replace(LIMITS, history_limit=limit, history_ttl_s=ttl_s)
    positioned: dict[Stream, deque[asyncio.Future[Publication]]] = defaultdict(deque)

    with jetstream_server() as server:
        async with nats_node(server, limits, rules=rules) as node:

            def hear(subject: bytes, headers: bytes, payload: bytes) -> None:
                """Receives all publications, as every node may."""
                epoch = node.engine.subjects.epoch_of(subject) or ""
                offset = int(value_of(headers, b"Nats-Sequence") or 0)
                publication = unpack(payload, Position(epoch, offset))
                positioned[publication.stream].popleft().set_result(publication)

            def append(publication: Publication) -> Publication | Awaitable[Publication]:
                if publication.transient:
                    return publication
                future: asyncio.Future[Publication] = asyncio.get_running_loop().create_future()
                positioned[publication.stream].append(future)
                node.pubsub.send((publication,))
                return future

            node.engine.connection.subscribe(node.engine.subjects.published + ">", hear)
            yield Kept(node.history, asyncio.sleep, time.time, append)


@asynccontextmanager
async def nats_sessions(ttl_s: int) -> AsyncIterator[Subject[SessionCache]]:
    clock = Clock()
    limits = msgspec.structs.replace(LIMITS, sessions_ttl_s=ttl_s)
    with jetstream_server() as server:
        async with nats_node(server, limits, clock=clock) as node:
            yield Subject(node.sessions, clock.elapse, clock)


@asynccontextmanager
async def nats_presence(ttl_s: int) -> AsyncIterator[Subject[Presence]]:
    clock = Clock()
    limits = msgspec.structs.replace(LIMITS, presence_ttl_s=ttl_s)
    with jetstream_server() as server:
        async with nats_node(server, limits, clock=clock) as node:
            yield Subject(node.presence, clock.elapse, clock)


HISTORIES: dict[str, Callable[..., AbstractAsyncContextManager[Kept]]] = {
    "memory": local_history,
    "redis": redis_history,
    "redis cluster": cluster_history,
    "nats": nats_history,
}
SESSION_CACHES: dict[str, Callable[[int], AbstractAsyncContextManager[Subject[SessionCache]]]] = {
    "memory": local_sessions,
    "redis": redis_sessions,
    "redis cluster": cluster_sessions,
    "nats": nats_sessions,
}
PRESENCES: dict[str, Callable[[int], AbstractAsyncContextManager[Subject[Presence]]]] = {
    "memory": local_presence,
    "redis": redis_presence,
    "redis cluster": cluster_presence,
    "nats": nats_presence,
}
