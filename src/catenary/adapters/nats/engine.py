"""NATS as a cluster engine: the connection between nodes, and the JetStream streams of the broker.

There are two streams: one for histories, one for records of sessions and members. The engine finds or creates them on
each connection, and is up only then.
Source: "NATS" of docs/pubsub.md and docs/broker.md (anycable). Knows: servers, streams. Does not know: messages.
"""

import asyncio
import contextlib
import logging
import secrets
from collections.abc import Callable
from functools import partial
from typing import Final

from catenary.adapters.nats.connection import NatsConnection
from catenary.adapters.nats.history import NatsHistory, stream_limits, stream_subjects
from catenary.adapters.nats.jetstream import DEFAULT_JETSTREAM, JetStream
from catenary.adapters.nats.nodes import Nodes
from catenary.adapters.nats.pending_requests import NoResponders
from catenary.adapters.nats.presence import NatsPresence
from catenary.adapters.nats.reconnector import Reconnector
from catenary.adapters.nats.servers import NatsServers
from catenary.adapters.nats.sessions import NatsSessions
from catenary.adapters.nats.store import S, Store
from catenary.adapters.nats.subjects import Subjects
from catenary.broker.history_limits import NOTHING, HistoryLimit, HistoryLimits
from catenary.broker.limits import Limits
from catenary.broker.stream_rules import StreamRules
from catenary.errors import BackendError
from catenary.metrics.counters import Counters
from catenary.supervision.backoff import Backoff
from catenary.supervision.service import Supervisor

_log: Final = logging.getLogger("catenary.nats")

LONGEST_PAUSE_S: Final = 2.0
"""Between two attempts: less than the time after which other nodes count this one as dead."""

READY_PAUSE_S: Final = 0.5
"""Until JetStream is asked again that is not ready, for example without a leader."""

RECORDS_AGE_S: Final = 24 * 3600
"""How long a record is kept without any node to delete it; living nodes renew theirs."""


class NatsEngine:
    """The connection of a node, its history, sessions and presence. Without ``limits``, nothing is kept, and JetStream is
    not needed. ``jetstream`` is where it is.

    ``servers`` may start later than this node. ``clock`` counts the seconds of times to live; the default is the loop's.
    Raises :class:`ConfigError`.
    """

    __slots__ = (
        "_checking",
        "_checks",
        "_connection",
        "_history_limits",
        "_history_store",
        "_jetstream",
        "_limits",
        "_nodes",
        "_preparing",
        "_reconnector",
        "_records",
        "_up",
        "counters",
        "history",
        "node",
        "presence",
        "sessions",
        "subjects",
        "trouble",
    )

    def __init__(
        self,
        servers: NatsServers,
        prefix: str,
        limits: Limits | None,
        counters: Counters,
        *,
        jetstream: JetStream = DEFAULT_JETSTREAM,
        clock: Callable[[], float] | None = None,
        supervisor: Supervisor | None = None,
        rules: StreamRules | None = None,
    ) -> None:
        """``rules`` may have other limits for the history of a stream."""
        self.subjects = Subjects(prefix)
        self.node = secrets.token_hex(8)
        """The name of this node in the cluster; another one at each start."""
        self.trouble: str | None = "not connected to NATS yet"
        """Why NATS can't be used at the moment; None: it can."""
        self._limits = limits
        usual = HistoryLimit(limits.history_limit, limits.history_ttl_s) if limits else NOTHING
        self._history_limits = HistoryLimits(usual, rules)
        self._jetstream = jetstream
        self.counters = counters
        # The connection
        self._reconnector: Final = Reconnector(
            servers,
            self._visit,
            self._ended,
            log=self._log_outage,
            longest_pause_s=LONGEST_PAUSE_S,
            name="NATS between nodes",
            supervisor=supervisor,
        )
        self._preparing = Backoff()
        self._checks = Backoff()
        self._connection: NatsConnection | None = None
        self._up: asyncio.Event = asyncio.Event()
        self._checking: asyncio.Task[None] | None = None
        # The broker
        self._history_store: Store | None = None
        self._records: Store | None = None
        self._nodes: Nodes | None = None
        self.history: NatsHistory | None = None
        self.sessions: NatsSessions | None = None
        self.presence: NatsPresence | None = None
        if limits is not None:
            clock = clock or asyncio.get_running_loop().time
            self._nodes = nodes = Nodes(self.subjects, self.node, limits, clock)
            self.history = NatsHistory(self.kept, self.subjects, self._history_limits)
            self.sessions = NatsSessions(
                self.records, self.subjects, nodes, limits.sessions_ttl_s, clock
            )
            self.presence = NatsPresence(
                self.records, self.subjects, nodes, limits.presence_ttl_s, clock
            )

    # Uses

    @property
    def connection(self) -> NatsConnection:
        """Raises :class:`BackendError` while NATS, or what must be there, is away."""
        if self._connection is None or not self._up.is_set() or self._connection.lost.done():
            raise BackendError(f"NATS is away: {self.trouble}")
        return self._connection

    async def up(self) -> NatsConnection:
        """The connection, when it is there."""
        while True:
            await self._up.wait()
            with contextlib.suppress(BackendError):
                return self.connection
            await asyncio.sleep(0)

    def kept(self) -> Store:
        """The stream of histories. Raises :class:`BackendError`."""
        return self._require(self._history_store)

    def records(self) -> Store:
        """The stream of sessions, members and nodes. Raises :class:`BackendError`."""
        return self._require(self._records)

    def _require(self, store: Store | None) -> Store:
        if store is None or not self._up.is_set():
            raise BackendError(f"NATS is away: {self.trouble}")
        return store

    def suspect(self) -> None:
        """A message had no responders: checks whether the streams exist, and connects again if not."""
        if self._connection is not None and (self._checking is None or self._checking.done()):
            self._checking = asyncio.get_running_loop().create_task(self._check(self._connection))

    # The connection

    @property
    def stream_records(self) -> None:
        """None: durable streams can't be written on NATS."""
        return None

    async def start(self) -> None:
        """Begins to connect. Does not wait for NATS, which may start later."""
        self._reconnector.start()

    async def close(self, timeout_s: float) -> None:
        """Finishes pending writes, and disconnects. Sessions and members of this node expire later."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                for each in (self.sessions, self.presence):
                    if each is not None:
                        await each.settle()
        await self._reconnector.stop()
        if self._checking is not None:
            self._checking.cancel()
            await asyncio.wait([self._checking])
        self.trouble = "closed"
        self._up.clear()
        if self._connection is not None:
            await self._connection.close(timeout_s)

    async def _visit(self, connection: NatsConnection, works: Callable[[], bool]) -> str:
        """Prepares the streams, and is up as long as the connection lasts; returns why it ended."""
        self._connection = connection
        await self._prepare(connection)
        is_news = works()
        self.trouble = None
        self._up.set()
        if is_news:
            _log.info("Nodes meet on NATS at %s", connection.url)
        return await self._stay(connection)

    def _ended(self, reason: str) -> None:
        self._up.clear()
        self._connection = self._history_store = self._records = None
        self.trouble = reason

    async def _prepare(self, connection: NatsConnection) -> None:
        """Waits until JetStream is ready: it may need to elect a leader or to read its files."""
        if self._limits is None or self._nodes is None:
            return
        names, limits = self.subjects.names, self._limits
        longest_s = max(limits.sessions_ttl_s, limits.presence_ttl_s)
        recorded = {
            "max_msgs_per_subject": 1,
            "max_age": max(RECORDS_AGE_S, longest_s * 10) * S,
            "duplicate_window": S,
        }
        wanted = stream_limits(self._history_limits.largest)
        subjects = partial(stream_subjects, self.subjects)
        history = Store(connection, f"{names}_H", wanted, subjects, self._jetstream)
        of_records = {"subjects": [self.subjects.records]}
        records = Store(connection, f"{names}_R", recorded, lambda _: of_records, self._jetstream)
        while True:
            try:
                await history.open()
                await records.open()
                await self._nodes.begin(records)
            except BackendError as error:
                if connection.lost.done():
                    raise
                self.trouble = str(error).removeprefix("NATS: ")
                if self._preparing.failed().is_logged:
                    self._log_outage(self.trouble)
                await asyncio.sleep(READY_PAUSE_S)
            else:
                self._preparing.works()
                self._history_store, self._records = history, records
                return

    async def _stay(self, connection: NatsConnection) -> str:
        """Sends heartbeats; returns the reason when the connection has ended."""
        if self._nodes is None:
            return await asyncio.shield(connection.lost)
        while not (await asyncio.wait([connection.lost], timeout=self._nodes.interval_s))[0]:
            await self._check(connection)
        return connection.lost.result()

    async def _check(self, connection: NatsConnection) -> None:
        """Writes the heartbeat of this node, and checks that the streams exist."""
        if self._nodes is None or self._history_store is None or self._records is None:
            return
        history, records = self._history_store, self._records
        try:
            if self._nodes.is_late():
                connection.drop("this node was away for so long that others count it as dead")
                return
            for store in (history, records):
                if not await store.is_there():
                    connection.drop(f"the JetStream stream {store.name} is gone")
                    return
            await history.change_limits(stream_limits(self._history_limits.largest))
            await self._nodes.beat(records)
        except NoResponders:
            connection.drop("JetStream is gone")
        except BackendError as error:
            if self._checks.failed().is_logged:
                _log.warning("JetStream: %s", error)
        else:
            self._checks.works()

    def _log_outage(self, reason: str) -> None:
        _log.warning("NATS between nodes is away: %s", reason)
