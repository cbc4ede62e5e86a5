"""Who publishes without HTTP: adapters of broadcasting, each of which listens for as long as we run.

Knows: options, adapters. Does not know: what is published.
"""

from collections.abc import Awaitable, Callable
from typing import Final, Protocol

from catenary.adapters.nats.broadcasts import NatsBroadcasts
from catenary.adapters.nats.servers import NatsServers
from catenary.config.effective import redis_address
from catenary.config.options import Options
from catenary.errors import MissingExtra
from catenary.messages.publications import QueueEntry
from catenary.metrics.counters import Counters
from catenary.supervision.service import Supervisor

QUEUE: Final = "catenary"
"""The group of nodes of which one takes each publication from NATS, where they share what they have."""

Publish = Callable[[bytes], Awaitable[None] | None]
PublishEntry = Callable[[bytes, QueueEntry], Awaitable[None] | None]


class Publisher(Protocol):
    """An adapter at work."""

    async def start(self) -> None: ...

    async def close(self, timeout_s: float) -> None: ...


def from_redis(
    options: Options, publish: Publish, counters: Counters, supervisor: Supervisor
) -> Publisher:
    """A channel, which every node hears. Raises :class:`MissingExtra`."""
    try:
        from catenary.adapters.redis.broadcasts import RedisBroadcasts
    except ImportError as error:
        raise MissingExtra("broadcast_adapter=redis", "redis") from error
    return RedisBroadcasts(
        redis_address(options.redis),
        options.broadcast.redis_channel,
        publish,
        counters,
        supervisor,
    )


def from_nats(
    options: Options,
    servers: NatsServers,
    publish: Publish,
    counters: Counters,
    supervisor: Supervisor,
    *,
    queue: str,
) -> Publisher:
    """A subject, which every node hears, or one of a group. Raises :class:`ConfigError`."""
    return NatsBroadcasts(
        servers,
        options.broadcast.nats_channel,
        publish,
        counters,
        queue=queue,
        supervisor=supervisor,
    )


def from_redis_stream(
    options: Options, publish: PublishEntry, counters: Counters, supervisor: Supervisor
) -> Publisher:
    """A stream, which one node reads at a time. Raises :class:`MissingExtra`."""
    try:
        from catenary.adapters.redis.streams import RedisStreamBroadcasts, StreamRules
    except ImportError as error:
        raise MissingExtra("broadcast_adapter=redisx", "redis") from error
    redisx = options.redisx
    rules = StreamRules(redisx.stream, redisx.consumer_group, redisx.read_block_ms)
    return RedisStreamBroadcasts(redis_address(options.redis), rules, publish, counters, supervisor)
