"""The parts of a node on Redis: engine, interest, recovery and pub/sub; and the messages that it received."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager

import redis

from catenary.adapters.interest import StreamInterest
from catenary.adapters.redis.cluster_pubsub import ClusterPubSub
from catenary.adapters.redis.engine import RedisEngine
from catenary.adapters.redis.history import RedisHistory
from catenary.adapters.redis.names import RedisNames
from catenary.adapters.redis.presence import RedisPresence
from catenary.adapters.redis.pubsub import RedisPubSub
from catenary.adapters.redis.sessions import RedisSessions
from catenary.adapters.stream_recovery import StreamRecovery
from catenary.broker.limits import Limits
from catenary.broker.stream_rules import StreamRules
from catenary.config.addresses import RedisAddress
from catenary.messages.names import Stream
from catenary.messages.publications import Publication, Publishable
from catenary.metrics.counters import Counters
from catenary.supervision.service import Supervisor
from tests.parts.ports import HasUrl

LIMITS = Limits(history_limit=100, history_ttl_s=60, sessions_ttl_s=60, presence_ttl_s=60)

NAMES = RedisNames("test", "between")


def expiring_keys(server: HasUrl) -> dict[str, int]:
    """Returns the remaining time to live in ms of each key that nodes have stored. ``reign`` has none, and is left out: a primary
    that lost it would not notice that another one was primary meanwhile."""
    with redis.Redis.from_url(server.url) as connection:
        found = {key.decode(): connection.pttl(key) for key in connection.scan_iter()}
    assert found.pop("test:reign", -1) == -1
    return found


async def until(condition: Callable[[], bool], timeout_s: float = 30) -> None:
    """Returns when the condition holds. Raises TimeoutError."""
    async with asyncio.timeout(timeout_s):
        while not condition():  # noqa: ASYNC110  (nothing here can set an event)
            await asyncio.sleep(0.002)


class RedisNode:
    """One of several nodes on a server; must be built in a running event loop."""

    def __init__(
        self,
        server: HasUrl,
        limits: Limits | None = LIMITS,
        *,
        deliver: Callable[[Publishable], None] | None = None,
        canary_interval_s: float = 3,
        url: str | None = None,
        names: RedisNames = NAMES,
        rules: StreamRules | None = None,
    ) -> None:
        self.received: list[Publishable] = []
        self.restored = 0
        self.counters = Counters()
        self.supervisor = Supervisor(self.counters)
        self.interest = StreamInterest()
        self.engine = RedisEngine(
            RedisAddress(url or server.url),
            names,
            limits,
            self.counters,
            self.supervisor,
            rules=rules,
        )
        self.recovery = StreamRecovery(
            self.interest, deliver or self.received.append, self.engine.history, self.counters
        )
        kind = ClusterPubSub if self.engine.names.has_slots else RedisPubSub
        self.pubsub: RedisPubSub = kind(
            self.engine,
            self.interest,
            self.recovery,
            on_restored=self._note_restored,
            canary_interval_s=canary_interval_s,
            supervisor=self.supervisor,
        )

    def _note_restored(self) -> None:
        self.restored += 1

    async def start(self) -> None:
        await self.engine.start()
        await self.pubsub.start()

    async def close(self) -> None:
        await self.pubsub.close(1)
        await self.engine.close(1)

    async def is_up(self) -> None:
        await until(lambda: self.pubsub.trouble is None)

    async def listen(self, streams: Iterable[Stream]) -> None:
        """Returns when everything on these streams arrives."""
        wanted = tuple(streams)
        for stream in wanted:
            self.interest.listen(stream)
        live = self.interest.when_live(wanted)
        if live is not None:
            await live

    async def publish(self, stream: Stream, *data: object) -> None:
        sent = self.pubsub.send(tuple(Publication(stream, str(each)) for each in data))
        if sent is not None:
            await sent

    def heard(self, stream: Stream) -> list[Publication]:
        return [
            each
            for each in self.received
            if isinstance(each, Publication) and each.stream == stream
        ]

    def data(self, stream: Stream) -> list[str]:
        return [each.data for each in self.heard(stream)]

    @property
    def history(self) -> RedisHistory:
        assert self.engine.history is not None
        return self.engine.history

    @property
    def sessions(self) -> RedisSessions:
        assert self.engine.sessions is not None
        return self.engine.sessions

    @property
    def presence(self) -> RedisPresence:
        assert self.engine.presence is not None
        return self.engine.presence


@asynccontextmanager
async def redis_node(
    server: HasUrl,
    limits: Limits | None = LIMITS,
    *,
    deliver: Callable[[Publishable], None] | None = None,
    canary_interval_s: float = 3,
    url: str | None = None,
    rules: StreamRules | None = None,
) -> AsyncIterator[RedisNode]:
    """A node that is up, for the length of a with block."""
    node = RedisNode(
        server, limits, deliver=deliver, canary_interval_s=canary_interval_s, url=url, rules=rules
    )
    await node.start()
    try:
        await node.is_up()
        yield node
    finally:
        await node.close()
