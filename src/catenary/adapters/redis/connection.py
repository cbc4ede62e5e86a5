"""One open connection to Redis: chunks of bytes in, replies out, without a task or a wait.

redis-py opens it (TLS, passwords, databases, sentinels). From then on every chunk is parsed in one
go: that takes 0.2 µs for a short reply, and ``read_response`` of redis-py 2.7 µs.
Knows: RESP, version 2. Does not know: commands, what replies mean.
Source: redis.io, "Redis serialization protocol specification".
"""

import asyncio
from collections.abc import Callable
from typing import Any, Final, cast

import hiredis
from redis.asyncio import Redis
from redis.asyncio.connection import AbstractConnection
from redis.asyncio.sentinel import SentinelConnectionPool
from redis.exceptions import RedisError

from catenary.adapters.redis.client import CONNECT_TIMEOUT_S
from catenary.config.addresses import redis_reason
from catenary.errors import BackendError

LONGEST_PAUSE_S: Final = 2.0
"""Between two attempts to come back: clients wait for it."""

_MORE: Final = object()

Argument = str | bytes | int

_pack: Final = cast("Callable[[tuple[Argument, ...]], bytes]", hiredis.pack_command)


def pack(*args: Argument) -> bytes:
    """A command; text travels as UTF-8."""
    return _pack(args)


class Connection(asyncio.Protocol):
    """Bytes to and from Redis. ``lost`` is done when it is over, with the reason."""

    __slots__ = (
        "_opened",
        "_outgoing",
        "_parser",
        "_reason",
        "_take",
        "_transport",
        "lost",
    )

    def __init__(self, opened: AbstractConnection, take: Callable[[Any], None]) -> None:
        self._opened = opened
        self._take = take
        self._parser = hiredis.Reader(notEnoughData=_MORE)
        self._reason = "the connection was closed"
        self._outgoing: list[bytes] = []
        self.lost: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        # redis-py has no public name for it.
        writer = opened._writer  # noqa: SLF001
        assert writer is not None
        self._transport = cast("asyncio.Transport", writer.transport)
        self._transport.set_protocol(self)

    def data_received(self, data: bytes) -> None:
        """Parses, and gives every reply to whoever takes them, in order."""
        self._parser.feed(data)
        try:
            while (reply := self._parser.gets()) is not _MORE:
                self._take(reply)
        except hiredis.ProtocolError as error:
            self.drop(f"expected replies of Redis: {error}")

    def connection_lost(self, exc: Exception | None) -> None:
        if exc is not None:
            self._reason = str(exc) or type(exc).__name__
        if not self.lost.done():
            self.lost.set_result(self._reason)

    def write(self, packed: bytes) -> None:
        """Sends a command. All those of one turn of the loop leave together."""
        if not self._outgoing:
            asyncio.get_running_loop().call_soon(self.flush)
        self._outgoing.append(packed)

    def flush(self) -> None:
        """Sends what waits for the end of this turn."""
        outgoing, self._outgoing = self._outgoing, []
        if outgoing and not self._transport.is_closing():
            self._transport.write(b"".join(outgoing))

    def pause(self) -> None:
        """Reads no more for a while: what is on its way waits at Redis."""
        if not self._transport.is_closing():
            self._transport.pause_reading()

    def resume(self) -> None:
        """Reads on."""
        if not self._transport.is_closing():
            self._transport.resume_reading()

    def drop(self, reason: str) -> None:
        """Ends it at once."""
        self._reason = reason
        self._transport.abort()

    async def close(self) -> None:
        """Ends it, and returns when nothing of it is left."""
        self._transport.abort()
        try:
            await asyncio.wait([self.lost])
        finally:
            await self._opened.disconnect(nowait=True)


async def open_connection(client: Redis, take: Callable[[Any], None]) -> Connection:
    """Opens a connection; ``take`` gets every reply, errors as :class:`hiredis.ReplyError`.

    Raises :class:`BackendError` where Redis is away, is silent, or lets nobody in.
    """
    opened: AbstractConnection = client.connection_pool.make_connection()  # type: ignore[no-untyped-call]
    # Replies have one shape only, and none comes unasked for.
    opened.protocol = 2
    try:
        async with asyncio.timeout(CONNECT_TIMEOUT_S):
            await opened.connect()  # type: ignore[no-untyped-call]
    except (RedisError, OSError) as error:
        await opened.disconnect(nowait=True)
        reason = "no answer in time" if isinstance(error, TimeoutError) else redis_reason(error)
        raise BackendError(reason) from error
    except BaseException:
        await opened.disconnect(nowait=True)
        raise
    return Connection(opened, take)


async def close_client(client: Redis) -> None:
    """Ends what is left of a client: redis-py does not close its connections to sentinels."""
    await client.aclose()
    pool = client.connection_pool
    if isinstance(pool, SentinelConnectionPool):
        for sentinel in pool.sentinel_manager.sentinels:
            await sentinel.aclose()
