"""Receives publications from a Redis Cluster: those of a stream from the primary that has its slot.

Remote commands, messages between nodes and canaries use the channels of the whole cluster. So do publications on streams whose
slot moves at that moment, or has moved just now: subscribers may not be where the message is stored.
Knows: streams, what has to be recovered. Does not know: slots, connections to nodes.
Source: redis.io, "Redis Pub/sub", section "Sharded Pub/sub".
"""

from collections.abc import Coroutine, Sequence
from typing import Any

from catenary.adapters.pacing import paced
from catenary.adapters.redis.cluster_commands import ClusterCommands
from catenary.adapters.redis.cluster_listener import ClusterListener
from catenary.adapters.redis.engine import RedisEngine
from catenary.adapters.redis.pubsub import RedisPubSub
from catenary.messages.names import Stream


class ClusterPubSub(RedisPubSub):
    """:class:`RedisPubSub` for a cluster."""

    __slots__ = ("_listener", "_moving")

    def _build_listeners(self, engine: RedisEngine) -> None:
        assert isinstance(engine.commands, ClusterCommands)
        self._moving = engine.names.moving
        self._listener = ClusterListener(engine.address, engine.commands, self._on_message)

    def _own_channels(self) -> list[bytes]:
        return [*super()._own_channels(), self._moving]

    def _on_message(self, channel: bytes, content: bytes) -> None:
        if channel == self._moving:
            size, _, rest = content.partition(b" ")
            if not size.isdigit():
                size, rest = b"0", content
            channel, content = rest[: int(size)], rest[int(size) :]
        super()._on_message(channel, content)

    async def _subscribe(self, command: str, streams: Sequence[Stream]) -> None:
        channels = [self._channels.of(each) for each in streams]
        if command == "SUBSCRIBE":
            await self._listener.subscribe(channels)
        else:
            await self._listener.unsubscribe(channels)

    def _followers(self) -> tuple[Coroutine[Any, Any, None], ...]:
        return (
            *super()._followers(),
            self._follow_moves(),
            self._listener.watch(self._canary_interval_s),
        )

    async def _follow_moves(self) -> None:
        """Subscribes again where servers have ended it, and recovers what was published meanwhile."""
        while True:
            channels = await self._listener.ended()
            await self._listener.subscribe(channels)
            if self._history is None:
                continue
            streams = [Stream(each[self._channels.name].decode()) for each in channels]
            newest = await self._newest(self._history, streams)
            async for stream, position in paced(newest.items()):
                self._recovery.resume_stream(stream, position)

    def _pause(self) -> None:
        super()._pause()
        self._listener.pause()

    def _read_on(self) -> None:
        super()._read_on()
        self._listener.resume()

    async def _disconnect(self) -> None:
        try:
            await super()._disconnect()
        finally:
            await self._listener.close()
