"""Builds the engine: pub/sub between nodes, and storage of histories, members and sessions, in this process, Redis or NATS.

Knows: the adapters of each engine, options. Does not know: the node, the edges.
"""

import asyncio
import logging
import secrets
import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final, Protocol

from catenary.adapters.interest import StreamInterest
from catenary.adapters.memory.history import LocalHistory
from catenary.adapters.memory.presence import LocalPresence
from catenary.adapters.memory.pubsub import LocalPubSub
from catenary.adapters.memory.sessions import LocalSessions
from catenary.adapters.memory.stream_records import LocalStreamRecords
from catenary.adapters.nats.access import access_by
from catenary.adapters.nats.embedded import EmbeddedNats
from catenary.adapters.nats.engine import NatsEngine
from catenary.adapters.nats.jetstream import jetstream_by
from catenary.adapters.nats.pubsub import NatsPubSub
from catenary.adapters.nats.servers import NatsServers
from catenary.adapters.none import NoHistory, NoInterest, NoPresence, NoSessions
from catenary.adapters.send_queue import WAITING_LIMIT
from catenary.adapters.stream_recovery import StreamRecovery
from catenary.broker.limits import Limits
from catenary.config.effective import redis_address
from catenary.config.options import BrokerOptions, NatsOptions, Options
from catenary.errors import MissingExtra
from catenary.metrics.counters import Counters
from catenary.node.hub import Hub
from catenary.ports import (
    History,
    Interest,
    Peers,
    Presence,
    PubSub,
    SessionCache,
    StreamRecords,
)
from catenary.server.build import ServerBuild
from catenary.server.shutdown_phases import (
    CLOSE_PUBSUB,
    CLOSE_STORES,
    STOP_EMBEDDED_NATS,
)
from catenary.supervision.health import reported
from catenary.supervision.service import Supervisor

_log: Final = logging.getLogger("catenary.server")

SWEEP_INTERVAL_S: Final = 1

CONNECT_TIMEOUT_S: Final = 2.0
"""How long a starting node waits for Redis or NATS. Then it serves without: they may come back later."""

CONNECT_POLL_S: Final = 0.005


class Engine:
    """Pub/sub between nodes, and storage. This class has neither.

    ``keeps``: histories, members and sessions are stored, and expire. ``is_shared``: publications reach other nodes, so
    exactly one node must read each from a publisher. ``peers`` is set with the pub/sub if there are other nodes.
    ``records`` of durable streams are None where they can't be stored.
    """

    history: History = NoHistory()
    presence: Presence = NoPresence()
    sessions: SessionCache = NoSessions()
    interest: Interest = NoInterest()
    records: StreamRecords | None = None
    keeps = False
    is_shared = False
    peers: Peers | None = None

    def pubsub(self, build: ServerBuild, hub: Hub, restored: Callable[[], None]) -> PubSub:
        """Builds the pub/sub, which delivers to the ``hub``; ``restored`` is called when a lost connection to the other
        nodes is available again. Called once."""
        return LocalPubSub(hub.deliver, build.counters)

    def trouble(self) -> str | None:
        """Why this node does not receive from the others at the moment; None if it does."""
        return None

    def connection_trouble(self) -> str | None:
        """Why Redis or NATS can't be used at the moment; None if it can."""
        return None


class MemoryEngine(Engine):
    """A single node that stores everything in its memory."""

    keeps = True

    def __init__(self, build: ServerBuild) -> None:
        options = build.options.broker
        loop = asyncio.get_running_loop()
        epoch = secrets.token_hex(4)
        self.history: LocalHistory = LocalHistory(
            limit=options.history_limit,
            ttl_s=options.history_ttl_s,
            epoch=epoch,
            clock=time.time,
            rules=build.stream_rules,
        )
        self.presence = LocalPresence(ttl_s=options.presence_ttl_s, clock=loop.time)
        self.sessions: LocalSessions = LocalSessions(ttl_s=options.sessions_ttl_s, clock=loop.time)
        build.announcements.append(f"Storing in memory (epoch {epoch}): {_stored(options)}")
        build.tick(SWEEP_INTERVAL_S, self._sweep)

    def pubsub(self, build: ServerBuild, hub: Hub, restored: Callable[[], None]) -> PubSub:
        pubsub = LocalPubSub(hub.deliver, build.counters, self.history.append, self.sessions.revoke)
        if build.options.ds.write:
            ttl_s = longest_history_s(build)
            clock = asyncio.get_running_loop().time
            records = LocalStreamRecords(pubsub.send, gone_s=ttl_s, clock=clock)
            self.records = records
            build.tick(SWEEP_INTERVAL_S, records.sweep)
            build.figures.register(
                "durable_streams_num",
                "Durable streams in memory that were created, or deleted recently",
                lambda: records.streams,
            )
        return pubsub

    def _sweep(self) -> None:
        if self.history.sweep():
            # More has expired than one sweep may remove: other work runs in between.
            asyncio.get_running_loop().call_soon(self._sweep)


class Stores(Protocol):
    """The stores of a node on Redis or NATS; all three are None if nothing is stored.

    ``trouble`` is why Redis or NATS can't be used at the moment, None if it can.
    """

    @property
    def trouble(self) -> str | None: ...

    @property
    def history(self) -> History | None: ...

    @property
    def presence(self) -> Presence | None: ...

    @property
    def sessions(self) -> SessionCache | None: ...

    @property
    def stream_records(self) -> StreamRecords | None: ...

    async def start(self) -> None: ...

    async def close(self, timeout_s: float) -> None: ...


class ClusterPubSub(PubSub, Peers, Protocol):
    """A pub/sub between nodes. ``trouble`` is why this node does not receive from the others, None if it does.
    ``waiting_num`` is the length of the queue to the server, at most :data:`WAITING_LIMIT`."""

    @property
    def trouble(self) -> str | None: ...

    @property
    def waiting_num(self) -> int: ...

    async def start(self) -> None: ...

    async def close(self, timeout_s: float) -> None: ...


class PubSubFactory(Protocol):
    """Builds the pub/sub of an engine: :class:`RedisPubSub` or :class:`NatsPubSub`."""

    def __call__(
        self,
        interest: StreamInterest,
        recovery: StreamRecovery,
        *,
        on_restored: Callable[[], None],
        caught_up: Callable[[], Awaitable[None] | None],
        supervisor: Supervisor,
    ) -> ClusterPubSub: ...


class ClusterEngine(Engine):
    """Redis or NATS: a pub/sub between nodes, and what is stored there."""

    is_shared = True

    def __init__(self, build: ServerBuild, stores: Stores, make_pubsub: PubSubFactory) -> None:
        self.interest: StreamInterest = StreamInterest()
        self._stores = stores
        self._make_pubsub = make_pubsub
        self._pubsub: ClusterPubSub | None = None
        build.add(stores.start, CLOSE_STORES, stores.close)
        history, presence, sessions = stores.history, stores.presence, stores.sessions
        if history is not None and presence is not None and sessions is not None:
            self.keeps = True
            self.history, self.presence, self.sessions = history, presence, sessions
            self.records = stores.stream_records

    def pubsub(self, build: ServerBuild, hub: Hub, restored: Callable[[], None]) -> PubSub:
        recovery = StreamRecovery(self.interest, hub.deliver, self._stores.history, build.counters)
        pubsub = self._make_pubsub(
            self.interest,
            recovery,
            on_restored=restored,
            caught_up=hub.caught_up,
            supervisor=build.supervisor,
        )
        build.figures.queue("pubsub", lambda: pubsub.waiting_num, WAITING_LIMIT)
        build.add(pubsub.start, CLOSE_PUBSUB, pubsub.close)
        build.start.append(self._await_connected)
        self.peers = self._pubsub = pubsub
        return pubsub

    def trouble(self) -> str | None:
        return None if self._pubsub is None else self._pubsub.trouble

    def connection_trouble(self) -> str | None:
        return self._stores.trouble

    async def _await_connected(self) -> None:
        """Publications that are accepted before the pub/sub is connected would be refused."""
        clock = asyncio.get_running_loop().time
        give_up_at = clock() + CONNECT_TIMEOUT_S
        while (trouble := self.trouble()) is not None:
            if clock() >= give_up_at:
                _log.warning("Serving before the other nodes can be reached: %s", trouble)
                return
            await asyncio.sleep(CONNECT_POLL_S)


def build_engine(build: ServerBuild, nats: NatsServers) -> Engine:
    """The engine that the options name. Raises :class:`catenary.errors.ConfigError`."""
    engine = _chosen_engine(build, nats)
    _add_checks(build, engine)
    build.figures.register(
        "pubsub_trouble_num",
        "1 while this node does not receive from the other nodes, else 0",
        lambda: int(engine.trouble() is not None),
    )
    return engine


def _add_checks(build: ServerBuild, engine: Engine) -> None:
    """The connection first: if it is lost, so is the rest."""
    options = build.options
    nats = "NATS or its JetStream" if options.broker.adapter == "nats" else "NATS"
    for name, label in (("redis", "Redis"), ("nats", nats)):
        is_used = options.pubsub.adapter == name
        check = reported(f"{label} is unavailable", engine.connection_trouble) if is_used else None
        build.checks.add(name, check)
    summary = "messages from the other nodes do not arrive"
    build.checks.add("pubsub", reported(summary, engine.trouble) if engine.is_shared else None)
    summary = "histories, sessions and members are unavailable"
    check = reported(summary, engine.connection_trouble)
    build.checks.add("broker", check if engine.keeps else None)


def _chosen_engine(build: ServerBuild, nats: NatsServers) -> Engine:
    match build.options.pubsub.adapter, build.options.broker.adapter:
        case "redis", _:
            return _by_redis(build)
        case "nats", _:
            return _by_nats(build, nats)
        case _, "memory":
            return MemoryEngine(build)
        case _:
            return Engine()


def _by_redis(build: ServerBuild) -> Engine:
    try:
        from catenary.adapters.redis.cluster_pubsub import ClusterPubSub
        from catenary.adapters.redis.engine import RedisEngine
        from catenary.adapters.redis.names import RedisNames
        from catenary.adapters.redis.pubsub import RedisPubSub
    except ImportError as error:
        raise MissingExtra("pubsub=redis", "redis") from error
    options, supervisor = build.options, build.supervisor
    channel = options.pubsub.redis_channel
    # Clusters that share no channel share no keys either.
    names = RedisNames(prefix=f"catenary:{channel}", channel=channel)
    limits = _limits(options.broker, "redis")
    engine = RedisEngine(
        redis_address(options.redis),
        names,
        limits,
        build.counters,
        supervisor,
        rules=build.stream_rules,
    )
    build.announcements.extend(_announcements("Redis", options.broker, limits))
    return ClusterEngine(
        build, engine, partial(ClusterPubSub if engine.names.has_slots else RedisPubSub, engine)
    )


def _by_nats(build: ServerBuild, servers: NatsServers) -> Engine:
    options, supervisor = build.options, build.supervisor
    limits = _limits(options.broker, "nats")
    engine = NatsEngine(
        servers,
        options.pubsub.nats_channel,
        limits,
        build.counters,
        jetstream=jetstream_by(options.nats),
        supervisor=supervisor,
        rules=build.stream_rules,
    )
    build.announcements.extend(_announcements("NATS", options.broker, limits))
    return ClusterEngine(build, engine, partial(NatsPubSub, engine))


def build_nats(build: ServerBuild) -> NatsServers:
    """The NATS servers to connect to; embeds one if the options ask for it and the parent has not done so."""
    if build.worker is not None:
        url = build.worker.nats_url
    elif build.options.enats.enabled:
        embedded = embedded_nats(build.options, build.counters, build.supervisor)
        build.add(embedded.start, STOP_EMBEDDED_NATS, embedded.close)
        build.start.append(embedded.ready)
        url = embedded.client_url
    else:
        url = ""
    return _nats_servers(build.options.nats, url)


def embedded_nats(
    options: Options, counters: Counters, supervisor: Supervisor | None = None
) -> EmbeddedNats:
    """A NATS server in a child process. Raises :class:`catenary.errors.ConfigError`."""
    return EmbeddedNats(
        options.enats,
        counters,
        needs_jetstream=options.broker.adapter == "nats",
        supervisor=supervisor,
    )


def _nats_servers(options: NatsOptions, embedded_url: str) -> NatsServers:
    """The servers that the options name; the embedded one if they name none."""
    if embedded_url and options.servers == NatsOptions().servers:
        return NatsServers(urls=(embedded_url,), follows_cluster=False)
    return NatsServers(
        urls=options.servers,
        in_order=options.dont_randomize_servers,
        access=access_by(options),
    )


def _announcements(where: str, broker: BrokerOptions, limits: Limits | None) -> list[str]:
    shared = f"Sharing publications with other nodes through {where}"
    return [shared] if limits is None else [shared, f"Storing on {where}: {_stored(broker)}"]


def longest_history_s(build: ServerBuild) -> int:
    """The longest time for which messages of any stream are stored, in seconds."""
    ttls = [each.history_ttl or 0 for each in build.stream_rules.rules]
    return max([build.options.broker.history_ttl_s, *ttls])


def _limits(broker: BrokerOptions, adapter: str) -> Limits | None:
    if broker.adapter != adapter:
        return None
    return Limits(
        history_limit=broker.history_limit,
        history_ttl_s=broker.history_ttl_s,
        sessions_ttl_s=broker.sessions_ttl_s,
        presence_ttl_s=broker.presence_ttl_s,
    )


def _stored(options: BrokerOptions) -> str:
    """The contents of a broker's storage, for the announcement."""
    return (
        f"history of {options.history_limit} messages for {options.history_ttl_s} s, "
        f"sessions for {options.sessions_ttl_s} s, presence for {options.presence_ttl_s} s"
    )
