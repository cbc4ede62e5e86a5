"""What lies between nodes, and what is kept: in this process, on Redis or on NATS.

Knows: the adapters of each engine, options. Does not know: the node, the edges.
"""

import asyncio
import logging
import secrets
import time
from collections.abc import Awaitable, Callable
from typing import Final, Protocol

from catenary.adapters.following import Following
from catenary.adapters.interest import Interest as AdapterInterest
from catenary.adapters.memory.history import LocalHistory
from catenary.adapters.memory.presence import LocalPresence
from catenary.adapters.memory.pubsub import LocalPubSub
from catenary.adapters.memory.sessions import LocalSessions
from catenary.adapters.nats.embedded import EmbeddedNats
from catenary.adapters.nats.engine import NatsEngine
from catenary.adapters.nats.pubsub import NatsPubSub
from catenary.adapters.nats.servers import NatsServers
from catenary.adapters.none import NoHistory, NoInterest, NoPresence, NoSessions
from catenary.broker.limits import Limits
from catenary.config.effective import redis_address
from catenary.config.options import BrokerOptions, NatsOptions, Options
from catenary.errors import MissingExtra
from catenary.metrics.counters import Counters
from catenary.node.hub import Hub
from catenary.ports import History, Interest, Presence, PubSub, SessionCache
from catenary.supervision.service import Supervisor
from catenary.supervision.ticker import Ticker

_log: Final = logging.getLogger("catenary.server")

SWEEP_INTERVAL_S: Final = 1

MEETING_S: Final = 2.0
"""How long a node that starts waits for the others. Then it serves all the same: what is between them
may come later."""

MEETING_PAUSE_S: Final = 0.005

Starter = Callable[[], Awaitable[None]]
Finisher = Callable[[float], Awaitable[None]]


class Engine:
    """One choice of all that. ``keeps`` says that there is anything to keep time for.

    The pub/sub is built last, because it delivers to what is built with the rest.
    """

    history: History = NoHistory()
    presence: Presence = NoPresence()
    sessions: SessionCache = NoSessions()
    interest: Interest = NoInterest()
    keeps = False
    is_shared = False
    """Publications reach other nodes, so that one of them has to take each of them up."""

    def __init__(self) -> None:
        self.start: list[Starter] = []
        self.finish: list[Finisher] = []
        self.announcements: list[str] = []

    def pubsub(self, hub: Hub, restored: Callable[[], None]) -> PubSub:
        """The way to all nodes; ``restored`` is called when it was broken, and is there again."""
        return LocalPubSub(hub.deliver)

    def trouble(self) -> str | None:
        """Why this node does not hear the others at the moment; None where it does."""
        return None


class MemoryEngine(Engine):
    """A node that is alone, and keeps things in its memory."""

    keeps = True

    def __init__(self, options: BrokerOptions) -> None:
        super().__init__()
        loop = asyncio.get_running_loop()
        epoch = secrets.token_hex(4)
        self.history: LocalHistory = LocalHistory(
            limit=options.history_limit,
            ttl_s=options.history_ttl_s,
            epoch=epoch,
            clock=time.time,
        )
        self.presence = LocalPresence(ttl_s=options.presence_ttl_s, clock=loop.time)
        self.sessions: LocalSessions = LocalSessions(ttl_s=options.sessions_ttl_s, clock=loop.time)
        self.announcements.append(f"Keeping in memory (epoch {epoch}): {kept(options)}")
        sweeper = Ticker(SWEEP_INTERVAL_S, self._sweep)
        self.start.append(sweeper.start)
        self.finish.append(sweeper.stop)

    def pubsub(self, hub: Hub, restored: Callable[[], None]) -> PubSub:
        return LocalPubSub(hub.deliver, self.history.append, self.sessions.revoke)

    def _sweep(self) -> None:
        if self.history.sweep():
            # More is over than one sweep may take: others have their turn in between.
            asyncio.get_running_loop().call_soon(self._sweep)


class Kept(Protocol):
    """What a node has on Redis or NATS; the three are None where nothing is kept."""

    @property
    def history(self) -> History | None: ...

    @property
    def presence(self) -> Presence | None: ...

    @property
    def sessions(self) -> SessionCache | None: ...

    async def start(self) -> None: ...

    async def close(self, timeout_s: float) -> None: ...


class Way(PubSub, Protocol):
    """A pub/sub between nodes."""

    @property
    def trouble(self) -> str | None: ...

    async def start(self) -> None: ...

    async def close(self, timeout_s: float) -> None: ...


class Sharing(Engine):
    """Nodes that share something: the way between them, and what is kept there."""

    is_shared = True

    def __init__(
        self,
        kept: Kept,
        way: Callable[[AdapterInterest, Hub, Following, Callable[[], None]], Way],
        counters: Counters,
    ) -> None:
        super().__init__()
        self.interest: AdapterInterest = AdapterInterest()
        self._kept = kept
        self._build_way = way
        self._counters = counters
        self._way: Way | None = None
        self.start.append(kept.start)
        self.finish.append(kept.close)
        if kept.history is not None and kept.presence is not None and kept.sessions is not None:
            self.keeps = True
            self.history, self.presence, self.sessions = kept.history, kept.presence, kept.sessions

    def pubsub(self, hub: Hub, restored: Callable[[], None]) -> PubSub:
        following = Following(self.interest, hub.deliver, self._kept.history, self._counters)
        self._way = way = self._build_way(self.interest, hub, following, restored)
        self.start += [way.start, self._meet]
        self.finish.insert(0, way.close)
        return way

    async def _meet(self) -> None:
        """Publications that are accepted before would reach nobody: they would be refused."""
        clock = asyncio.get_running_loop().time
        give_up_at = clock() + MEETING_S
        while (trouble := self.trouble()) is not None:
            if clock() >= give_up_at:
                _log.warning("Serving before the other nodes are heard: %s", trouble)
                return
            await asyncio.sleep(MEETING_PAUSE_S)

    def trouble(self) -> str | None:
        return None if self._way is None else self._way.trouble


def by_redis(options: Options, counters: Counters, supervisor: Supervisor) -> Engine:
    """Redis between nodes. Raises :class:`MissingExtra` and :class:`ConfigError`."""
    try:
        from catenary.adapters.redis.engine import RedisEngine, RedisNames
        from catenary.adapters.redis.pubsub import RedisPubSub
    except ImportError as error:
        raise MissingExtra("pubsub=redis", "redis") from error
    channel = options.pubsub.redis_channel
    # Clusters that hear nothing of each other share no keys either.
    names = RedisNames(prefix=f"catenary:{channel}", channel=channel)
    limits = _limits(options.broker, "redis")
    engine = RedisEngine(redis_address(options.redis), names, limits, counters, supervisor)

    def way(
        interest: AdapterInterest, hub: Hub, following: Following, restored: Callable[[], None]
    ) -> Way:
        return RedisPubSub(
            engine,
            interest,
            following,
            on_restored=restored,
            caught_up=hub.caught_up,
            supervisor=supervisor,
        )

    sharing = Sharing(engine, way, counters)
    sharing.announcements += _announcements("Redis", options.broker, limits)
    return sharing


def by_nats(
    options: Options, servers: NatsServers, counters: Counters, supervisor: Supervisor
) -> Engine:
    """NATS between nodes. Raises :class:`ConfigError`."""
    limits = _limits(options.broker, "nats")
    engine = NatsEngine(
        servers, options.pubsub.nats_channel, limits, counters, supervisor=supervisor
    )

    def way(
        interest: AdapterInterest, hub: Hub, following: Following, restored: Callable[[], None]
    ) -> Way:
        return NatsPubSub(
            engine,
            interest,
            following,
            on_restored=restored,
            caught_up=hub.caught_up,
            supervisor=supervisor,
        )

    sharing = Sharing(engine, way, counters)
    sharing.announcements += _announcements("NATS", options.broker, limits)
    return sharing


def embedded_nats(
    options: Options, counters: Counters, supervisor: Supervisor | None = None
) -> EmbeddedNats:
    """A NATS server beside us. Raises :class:`ConfigError`."""
    return EmbeddedNats(
        options.enats,
        counters,
        needs_jetstream=options.broker.adapter == "nats",
        supervisor=supervisor,
    )


def nats_servers(options: NatsOptions, embedded_url: str) -> NatsServers:
    """Those that are given; where none are, the one that is embedded."""
    if embedded_url and options.servers == NatsOptions().servers:
        return NatsServers(urls=(embedded_url,), follows_cluster=False)
    return NatsServers(urls=options.servers, in_order=options.dont_randomize_servers)


def _announcements(where: str, broker: BrokerOptions, limits: Limits | None) -> list[str]:
    shared = f"Sharing publications with other nodes by {where}"
    return [shared] if limits is None else [shared, f"Keeping on {where}: {kept(broker)}"]


def _limits(broker: BrokerOptions, adapter: str) -> Limits | None:
    if broker.adapter != adapter:
        return None
    return Limits(
        history_limit=broker.history_limit,
        history_ttl_s=broker.history_ttl_s,
        sessions_ttl_s=broker.sessions_ttl_s,
        presence_ttl_s=broker.presence_ttl_s,
    )


def kept(options: BrokerOptions) -> str:
    """What a broker keeps, for the announcement."""
    return (
        f"history of {options.history_limit} messages for {options.history_ttl_s} s, "
        f"sessions for {options.sessions_ttl_s} s, presence for {options.presence_ttl_s} s"
    )
