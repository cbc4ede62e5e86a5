"""Publications from a Redis pub/sub channel.

Every node receives every publication, so each node delivers to its own clients only.
Source: docs/broadcasting.md, "Redis Pub/Sub" (anycable).
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any, Final

import hiredis
from redis.asyncio import Redis

from catenary.adapters.ordered_intake import OrderedIntake
from catenary.adapters.redis.client import connect
from catenary.adapters.redis.connection import RedisConnection, close_client, open_connection, pack
from catenary.config.addresses import RedisAddress
from catenary.errors import BackendError
from catenary.metrics.counters import Counters
from catenary.supervision.backoff import Backoff
from catenary.supervision.service import Service, Supervisor

_log: Final = logging.getLogger("catenary.redis")


class RedisBroadcasts:
    """Subscribes to a channel while the server runs, and again after each outage of Redis.

    Publications during an outage are lost, as always with Redis pub/sub; the log shows when it began and ended.
    """

    __slots__ = (
        "_backoff",
        "_channel",
        "_client",
        "_connection",
        "_counters",
        "_intake",
        "_is_paused",
        "_keepalive_s",
        "_received",
        "_service",
        "trouble",
    )

    def __init__(
        self,
        address: RedisAddress,
        channel: str,
        publish: Callable[[bytes], Awaitable[None] | None],
        counters: Counters,
        supervisor: Supervisor | None = None,
    ) -> None:
        self.trouble: str | None = "not subscribed yet"
        """Why publications are not received at the moment; None if they are."""
        self._client: Redis = connect(address)
        self._keepalive_s = address.keepalive_s
        self._channel = channel
        self._counters = counters
        self._intake = OrderedIntake(publish, counters, pause=self._pause, resume=self._resume)
        self._service = Service("Redis broadcasts", self._listen, supervisor)
        self._backoff = Backoff()
        # The present connection
        self._connection: RedisConnection | None = None
        self._received = 0
        self._is_paused = False

    async def start(self) -> None:
        """Starts to subscribe; does not wait for Redis."""
        self._service.start()

    async def close(self, timeout_s: float) -> None:
        """Unsubscribes, and publishes what was received; what is not published in time is counted as lost."""
        await self._service.stop()
        try:
            async with asyncio.timeout(timeout_s):
                await self._intake.finish()
        except TimeoutError:
            lost = await self._intake.give_up()
            _log.warning(
                "%d publications on %s may be lost: the time for the shutdown is over",
                lost,
                self._channel,
            )
        await close_client(self._client)

    async def _listen(self) -> None:
        """Subscribes until it is stopped, with growing pauses while Redis is unavailable."""
        while True:
            try:
                reason = await self._subscribe()
            except BackendError as error:
                reason = str(error)
            finally:
                await self._disconnect()
            # A failed attempt to connect again is no further loss.
            self._counters.broadcaster_reconnects_total += self.trouble is None
            self.trouble = reason
            pause = self._backoff.failed()
            if pause.is_logged:
                _log.warning(
                    "Redis is away (%s): publications are lost until it is back; "
                    "attempt %d failed, next in %.1f s",
                    reason,
                    pause.failures,
                    pause.seconds,
                )
            await asyncio.sleep(pause.seconds)

    async def _subscribe(self) -> str:
        """Subscribes; returns the reason when the connection ends. Raises :class:`BackendError`."""
        connection = self._connection = await open_connection(self._client, self._on_reply)
        connection.write(pack("SUBSCRIBE", self._channel))
        while not connection.lost.done():
            received = self._received
            await asyncio.wait([connection.lost], timeout=self._keepalive_s)
            if self._received == received and not self._is_paused and not connection.lost.done():
                await self._ping(connection)
        return connection.lost.result()

    async def _ping(self, connection: RedisConnection) -> None:
        """Sends a ping, and drops the connection if nothing is received in time."""
        received = self._received
        connection.write(pack("PING"))
        await asyncio.wait([connection.lost], timeout=self._keepalive_s)
        if self._received == received and not self._is_paused:
            connection.drop(f"no answer to a ping within {self._keepalive_s:g} s")
            await connection.lost

    async def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        self._is_paused = False
        if connection is not None:
            await connection.close()

    # Receiving

    def _on_reply(self, reply: Any) -> None:
        self._received += 1
        if isinstance(reply, hiredis.ReplyError):
            if self._connection is not None:
                self._connection.drop(f"Redis refuses: {str(reply)[:200]}")
        elif reply[0] == b"message":
            self._intake.add(reply[2])
        elif reply[0] == b"subscribe":
            self.trouble = None
            if self._backoff.works():
                _log.info("Subscribed to the Redis channel %s", self._channel)

    def _pause(self) -> None:
        self._is_paused = True
        if self._connection is not None:
            self._connection.pause()

    def _resume(self) -> None:
        self._is_paused = False
        if self._connection is not None:
            self._connection.resume()
