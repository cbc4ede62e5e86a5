"""Receives publications of all nodes over Redis pub/sub; ``sender.py`` sends them.

The script that stores a message publishes it, so all nodes receive messages in the order of their offsets.
The subscribing connection has the channels of the streams with subscribers on this node, the channel of remote
commands, and a channel of its own: a canary must arrive on it every few
seconds, else the connection is considered dead and opened again. Missed messages are recovered.
Knows: channels. Does not know: subscribers, how gaps are closed, how publications are packed.
Source: redis.io, "Redis Pub/sub".
"""

import asyncio
import logging
import secrets
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Sequence
from time import perf_counter
from typing import Any, Final, Never

import hiredis

from catenary.adapters import packing
from catenary.adapters.interest import StreamInterest
from catenary.adapters.pacing import paced
from catenary.adapters.packing import NumberedCommand
from catenary.adapters.redis import payload
from catenary.adapters.redis.client import connect
from catenary.adapters.redis.cluster_sender import ClusterSender
from catenary.adapters.redis.commands import REPLY_TIMEOUT_S
from catenary.adapters.redis.connection import (
    LONGEST_PAUSE_S,
    RedisConnection,
    close_client,
    open_connection,
    pack,
)
from catenary.adapters.redis.engine import RedisEngine
from catenary.adapters.redis.history import RedisHistory
from catenary.adapters.redis.sender import RedisSender
from catenary.adapters.stream_recovery import StreamRecovery
from catenary.errors import BackendError
from catenary.logs.rate_limited import RateLimitedLogger
from catenary.messages.names import Stream
from catenary.messages.publications import Position, Publication
from catenary.protocols.redis_errors import refusal
from catenary.supervision.backoff import Backoff
from catenary.supervision.service import Service, Supervisor, until_first_ends

_log: Final = logging.getLogger("catenary.pubsub")
_limited: Final = RateLimitedLogger(_log)

CHANNELS_AT_ONCE: Final = 1_000
"""Channels in one command; the replies to it have 100 KB."""

EARLY_LIMIT: Final = 10_000
"""Messages that are kept while the node determines what it has missed."""


class RedisPubSub:
    """Satisfies :class:`catenary.ports.PubSub` and :class:`catenary.ports.Peers`.

    ``on_restored`` is called when the connection is restored after an outage.
    ``caught_up`` returns an awaitable while deliveries do not keep up: Redis is not read meanwhile. If that takes too
    long, Redis closes the connection, and messages are recovered from the history.
    """

    __slots__ = (
        "_all_peers",
        "_canaries_due",
        "_canary",
        "_canary_channel",
        "_canary_interval_s",
        "_catching_up",
        "_caught_up",
        "_channel",
        "_channels",
        "_client",
        "_commands",
        "_confirmed",
        "_connection",
        "_counters",
        "_early",
        "_history",
        "_interest",
        "_on_restored",
        "_peers",
        "_recovery",
        "_service",
        "_sessions",
        "_trouble",
        "_unconfirmed",
        "_was_paused",
        "_was_up",
        "node",
        "on_message",
        "relay",
        "send",
    )

    def __init__(
        self,
        engine: RedisEngine,
        interest: StreamInterest,
        recovery: StreamRecovery,
        *,
        on_restored: Callable[[], None] = lambda: None,
        caught_up: Callable[[], Awaitable[None] | None] = lambda: None,
        canary_interval_s: float = 3.0,
        supervisor: Supervisor | None = None,
    ) -> None:
        # Assigned, because a method that only passes publications on would cost one more call for each.
        sender = ClusterSender(engine) if engine.names.has_slots else RedisSender(engine)
        self.send = sender.send
        self.relay = sender.relay
        self._client = connect(engine.address)
        self._commands = engine.commands
        self._history = engine.history
        self._sessions = engine.sessions
        self._counters = engine.counters
        self._interest = interest
        self._recovery = recovery
        self._on_restored = on_restored
        self._caught_up = caught_up
        # Names; no channel of a stream has a "#" in this place
        self._channel = engine.names.channel.encode()
        self._channels = engine.names.channels
        self.node = secrets.token_hex(8)
        self._canary_channel = self._channel + b"#" + self.node.encode()
        self._peers = self._channel + b"#to:"
        self._all_peers = self._channel + b"#to-all"
        self.on_message: Callable[[bytes], None] = _pass_over
        # The present connection
        self._service = Service("Redis pub/sub", self._keep_subscribed, supervisor)
        self._connection: RedisConnection | None = None
        self._trouble: str | None = "not subscribed yet"
        self._was_up = False
        self._catching_up: asyncio.Future[None] | None = None
        # Channels that Redis has not confirmed
        self._unconfirmed = 0
        self._confirmed: asyncio.Future[None] | None = None
        # Messages that arrived before it was known what was missed
        self._early: deque[Publication | NumberedCommand] | None = None
        # Whether messages arrive
        self._canary = asyncio.Event()
        self._canaries_due = 0
        self._canary_interval_s = canary_interval_s
        self._was_paused = False
        self._build_listeners(engine)

    def _build_listeners(self, engine: RedisEngine) -> None:
        """Builds other connections that receive messages. This one has none."""

    @property
    def trouble(self) -> str | None:
        """Why publications can't be received or sent at the moment; None if they can."""
        return self._trouble or self._commands.trouble

    @property
    def waiting_num(self) -> int:
        """Number of commands that wait for Redis."""
        return self._commands.waiting_num

    async def start(self) -> None:
        """Starts to subscribe; does not wait for Redis."""
        self._service.start()

    async def close(self, timeout_s: float) -> None:
        """Unsubscribes."""
        await self._service.stop()
        await self._recovery.close()
        await close_client(self._client)

    # Messages between nodes

    def send_to(self, node: str, message: bytes) -> None:
        """Sends a message to a node; it is lost if either node is away."""
        self._send_to(self._peers + node.encode(), message)

    def send_to_all(self, message: bytes) -> None:
        """Sends a message to every node; it is lost for nodes that are away."""
        self._send_to(self._all_peers, message)

    def _send_to(self, channel: bytes, message: bytes) -> None:
        sent = self._commands.call("PUBLISH", channel, message)
        sent.add_done_callback(_pass_over_failure)

    # Receiving

    def _on_reply(self, reply: Any) -> None:
        """Takes a message or a confirmation of the subscribing connection."""
        if isinstance(reply, hiredis.ReplyError):
            self._drop(refusal(str(reply)))
            return
        kind, channel, content = reply
        if kind == b"message":
            self._on_message(channel, content)
            return
        self._unconfirmed -= 1
        if self._unconfirmed == 0 and self._confirmed is not None and not self._confirmed.done():
            self._confirmed.set_result(None)

    def _on_message(self, channel: bytes, content: bytes) -> None:
        try:
            if channel.startswith(self._channels.start):
                stream = Stream(channel[self._channels.name].decode())
                self._arrive(payload.unpack(stream, content))
            elif channel == self._canary_channel:
                self._canaries_due -= 1
                if self._canaries_due <= 0:
                    self._canary.set()
            elif channel == self._all_peers or channel.startswith(self._peers):
                self.on_message(content)
            else:
                self._arrive_command(packing.unpack_command(content))
        except ValueError as error:
            # Another program publishes on this channel.
            _limited.warning("Malformed message on %.100r, not from a node: %s", channel, error)
            return
        if self._catching_up is None:
            self._wait_for_deliveries()

    def _arrive(self, publication: Publication) -> None:
        if self._early is None:
            self._follow_on(publication)
        elif len(self._early) < EARLY_LIMIT:
            self._early.append(publication)
        elif publication.position is None:
            self._counters.pubsub_gaps_total += 1
        # Any other is in the history: it arrived before the newest position was requested.

    def _arrive_command(self, command: NumberedCommand) -> None:
        if self._early is None:
            self._follow_command(command)
        elif len(self._early) < EARLY_LIMIT:
            self._early.append(command)
        # Any other is read with the missed ones.

    def _follow_on(self, publication: Publication) -> None:
        position = publication.position
        self._recovery.receive(publication, position.offset - 1 if position else 0)

    def _follow_command(self, command: NumberedCommand) -> None:
        if self._sessions is None or self._sessions.received(command):
            self._recovery.receive(command.command)

    def _wait_for_deliveries(self) -> None:
        """Stops reading until deliveries have caught up, if they lag."""
        caught_up = self._caught_up()
        if caught_up is None or self._connection is None:
            return
        self._pause()
        self._was_paused = True
        self._catching_up = asyncio.ensure_future(caught_up)
        self._catching_up.add_done_callback(self._go_on)

    def _go_on(self, catching_up: "asyncio.Future[None]") -> None:
        if self._catching_up is catching_up and self._connection is not None:
            self._catching_up = None
            self._read_on()

    def _drop(self, reason: str) -> None:
        if self._connection is not None:
            self._connection.drop(reason)

    # Staying subscribed

    async def _keep_subscribed(self) -> None:
        backoff = Backoff(LONGEST_PAUSE_S)
        while True:
            try:
                await self._connect_once(backoff)
            except BackendError as error:
                reason = str(error)
                # A failed attempt to connect again is no further loss.
                self._counters.pubsub_reconnects_total += self._trouble is None
            finally:
                self._trouble = "not subscribed"
                self._interest.down()
                await self._disconnect()
            pause = backoff.failed()
            if pause.is_logged:
                _log.warning("Publications do not arrive: %s", reason)
            self._trouble = f"publications do not arrive: {reason}"
            await asyncio.sleep(pause.seconds)

    async def _connect_once(self, backoff: Backoff) -> Never:
        """Raises :class:`BackendError` when the connection is lost; never returns."""
        replaced = self._commands.replaced
        connection = self._connection = await open_connection(self._client, self._on_reply)
        await until_first_ends(_raise_when(connection.lost, replaced), self._follow(backoff))
        raise BackendError("the subscription has ended")

    async def _follow(self, backoff: Backoff) -> None:
        """Subscribes to all streams, recovers what was missed, and then applies changes."""
        streams = self._interest.up()
        self._early = deque() if self._history is not None else None
        await self._send_command("SUBSCRIBE", self._own_channels())
        await self._subscribe("SUBSCRIBE", streams)
        self._catching_up = None  # so that only this method resumes reading
        self._pause()
        await self._resume(streams)
        self._read_on()
        self._is_up(is_logged=backoff.works())
        await until_first_ends(*self._followers())

    def _own_channels(self) -> list[bytes]:
        """The channels that are not of a stream."""
        own = (self._canary_channel, self._peers + self.node.encode())
        return [self._channel, *own, self._all_peers]

    def _followers(self) -> tuple[Coroutine[Any, Any, None], ...]:
        """The tasks of a connection, as coroutines."""
        return self._follow_changes(), self._send_canaries()

    def _pause(self) -> None:
        if self._connection is not None:
            self._connection.pause()

    def _read_on(self) -> None:
        if self._connection is not None:
            self._connection.resume()

    def _is_up(self, *, is_logged: bool) -> None:
        self._trouble = None
        if self._was_up:
            asyncio.get_running_loop().call_soon(self._on_restored)
        if is_logged and self._was_up:
            _log.warning("Publications arrive again")
        elif is_logged:
            _log.info("Listening to publications of all nodes")
        self._was_up = True

    async def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        self._catching_up = None
        if connection is not None:
            await connection.close()

    async def _resume(self, streams: Sequence[Stream]) -> None:
        """All streams are subscribed to: recovers what was published before.

        New messages wait until then: the first one of a new epoch would hide missed ones of the old epoch.
        """
        if self._history is None:
            return
        await self._catch_up_commands()
        newest = await self._newest(self._history, streams)
        async for stream, position in paced(newest.items()):
            self._recovery.resume_stream(stream, position)
        async for each in paced(self._take_early()):
            if isinstance(each, NumberedCommand):
                self._follow_command(each)
            else:
                self._follow_on(each)

    async def _newest(
        self, history: RedisHistory, streams: Sequence[Stream]
    ) -> dict[Stream, Position | None]:
        """The newest positions of streams that have subscribers. Raises :class:`BackendError`."""
        cursors = self._interest.cursors
        known: list[Stream] = []
        unknown: list[Stream] = []
        async for stream in paced(streams):
            cursor = cursors.get(stream)
            if cursor is not None:
                (unknown if cursor.position is None else known).append(stream)
        return {
            **await history.newest(known, begin=False),
            **await history.newest(unknown, begin=True),
        }

    def _take_early(self) -> Iterator[Publication | NumberedCommand]:
        """The connection is paused: nothing else arrives between two steps."""
        while self._early:
            yield self._early.popleft()
        self._early = None

    async def _catch_up_commands(self) -> None:
        """Reads the remote disconnects that were sent during the outage.

        Those from before the first subscription concern none of its clients.
        """
        if self._sessions is None:
            return
        async for each in paced(await self._sessions.missed(is_first=not self._was_up)):
            if self._sessions.received(each) and self._was_up:
                self._recovery.receive(each.command)

    async def _follow_changes(self) -> None:
        """Subscribes and unsubscribes as the interest of this node changes."""
        while True:
            changes = await self._interest.changes()
            if self._history is not None:
                # Before the subscription: a message that is published in between shows as a gap.
                newest = await self._history.newest(changes.added, begin=True)
                async for stream, position in paced(newest.items()):
                    self._recovery.begin_stream(stream, position)
            await self._subscribe("UNSUBSCRIBE", changes.removed)
            await self._subscribe("SUBSCRIBE", changes.added)
            self._interest.in_force(changes)

    async def _subscribe(self, command: str, streams: Sequence[Stream]) -> None:
        """Returns when Redis has confirmed the channels of all streams."""
        for start in range(0, len(streams), CHANNELS_AT_ONCE):
            some = streams[start : start + CHANNELS_AT_ONCE]
            await self._send_command(command, [self._channels.of(each) for each in some])

    async def _send_command(self, command: str, channels: Sequence[bytes]) -> None:
        """Returns when Redis has confirmed every channel."""
        connection = self._connection
        assert connection is not None
        self._unconfirmed = len(channels)
        self._confirmed = asyncio.get_running_loop().create_future()
        connection.write(pack(command, *channels))
        try:
            async with asyncio.timeout(REPLY_TIMEOUT_S):
                await self._confirmed
        except TimeoutError as error:
            raise BackendError(f"no answer to {command} in {REPLY_TIMEOUT_S:g} s") from error

    async def _send_canaries(self) -> None:
        """Raises :class:`BackendError` if a canary does not arrive in time."""
        loop = asyncio.get_running_loop()
        while True:
            began = loop.time()
            self._canary.clear()
            self._was_paused = self._catching_up is not None
            sent_at = perf_counter()
            published = self._commands.call_all("PUBLISH", self._canary_channel, b"")
            self._canaries_due = len(published)
            try:
                async with asyncio.timeout(self._canary_interval_s):
                    await asyncio.gather(*published)
                    await self._canary.wait()
            except TimeoutError:
                # If reading was paused, the canary may wait in the socket.
                if not self._was_paused:
                    self._counters.pubsub_canary_lost_total += 1
                    raise BackendError(
                        f"a canary did not arrive within {self._canary_interval_s:g} s"
                    ) from None
            except BackendError:
                # It was not sent: that says nothing about the subscribing connection.
                pass
            else:
                self._counters.pubsub_canary_seconds.observe(perf_counter() - sent_at)
                self._recovery.note_alive()
            await asyncio.sleep(began + self._canary_interval_s - loop.time())


def _pass_over(message: bytes) -> None:
    """No part of this node expects messages of others."""


def _pass_over_failure(sent: "asyncio.Future[Any]") -> None:
    if not sent.cancelled():
        sent.exception()


async def _raise_when(*lost: "asyncio.Future[str]") -> None:
    done, _ = await asyncio.wait(lost, return_when=asyncio.FIRST_COMPLETED)
    raise BackendError(done.pop().result())
