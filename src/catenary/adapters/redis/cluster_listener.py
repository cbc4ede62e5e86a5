"""The channels of streams on a Redis Cluster: each is subscribed to at the primary that has its slot.

A primary of Redis 7 sends messages to its own subscribers only, and not to the other shards (SSUBSCRIBE); an older one gets
SUBSCRIBE. If a slot moves, or a primary is replaced, the server ends the subscriptions of the slot (``sunsubscribe``), and the
channels have to be subscribed to again.
Knows: channels, slots, nodes. Does not know: streams, what was missed.
Source: redis.io, "Redis Pub/sub", section "Sharded Pub/sub"; "SSUBSCRIBE".
"""

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, Never

import hiredis

from catenary.adapters.pacing import paced
from catenary.adapters.redis.client import connect_to
from catenary.adapters.redis.cluster_commands import ClusterCommands
from catenary.adapters.redis.cluster_shard import Shard
from catenary.adapters.redis.commands import REPLY_TIMEOUT_S
from catenary.adapters.redis.connection import (
    RedisConnection,
    close_client,
    open_connection,
    pack,
)
from catenary.config.addresses import RedisAddress
from catenary.errors import BackendError
from catenary.protocols.redis_cluster import slot_of
from catenary.protocols.redis_errors import refusal

CHANNELS_AT_ONCE: Final = 1_000
"""Channels that wait for a confirmation."""

PAUSE_S: Final = 0.02
"""Time between two attempts to subscribe to a channel at the node that has it."""

_PING: Final = pack("PING", "")


class ShardListener:
    """The subscribing connection to one primary. ``channels`` are those that it has confirmed; its ``refusal`` is the last error.

    ``on_ended`` gets the channels that the server has ended, ``on_moved`` its refusals of a slot that it does not have, ``on_lost``
    the reason when the connection is lost.
    """

    def __init__(
        self,
        shard: Shard,
        on_message: Callable[[bytes, bytes], None],
        on_ended: Callable[["ShardListener", Iterable[bytes]], None],
        on_moved: Callable[[str, Shard], None],
        on_lost: Callable[["ShardListener", str], None],
    ) -> None:
        self.shard = shard
        self.channels: set[bytes] = set()
        self.refusal = ""
        self._on_message = on_message
        self._on_ended = on_ended
        self._on_moved = on_moved
        self._on_lost = on_lost
        self._connection: RedisConnection | None = None
        self._pings: deque[asyncio.Future[None]] = deque()
        # A server that is replaced by another version closes its connections.
        prefix = "S" if shard.is_sharded else ""
        self._subscribe = prefix + "SUBSCRIBE"
        self._unsubscribe = prefix + "UNSUBSCRIBE"

    @property
    def is_open(self) -> bool:
        return self._connection is not None and not self._connection.lost.done()

    def opened(self, connection: RedisConnection) -> None:
        """The connection can be used."""
        self._connection = connection
        connection.lost.add_done_callback(self._lost)

    async def subscribe(self, channels: Iterable[bytes]) -> None:
        """Returns when the server has confirmed or refused each. Raises :class:`BackendError`."""
        await self._change(self._subscribe, channels)

    async def unsubscribe(self, channels: Iterable[bytes]) -> None:
        """Returns when the server has confirmed or refused each. Raises :class:`BackendError`."""
        await self._change(self._unsubscribe, channels)

    async def ping(self, timeout_s: float = REPLY_TIMEOUT_S) -> None:
        """Returns when all that was sent is answered. Raises :class:`BackendError`, and TimeoutError."""
        if self._connection is None or not self.is_open:
            raise BackendError("the connection was closed")
        answered: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._pings.append(answered)
        self._connection.write(_PING)
        async with asyncio.timeout(timeout_s):
            await asyncio.shield(answered)

    def pause(self) -> None:
        if self._connection is not None:
            self._connection.pause()

    def resume(self) -> None:
        if self._connection is not None:
            self._connection.resume()

    def drop(self, reason: str) -> None:
        if self._connection is not None:
            self._connection.drop(reason)

    async def close(self) -> None:
        if self._connection is not None:
            await self._connection.close()

    async def _change(self, command: str, channels: Iterable[bytes]) -> None:
        if self._connection is None or not self.is_open:
            raise BackendError("the connection was closed")
        for channel in channels:
            # One each: the channels of a command must be in one slot.
            self._connection.write(pack(command, channel))
        try:
            await self.ping()
        except TimeoutError as error:
            raise BackendError(f"no answer to {command} in {REPLY_TIMEOUT_S:g} s") from error

    def on_reply(self, reply: Any) -> None:
        """Takes a message, a confirmation or an error."""
        if isinstance(reply, hiredis.ReplyError):
            error = str(reply)
            if error.startswith("MOVED "):
                self._on_moved(error, self.shard)
            self.refusal = refusal(error)
            return
        if not isinstance(reply, list):
            self._pong()  # without a channel, the connection is an ordinary one
            return
        kind = reply[0]
        if kind in (b"smessage", b"message"):
            self._on_message(reply[1], reply[2])
        elif kind in (b"ssubscribe", b"subscribe"):
            self.channels.add(reply[1])
        elif kind in (b"sunsubscribe", b"unsubscribe"):
            self.channels.discard(reply[1])
            self._on_ended(self, (reply[1],))
        else:
            self._pong()

    def _pong(self) -> None:
        if self._pings:
            answered = self._pings.popleft()
            if not answered.done():
                answered.set_result(None)

    def _lost(self, lost: "asyncio.Future[str]") -> None:
        while self._pings:
            answered = self._pings.popleft()
            if not answered.done():
                answered.set_exception(BackendError(lost.result()))
                answered.exception()
        self._on_lost(self, lost.result())
        self.channels.clear()


class ClusterListener:
    """Subscribes where the slots are. ``on_message`` gets the channel and the content of each message."""

    def __init__(
        self,
        address: RedisAddress,
        commands: ClusterCommands,
        on_message: Callable[[bytes, bytes], None],
    ) -> None:
        self._address = address
        self._commands = commands
        self._on_message = on_message
        self._listeners: dict[Shard, ShardListener] = {}
        self._opening = asyncio.Lock()
        # The channels, and where each was subscribed to last
        self._wanted: dict[bytes, ShardListener | None] = {}
        self._ended: dict[bytes, None] = {}
        self._has_ended = asyncio.Event()
        self._lost_reason = ""
        self._is_paused = False

    async def subscribe(self, channels: Sequence[bytes]) -> None:
        """Returns when all are subscribed to. Raises :class:`BackendError`."""
        for channel in channels:
            self._wanted.setdefault(channel)
        for start in range(0, len(channels), CHANNELS_AT_ONCE):
            await self._settle(channels[start : start + CHANNELS_AT_ONCE])

    async def unsubscribe(self, channels: Sequence[bytes]) -> None:
        """Returns when all servers have confirmed it. Raises :class:`BackendError`."""
        for start in range(0, len(channels), CHANNELS_AT_ONCE):
            by_listener: dict[ShardListener, list[bytes]] = {}
            for channel in channels[start : start + CHANNELS_AT_ONCE]:
                listener = self._wanted.pop(channel, None)
                self._ended.pop(channel, None)
                if listener is not None and listener.is_open:
                    by_listener.setdefault(listener, []).append(channel)
            for listener, some in by_listener.items():
                await listener.unsubscribe(some)

    async def ended(self) -> list[bytes]:
        """Waits until servers have ended subscriptions; returns the channels, which have to be subscribed to again.

        All that was sent to a channel before has arrived. That can't be said of a connection that was lost: raises :class:`BackendError`
        when its node, or another one in its place, can be used.
        """
        while True:
            await self._has_ended.wait()
            self._has_ended.clear()
            if self._lost_reason:
                while self._commands.trouble is not None:  # noqa: ASYNC110
                    await asyncio.sleep(PAUSE_S)
                raise BackendError(self._lost_reason)
            ended = [each for each in self._ended if each in self._wanted]
            self._ended.clear()
            if ended:
                return ended

    async def watch(self, every_s: float) -> Never:
        """Drops connections that do not answer within ``every_s``. Finds channels whose slots have left a node that does not say so,
        as before Redis 7: they are :meth:`ended`.
        """
        moves_num = self._commands.moves_num
        while True:
            await asyncio.sleep(every_s)
            await asyncio.gather(*(self._check(each, every_s) for each in self._open()))
            if self._commands.moves_num != moves_num:
                moves_num = self._commands.moves_num
                async for channel, listener in paced(list(self._wanted.items())):
                    if listener is not None and listener.shard is not self._shard_of(channel):
                        self._note_ended(listener, (channel,))

    def pause(self) -> None:
        """Stops reading."""
        self._is_paused = True
        for each in self._open():
            each.pause()

    def resume(self) -> None:
        """Reads on."""
        self._is_paused = False
        for each in self._open():
            each.resume()

    async def close(self) -> None:
        """Closes all connections; nothing is subscribed to any more."""
        self._wanted.clear()
        self._ended.clear()
        self._has_ended.clear()
        listeners, self._listeners = self._listeners, {}
        self._is_paused = False
        for each in listeners.values():
            await each.close()
        self._lost_reason = ""

    def _open(self) -> list[ShardListener]:
        return [each for each in self._listeners.values() if each.is_open]

    async def _check(self, listener: ShardListener, timeout_s: float) -> None:
        was_paused = self._is_paused
        try:
            await listener.ping(timeout_s)
        except BackendError:
            return
        except TimeoutError:
            if not was_paused and not self._is_paused:
                listener.drop(f"no answer within {timeout_s:g} s")

    def _shard_of(self, channel: bytes) -> Shard | None:
        return self._commands.shard_of(slot_of(channel))

    async def _settle(self, channels: Sequence[bytes]) -> None:
        """Tries until all are subscribed to where their slots are."""
        loop = asyncio.get_running_loop()
        give_up_at = loop.time() + REPLY_TIMEOUT_S
        reason = ""
        pending = list(channels)
        while True:
            by_shard: dict[Shard | None, list[bytes]] = {}
            for channel in pending:
                by_shard.setdefault(self._shard_of(channel), []).append(channel)
            for shard, some in by_shard.items():
                try:
                    reason = await self._subscribe_at(shard, some) or reason
                except BackendError as error:
                    reason = str(error)
            pending = [each for each in pending if self._is_missing(each)]
            if not pending:
                return
            if loop.time() >= give_up_at:
                raise BackendError(reason or "no node of the Redis Cluster has a slot")
            self._commands.suspect()
            await asyncio.sleep(PAUSE_S)

    async def _subscribe_at(self, shard: Shard | None, channels: list[bytes]) -> str:
        """Returns the last refusal. Raises :class:`BackendError`."""
        if shard is None or shard.trouble is not None:
            raise BackendError((shard and shard.trouble) or "the Redis Cluster is away")
        listener = await self._listener(shard)
        former: dict[ShardListener, list[bytes]] = {}
        wanted = []
        for channel in channels:
            if channel not in self._wanted:
                continue
            before = self._wanted[channel]
            if before is not None and before is not listener and channel in before.channels:
                former.setdefault(before, []).append(channel)
            self._wanted[channel] = listener
            wanted.append(channel)
        listener.refusal = ""
        await listener.subscribe(wanted)
        for before, some in former.items():
            if before.is_open:
                await before.unsubscribe(some)
        if self._is_paused:
            listener.pause()
        return listener.refusal

    def _is_missing(self, channel: bytes) -> bool:
        if channel not in self._wanted:
            return False
        listener = self._wanted[channel]
        return listener is None or channel not in listener.channels

    async def _listener(self, shard: Shard) -> ShardListener:
        """The open connection to a node. Raises :class:`BackendError`."""
        async with self._opening:
            listener = self._listeners.get(shard)
            if listener is not None and listener.is_open:
                return listener
            if listener is not None:
                await listener.close()
            client = connect_to(self._address, self._commands.server(shard.place))
            listener = ShardListener(
                shard, self._on_message, self._note_ended, self._commands.learn, self._note_lost
            )
            try:
                listener.opened(await open_connection(client, listener.on_reply))
            finally:
                await close_client(client)
            self._listeners[shard] = listener
            return listener

    def _note_lost(self, listener: ShardListener, reason: str) -> None:
        if any(self._wanted.get(each) is listener for each in listener.channels):
            self._lost_reason = f"{listener.shard.place.host}:{listener.shard.place.port}: {reason}"
            self._has_ended.set()

    def _note_ended(self, listener: ShardListener, channels: Iterable[bytes]) -> None:
        ended = [each for each in channels if self._wanted.get(each) is listener]
        if ended:
            self._ended.update(dict.fromkeys(ended))
            self._has_ended.set()
