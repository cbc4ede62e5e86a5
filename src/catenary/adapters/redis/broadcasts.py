"""Publications from a Redis pub/sub channel.

Every node hears every publication, so each delivers to its own clients alone.
Source: docs/broadcasting.md, "Redis Pub/Sub" (anycable).
"""

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable
from typing import Any, Final

from redis.asyncio import Redis
from redis.asyncio.client import PubSub
from redis.exceptions import RedisError
from redis.exceptions import TimeoutError as RedisTimeout

from catenary.adapters.redis.client import connect
from catenary.config.addresses import RedisAddress
from catenary.errors import BackendError, PublicationError
from catenary.metrics.counters import Counters

_log: Final = logging.getLogger("catenary.redis")

MAX_DELAY_S: Final = 5.0
"""The longest pause between two attempts to come back."""


class RedisBroadcasts:
    """Listens to a channel for as long as the server runs, whatever becomes of Redis.

    What is published while Redis is away, or before the subscription is back, is lost: that is what
    Redis pub/sub promises, and the log says from when to when.
    """

    __slots__ = ("_channel", "_client", "_counters", "_keepalive_s", "_publish", "_task")

    def __init__(
        self,
        address: RedisAddress,
        channel: str,
        publish: Callable[[bytes], Awaitable[None] | None],
        counters: Counters,
    ) -> None:
        self._client: Redis = connect(address)
        self._keepalive_s = address.keepalive_s
        self._channel = channel
        self._publish = publish
        self._counters = counters
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begins to listen; does not wait for Redis, which may come later."""
        self._task = asyncio.get_running_loop().create_task(self._listen())

    async def close(self, timeout_s: float) -> None:
        """Stops listening."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task], timeout=timeout_s)
        await self._client.aclose()

    async def _listen(self) -> None:
        """Subscribes, again and again, with longer and longer pauses while Redis is away."""
        attempt = 0
        while True:
            try:
                async with self._client.pubsub() as pubsub:
                    await pubsub.subscribe(self._channel)
                    while True:
                        message = await self._next(pubsub)
                        if message["type"] == "subscribe":
                            attempt = 0
                            _log.info("Subscribed to the Redis channel %s", self._channel)
                        elif message["type"] == "message":
                            await self._take(message["data"])
            except (RedisError, OSError) as error:
                delay_s = _delay_s(attempt)
                attempt += 1
                self._counters.broadcaster_reconnects_total += 1
                _log.warning(
                    "Redis is away (%s): publications are lost until it is back; "
                    "next attempt in %.1f s",
                    error,
                    delay_s,
                )
                await asyncio.sleep(delay_s)

    async def _next(self, pubsub: PubSub) -> dict[str, Any]:
        """The next message. A Redis that says nothing for long is asked whether it is there.

        Raises redis.exceptions.TimeoutError where it does not answer.
        """
        message: dict[str, Any] | None = await pubsub.get_message(timeout=self._keepalive_s)
        if message is None:
            await pubsub.ping()
            message = await pubsub.get_message(timeout=self._keepalive_s)
        if message is None:
            raise RedisTimeout(f"no answer to a ping within {self._keepalive_s:g} s")
        return message

    async def _take(self, raw: bytes) -> None:
        try:
            sent = self._publish(raw)
        except PublicationError:
            # Counted and logged by the node; nobody is there to be told.
            return
        if sent is None:
            return
        try:
            await sent
        except BackendError as error:
            self._counters.lost_publications_total += 1
            _log.warning("A publication is lost: %s; it begins with %.100r", error, raw[:100])


def _delay_s(attempt: int) -> float:
    """0.1 s, doubled each time, and never the same for all nodes."""
    # 0.1 * 2**6 is more than the longest already; a float overflows at 2**1024.
    return min(0.1 * 2.0 ** min(attempt, 6), MAX_DELAY_S) * random.uniform(0.75, 1.25)  # noqa: S311
