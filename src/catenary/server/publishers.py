"""The broadcast adapters besides HTTP: each receives publications from Redis or NATS while the server runs.

Knows: options, adapters. Does not know: what is published.
"""

from collections.abc import Awaitable, Callable
from functools import partial
from typing import TYPE_CHECKING, Final, Protocol

from catenary.adapters.nats.broadcasts import NatsBroadcasts
from catenary.adapters.nats.broadcasts import Publish as NatsPublish
from catenary.adapters.nats.servers import NatsServers
from catenary.config.effective import redis_address
from catenary.config.urls import without_secrets
from catenary.errors import MissingExtra
from catenary.node.publications import Publications
from catenary.server.build import ServerBuild
from catenary.server.engines import Engine
from catenary.server.shutdown_phases import STOP_PUBLISHERS
from catenary.supervision.health import reported

if TYPE_CHECKING:
    from catenary.adapters.redis.bursts import Publish as PublishEntry

QUEUE: Final = "catenary"
"""The NATS queue group in which one node receives each publication, where nodes share publications."""

Publish = Callable[[bytes], Awaitable[None] | None]


class BroadcastAdapter(Protocol):
    """A broadcast adapter; ``trouble`` is why it does not receive publications at the moment, None if it does."""

    @property
    def trouble(self) -> str | None: ...

    async def start(self) -> None: ...

    async def close(self, timeout_s: float) -> None: ...


def start_publishers(
    build: ServerBuild, publications: Publications, engine: Engine, nats: NatsServers
) -> None:
    """Builds the adapters that ``broadcast_adapter`` names. Raises :class:`catenary.errors.ConfigError`."""
    for adapter in build.options.broadcast.adapters:
        if adapter in _SOURCES:
            build.announcements.append(_announcement(build, adapter))
        match adapter:
            case "redis":
                # Every node receives these, so a node passes them to its own clients only: sending them to the other
                # nodes, too, would deliver them once per node.
                publish = (
                    publications.publish_locally
                    if engine.is_shared
                    else publications.publish_in_turns
                )
                publisher = _redis(build, publish)
            case "redisx":
                publisher = _redis_stream(build, publications.publish_in_turns)
            case "nats":
                queue = QUEUE if engine.is_shared else ""
                publisher = _nats(build, nats, publications.publish_in_turns, queue)
            case _:
                continue
        build.add(publisher.start, STOP_PUBLISHERS, publisher.close)
        name = f"broadcast_adapter={adapter}"
        build.checks.add(
            name, reported(f"{name}: publications do not arrive", partial(_trouble, publisher))
        )


_SOURCES: Final = {"redis": "Redis channel", "redisx": "Redis stream", "nats": "NATS subject"}


def _announcement(build: ServerBuild, adapter: str) -> str:
    options = build.options
    names = {
        "redis": options.broadcast.redis_channel,
        "redisx": options.redisx.stream,
        "nats": options.broadcast.nats_channel,
    }
    urls = options.nats.servers if adapter == "nats" else (options.redis.url,)
    where = ", ".join(map(without_secrets, urls))
    return f"Receiving broadcasts from the {_SOURCES[adapter]} {names[adapter]} at {where}"


def _trouble(publisher: BroadcastAdapter) -> str | None:
    return publisher.trouble


def _redis(build: ServerBuild, publish: Publish) -> BroadcastAdapter:
    """A channel, which every node receives."""
    try:
        from catenary.adapters.redis.broadcasts import RedisBroadcasts
    except ImportError as error:
        raise MissingExtra("broadcast_adapter=redis", "redis") from error
    return RedisBroadcasts(
        redis_address(build.options.redis),
        build.options.broadcast.redis_channel,
        publish,
        build.counters,
        build.supervisor,
    )


def _nats(
    build: ServerBuild, servers: NatsServers, publish: NatsPublish, queue: str
) -> BroadcastAdapter:
    """A subject, which every node receives, or one node of a ``queue`` group."""
    return NatsBroadcasts(
        servers,
        build.options.broadcast.nats_channel,
        publish,
        build.counters,
        queue=queue,
        supervisor=build.supervisor,
    )


def _redis_stream(build: ServerBuild, publish: "PublishEntry") -> BroadcastAdapter:
    """A stream, which one node reads at a time."""
    try:
        from catenary.adapters.redis.streams import RedisStreamBroadcasts, StreamRules
    except ImportError as error:
        raise MissingExtra("broadcast_adapter=redisx", "redis") from error
    redisx = build.options.redisx
    rules = StreamRules(redisx.stream, redisx.consumer_group, redisx.read_block_ms)
    return RedisStreamBroadcasts(
        redis_address(build.options.redis), rules, publish, build.counters, build.supervisor
    )
