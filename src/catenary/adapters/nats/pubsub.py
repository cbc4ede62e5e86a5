"""Publications between nodes: each node subscribes to the streams of its own clients.

Core NATS carries them. Kept publications come from JetStream, which republishes each message when it is stored, with its
sequence and that of the message before it on its stream.
Source: docs/pubsub.md (anycable); "RePublish" of the JetStream documentation.
Knows: the wanted streams, one connection at a time. Does not know: clients.
"""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Collection, Coroutine
from time import perf_counter
from typing import Any, Final

from catenary.adapters.interest import Changes, StreamInterest
from catenary.adapters.nats import wire
from catenary.adapters.nats.connection import NatsConnection
from catenary.adapters.nats.engine import NatsEngine
from catenary.adapters.nats.flushes import Shared
from catenary.adapters.nats.outbox import Outbox
from catenary.adapters.nats.payload import unpack
from catenary.adapters.nats.sessions import NatsSessions
from catenary.adapters.pacing import paced
from catenary.adapters.packing import NumberedCommand, unpack_command
from catenary.adapters.stream_recovery import StreamRecovery
from catenary.errors import BackendError
from catenary.logs.rate_limited import RateLimitedLogger
from catenary.messages.names import Stream
from catenary.messages.publications import Position, Publishable, QueueEntry, RemoteDisconnect
from catenary.supervision.service import Service, Supervisor, until_first_ends

_log: Final = logging.getLogger("catenary.pubsub")
_limited: Final = RateLimitedLogger(_log)

CANARY_INTERVAL_S: Final = 3.0

SPREAD_S: Final = 0.5
"""How long the servers of a cluster may take to learn of a new subscription."""

EARLY_LIMIT: Final = 10_000
"""Remote disconnects that may arrive while the node still reads those that it has missed."""


class NatsPubSub:
    """Satisfies :class:`catenary.ports.PubSub` and :class:`catenary.ports.Peers`.

    ``on_restored`` is called after each reconnect. ``caught_up`` returns an awaitable while deliveries lag: until then
    NATS is not read. A NATS server closes a connection that is not read for too long; the missed publications come from
    the history. Every ``canary_interval_s`` the node sends a message to itself; if it does not arrive, the node connects
    again.
    """

    __slots__ = (
        "_canary",
        "_canary_interval_s",
        "_caught_up",
        "_connection",
        "_counters",
        "_early",
        "_engine",
        "_has_lost_canary",
        "_interest",
        "_numbers",
        "_on_restored",
        "_outbox",
        "_patience",
        "_rechecks",
        "_recovery",
        "_service",
        "_trouble",
        "_was_paused",
        "_was_up",
        "node",
        "on_message",
    )

    def __init__(
        self,
        engine: NatsEngine,
        interest: StreamInterest,
        recovery: StreamRecovery,
        *,
        on_restored: Callable[[], None] = lambda: None,
        caught_up: Callable[[], Awaitable[None] | None] = lambda: None,
        canary_interval_s: float = CANARY_INTERVAL_S,
        supervisor: Supervisor | None = None,
    ) -> None:
        self._engine = engine
        self._interest = interest
        self._recovery = recovery
        self._counters = engine.counters
        self._caught_up = caught_up
        self._on_restored = on_restored
        self._canary_interval_s = canary_interval_s
        self._trouble: str | None = "not subscribed yet"
        self._has_lost_canary = False
        self._was_up = False
        self._service = Service("NATS pub/sub", self._follow, supervisor)
        # Of the present connection
        self._connection: NatsConnection | None = None
        self._outbox: Outbox | None = None
        self._numbers: dict[Stream, int] = {}
        self._rechecks: set[asyncio.Task[None]] = set()
        self._patience: asyncio.Future[None] | None = None
        # Remote disconnects that arrived before the missed ones were read
        self._early: list[NumberedCommand] | None = None
        self._was_paused = False
        self._canary: asyncio.Event = asyncio.Event()
        # Other nodes
        self.node = engine.node
        self.on_message: Callable[[bytes], None] = _pass_over

    @property
    def trouble(self) -> str | None:
        """Why publications do not reach this node, or leave it, at the moment; None: they do."""
        return self._engine.trouble or self._trouble

    @property
    def waiting_num(self) -> int:
        """Number of publications that wait for NATS."""
        return 0 if self._outbox is None else self._outbox.waiting_num

    async def start(self) -> None:
        """Begins to connect. Does not wait for NATS, which may start later."""
        self._service.start()

    async def close(self, timeout_s: float) -> None:
        """Waits up to ``timeout_s`` until everything is sent, then unsubscribes."""
        if self._outbox is not None:
            try:
                async with asyncio.timeout(timeout_s):
                    await self._outbox.settle()
            except (BackendError, TimeoutError) as error:
                _log.warning("The last publications may be lost: %s", str(error) or "too slow")
        await self._service.stop()
        await self._recovery.close()
        self._trouble = "closed"

    def send(
        self, publications: tuple[Publishable, ...], entry: QueueEntry | None = None
    ) -> Awaitable[None] | None:
        """Stores publications and sends them to all nodes, in order. Awaiting raises :class:`BackendError`.

        Publications of the same ``entry`` are stored once within :data:`store.DUPLICATES_S`.
        """
        if not publications:
            return None
        if self._outbox is None:
            failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            failed.set_exception(BackendError(f"NATS is away: {self._engine.trouble}"))
            return Shared(failed)
        return self._outbox.send(publications, entry)

    async def relay(self, command: RemoteDisconnect) -> None:
        """Sends a command that every node relays. Raises :class:`BackendError`."""
        sessions = self._engine.sessions
        if sessions is not None and await sessions.was_relayed(command.identifiers):
            return
        sent = self.send((command,))
        if sent is not None:
            await sent

    # Connections

    async def _follow(self) -> None:
        """Subscribes on one connection after the other."""
        if self._connection is not None:
            # Left by a failed run of the service: its subscriptions would deliver everything a second time.
            self._connection.drop("NATS pub/sub has failed")
        while True:
            self._connection = connection = await self._engine.up()
            self._outbox = Outbox(
                connection,
                self._engine.subjects,
                self._counters,
                self._engine.suspect,
                kept=None if self._engine.history is None else self._engine.kept(),
                records=None if self._engine.sessions is None else self._engine.records(),
            )
            try:
                await self._listen(connection)
                self._trouble = None
                if self._was_up:
                    self._on_restored()
                self._was_up = True
                await self._stay(connection)
            except BackendError as error:
                connection.drop(str(error).removeprefix("NATS: "))
                reason = str(error)
            else:
                reason = connection.lost.result()
            finally:
                self._trouble = "publications do not arrive any more"
                self._outbox = self._patience = None
                self._interest.down()
                self._numbers.clear()
                if self._engine.sessions is not None:
                    self._engine.sessions.is_caught_up = False
                rechecks = tuple(self._rechecks)
                for recheck in rechecks:
                    recheck.cancel()
                await asyncio.gather(*rechecks, return_exceptions=True)
            self._trouble = reason
            self._counters.pubsub_reconnects_total += 1

    async def _listen(self, connection: NatsConnection) -> None:
        """Subscribes to all wanted streams, then catches up with what was missed."""
        wanted = self._interest.up()
        subjects = self._engine.subjects
        self._early = []
        connection.subscribe(subjects.commands, self._take_command)
        connection.subscribe(subjects.canaries + self._engine.node, self._take_canary)
        connection.subscribe(subjects.peers + self.node, self._take_peer_message)
        connection.subscribe(subjects.all_peers, self._take_peer_message)
        self._subscribe(connection, wanted)
        await connection.flushed()
        await self._catch_up_commands(connection)
        await self._catch_up(connection, wanted)
        self._recovery.note_alive()

    async def _stay(self, connection: NatsConnection) -> None:
        """Returns when the connection is lost."""
        await until_first_ends(
            _until_lost(connection),
            self._follow_changes(connection),
            self._send_canaries(connection),
        )
        if not connection.lost.done():
            raise BackendError("NATS: nothing is received")

    # Wanted streams

    async def _follow_changes(self, connection: NatsConnection) -> None:
        while True:
            changes = await self._interest.changes()
            await self._newest(changes.added, self._recovery.begin_stream)
            self._apply(connection, changes)
            await connection.flushed()
            self._interest.in_force(changes)
            self._recheck(connection, changes.added)

    def _apply(self, connection: NatsConnection, changes: Changes) -> None:
        for stream in changes.removed:
            number = self._numbers.pop(stream, None)
            if number is not None:
                connection.unsubscribe(number)
        self._subscribe(connection, changes.added)

    def _subscribe(self, connection: NatsConnection, streams: Collection[Stream]) -> None:
        subject = self._engine.subjects.all_of
        for stream in streams:
            if stream not in self._numbers:
                self._numbers[stream] = connection.subscribe(
                    subject(stream), self._take, is_needed=False
                )

    async def _newest(
        self, streams: Collection[Stream], receive: Callable[[Stream, Position], None]
    ) -> None:
        if self._engine.history is not None and streams:
            newest = await self._engine.history.newest(streams)
            async for stream, position in paced(newest.items()):
                receive(stream, position)

    async def _catch_up(self, connection: NatsConnection, streams: Collection[Stream]) -> None:
        await self._newest(streams, self._recovery.resume_stream)
        self._recheck(connection, streams)

    async def _catch_up_commands(self, connection: NatsConnection) -> None:
        """Receives the remote disconnects that were sent while this node did not listen.

        Those from before it listened for the first time concern none of its clients.
        """
        sessions = self._engine.sessions
        if sessions is not None:
            since = sessions.revocations.newest
            for each in await sessions.missed(since, is_first=not self._was_up):
                if sessions.received(each) and self._was_up:
                    self._recovery.receive(each.command)
            if connection.info.cluster:
                newest = sessions.revocations.newest
                self._start_recheck(self._recheck_commands_later(connection, sessions, newest))
        early, self._early = self._early or [], None
        for each in early:
            self._arrive_command(each)
        if sessions is not None:
            sessions.is_caught_up = True

    async def _recheck_commands_later(
        self, connection: NatsConnection, sessions: NatsSessions, since: int
    ) -> None:
        await asyncio.sleep(SPREAD_S)
        try:
            for each in await sessions.missed(since, is_first=False):
                self._arrive_command(each)
        except BackendError as error:
            connection.drop(str(error).removeprefix("NATS: "))

    def _recheck(self, connection: NatsConnection, streams: Collection[Stream]) -> None:
        """Catches up once more: a server confirms a subscription before the others of its cluster know of it."""
        if connection.info.cluster and streams:
            self._start_recheck(self._recheck_later(connection, streams))

    def _start_recheck(self, recheck: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(recheck)
        self._rechecks.add(task)
        task.add_done_callback(self._rechecks.discard)

    async def _recheck_later(self, connection: NatsConnection, streams: Collection[Stream]) -> None:
        await asyncio.sleep(SPREAD_S)
        try:
            await self._newest(streams, self._recovery.resume_stream)
        except BackendError as error:
            connection.drop(str(error).removeprefix("NATS: "))

    # Canaries

    async def _send_canaries(self, connection: NatsConnection) -> None:
        subject = self._engine.subjects.canaries + self._engine.node
        while True:
            self._canary.clear()
            self._was_paused = self._patience is not None
            sent_at = perf_counter()
            connection.publish(subject, b"")
            try:
                # Not wait_for: that of Python 3.11 may swallow the cancellation at the end.
                async with asyncio.timeout(self._canary_interval_s):
                    await self._canary.wait()
            except asyncio.CancelledError:
                # A connection that ends, for example because the server is silent, takes the canary with it.
                self._counters.pubsub_canary_lost_total += connection.lost.done()
                raise
            except TimeoutError as error:
                if self._was_paused:
                    # It may not have been read, because deliveries lagged.
                    if self._patience is not None:
                        await asyncio.wait([self._patience])
                    continue
                self._counters.pubsub_canary_lost_total += 1
                reason = (
                    "what this node sends to itself has not come back within "
                    f"{self._canary_interval_s:g} s"
                )
                if not self._has_lost_canary:
                    _log.warning("Publications do not arrive: %s", reason)
                self._has_lost_canary = True
                raise BackendError(reason) from error
            if self._has_lost_canary:
                self._has_lost_canary = False
                _log.info("Publications arrive again")
            self._counters.pubsub_canary_seconds.observe(perf_counter() - sent_at)
            self._recovery.note_alive()
            await asyncio.sleep(self._canary_interval_s)

    def _take_canary(self, subject: bytes, headers: bytes, payload: bytes) -> None:
        self._canary.set()

    # Messages between nodes

    def send_to(self, node: str, message: bytes) -> None:
        """Sends a message to a node; it is lost if either node is away."""
        self._send_to(self._engine.subjects.peers + node, message)

    def send_to_all(self, message: bytes) -> None:
        """Sends a message to every node; it is lost for nodes that are away."""
        self._send_to(self._engine.subjects.all_peers, message)

    def _send_to(self, subject: str, message: bytes) -> None:
        if self._connection is not None and not self._connection.lost.done():
            with contextlib.suppress(BackendError):
                self._connection.publish(subject, message)

    def _take_peer_message(self, subject: bytes, headers: bytes, payload: bytes) -> None:
        self.on_message(payload)

    # Messages

    def _take(self, subject: bytes, headers: bytes, payload: bytes) -> None:
        position, previous = None, 0
        try:
            epoch = self._engine.subjects.epoch_of(subject)
            if epoch is not None:
                position = Position(epoch, int(wire.value_of(headers, b"Nats-Sequence") or 0))
                previous = int(wire.value_of(headers, b"Nats-Last-Sequence") or 0)
            publication = unpack(payload, position)
        except ValueError as error:
            _limited.warning(
                "A message on %.100s is not a publication: %s", subject.decode(), error
            )
            return
        self._recovery.receive(publication, previous)
        if self._patience is None:
            self._wait_for_deliveries()

    def _wait_for_deliveries(self) -> None:
        """Stops reading until deliveries have caught up, if they lag."""
        caught_up = self._caught_up()
        connection = self._connection
        if caught_up is None or connection is None:
            return
        connection.pause()
        self._was_paused = True
        self._patience = patience = asyncio.ensure_future(caught_up)
        patience.add_done_callback(lambda patience: self._go_on(patience, connection))

    def _go_on(self, patience: "asyncio.Future[None]", connection: NatsConnection) -> None:
        if self._patience is patience:
            self._patience = None
            connection.resume()

    def _take_command(self, subject: bytes, headers: bytes, payload: bytes) -> None:
        try:
            command = unpack_command(payload)
        except ValueError as error:
            _limited.warning("A message on %.100s is not a command: %s", subject.decode(), error)
            return
        if self._early is None:
            self._arrive_command(command)
        elif len(self._early) < EARLY_LIMIT:
            self._early.append(command)
        elif self._connection is not None:
            self._connection.drop(
                "too many remote disconnects arrived before the missed ones were read"
            )

    def _arrive_command(self, command: NumberedCommand) -> None:
        sessions = self._engine.sessions
        if sessions is None or sessions.received(command):
            self._recovery.receive(command.command)


async def _until_lost(connection: NatsConnection) -> None:
    await asyncio.wait([connection.lost])


def _pass_over(message: bytes) -> None:
    """No part of this node expects messages of others."""
