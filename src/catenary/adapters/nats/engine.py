"""NATS between nodes, and JetStream for what is kept: the connection, and what stands on it.

Two streams of JetStream, one for histories, one for records of sessions and members. They are
found or made at each connection; only then is the engine up.
Source: "NATS" of docs/pubsub.md and docs/broker.md (anycable). Knows: servers, streams. Does not
know: what is sent.
"""

import asyncio
import contextlib
import logging
import secrets
from collections.abc import Callable
from functools import partial
from typing import Final

from catenary.adapters.nats.connection import Connection
from catenary.adapters.nats.history import NatsHistory, stream_limits, stream_subjects
from catenary.adapters.nats.nodes import Nodes
from catenary.adapters.nats.presence import NatsPresence
from catenary.adapters.nats.questions import Nobody
from catenary.adapters.nats.servers import NatsServers
from catenary.adapters.nats.sessions import NatsSessions
from catenary.adapters.nats.store import S, Store
from catenary.adapters.nats.subjects import Subjects
from catenary.adapters.nats.way_back import WayBack
from catenary.broker.limits import Limits
from catenary.errors import BackendError
from catenary.metrics.counters import Counters
from catenary.supervision.backoff import Backoff
from catenary.supervision.service import Supervisor

_log: Final = logging.getLogger("catenary.nats")

LONGEST_PAUSE_S: Final = 2.0
"""Between two attempts: less than what other nodes wait before they count this one as dead."""

READY_PAUSE_S: Final = 0.5
"""Until a JetStream that is not ready, such as one without a leader, is asked again."""

RECORDS_AGE_S: Final = 24 * 3600
"""How long a record stays when no node is there any more to end it; living nodes renew theirs."""


class NatsEngine:
    """What a node has on NATS. ``limits`` is None where nothing is kept: then no JetStream is needed.

    ``servers`` may come later than :meth:`start`. ``clock`` counts the seconds that sessions and
    members are kept: the loop's, unless told otherwise. Raises :class:`ConfigError`.
    """

    __slots__ = (
        "_checking",
        "_checks",
        "_connection",
        "_history_store",
        "_limits",
        "_nodes",
        "_preparing",
        "_records",
        "_up",
        "_way",
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
        clock: Callable[[], float] | None = None,
        supervisor: Supervisor | None = None,
    ) -> None:
        self.subjects = Subjects(prefix)
        self.node = secrets.token_hex(8)
        """This node's name among others; another one at each start."""
        self.trouble: str | None = "not connected to NATS yet"
        """Why nothing can be had at the moment; None where it can."""
        self._limits = limits
        self.counters = counters
        # Coming and going
        self._way: Final = WayBack(
            servers,
            self._visit,
            self._ended,
            log=self._tell,
            longest_pause_s=LONGEST_PAUSE_S,
            name="NATS between nodes",
            supervisor=supervisor,
        )
        self._preparing = Backoff()
        self._checks = Backoff()
        self._connection: Connection | None = None
        self._up: asyncio.Event = asyncio.Event()
        self._checking: asyncio.Task[None] | None = None
        # What is kept
        self._history_store: Store | None = None
        self._records: Store | None = None
        self._nodes: Nodes | None = None
        self.history: NatsHistory | None = None
        self.sessions: NatsSessions | None = None
        self.presence: NatsPresence | None = None
        if limits is not None:
            clock = clock or asyncio.get_running_loop().time
            self._nodes = nodes = Nodes(self.subjects, self.node, limits, clock)
            self.history = NatsHistory(self.kept, self.subjects, limits)
            self.sessions = NatsSessions(
                self.records, self.subjects, nodes, limits.sessions_ttl_s, clock
            )
            self.presence = NatsPresence(
                self.records, self.subjects, nodes, limits.presence_ttl_s, clock
            )

    # What stands on it

    @property
    def connection(self) -> Connection:
        """Raises :class:`BackendError` while NATS, or what must be there, is away."""
        if self._connection is None or not self._up.is_set() or self._connection.lost.done():
            raise BackendError(f"NATS is away: {self.trouble}")
        return self._connection

    async def up(self) -> Connection:
        """The connection, when it is there."""
        while True:
            await self._up.wait()
            with contextlib.suppress(BackendError):
                return self.connection
            await asyncio.sleep(0)

    def kept(self) -> Store:
        """The stream of histories. Raises :class:`BackendError`."""
        return self._there(self._history_store)

    def records(self) -> Store:
        """The stream of sessions, members and nodes. Raises :class:`BackendError`."""
        return self._there(self._records)

    def _there(self, store: Store | None) -> Store:
        if store is None or not self._up.is_set():
            raise BackendError(f"NATS is away: {self.trouble}")
        return store

    def suspect(self) -> None:
        """Nobody stored what was sent: are the streams still there? If not, all begins anew."""
        if self._connection is not None and (self._checking is None or self._checking.done()):
            self._checking = asyncio.get_running_loop().create_task(self._check(self._connection))

    # The way

    async def start(self) -> None:
        """Begins to connect; does not wait for NATS, which may come later."""
        self._way.start()

    async def close(self, timeout_s: float) -> None:
        """Does what was called for, and ends. What this node keeps is there until its time is over."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                for each in (self.sessions, self.presence):
                    if each is not None:
                        await each.settle()
        await self._way.stop()
        if self._checking is not None:
            self._checking.cancel()
            await asyncio.wait([self._checking])
        self.trouble = "closed"
        self._up.clear()
        if self._connection is not None:
            await self._connection.close(timeout_s)

    async def _visit(self, connection: Connection, works: Callable[[], bool]) -> str:
        """Is up as long as the connection lasts; returns why it ended."""
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

    async def _prepare(self, connection: Connection) -> None:
        """Waits for JetStream, which may need a while to be there: a leader, its files."""
        if self._limits is None or self._nodes is None:
            return
        names, limits = self.subjects.names, self._limits
        longest_s = max(limits.sessions_ttl_s, limits.presence_ttl_s)
        recorded = {
            "max_msgs_per_subject": 1,
            "max_age": max(RECORDS_AGE_S, longest_s * 10) * S,
            "duplicate_window": S,
        }
        history = Store(
            connection, f"{names}_H", stream_limits(limits), partial(stream_subjects, self.subjects)
        )
        records = Store(
            connection, f"{names}_R", recorded, lambda _: {"subjects": [self.subjects.records]}
        )
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
                    self._tell(self.trouble)
                await asyncio.sleep(READY_PAUSE_S)
            else:
                self._preparing.works()
                self._history_store, self._records = history, records
                return

    async def _stay(self, connection: Connection) -> str:
        """Returns why the connection ended."""
        if self._nodes is None:
            return await asyncio.shield(connection.lost)
        while not (await asyncio.wait([connection.lost], timeout=self._nodes.interval_s))[0]:
            await self._check(connection)
        return connection.lost.result()

    async def _check(self, connection: Connection) -> None:
        """Tells the others that this node lives, and finds out whether the streams do."""
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
            await self._nodes.beat(records)
        except Nobody:
            connection.drop("JetStream is gone")
        except BackendError as error:
            if self._checks.failed().is_logged:
                _log.warning("JetStream: %s", error)
        else:
            self._checks.works()

    def _tell(self, reason: str) -> None:
        _log.warning("NATS between nodes is away: %s", reason)
