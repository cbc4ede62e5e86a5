"""One open connection to Redis: bytes in, replies out, without a task.

redis-py opens it (TLS, passwords, databases, sentinels). Afterwards, this module parses what is read: 0.2 µs for a
short reply instead of 2.7 µs in ``read_response`` of redis-py.
Knows: RESP, version 2. Does not know: commands, the meaning of replies.
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
"""Longest pause between two attempts to connect; clients wait for it."""

REPLIES_AT_ONCE: Final = 250
"""Replies that are taken in one turn of the event loop: up to 2 ms if they are messages."""

FEED_BYTES: Final = 16_384
"""Bytes that the parser gets at once: it moves all that it has not parsed after each KB."""

_MORE: Final = object()

Argument = str | bytes | int

_pack: Final = cast("Callable[[tuple[Argument, ...]], bytes]", hiredis.pack_command)


def pack(*args: Argument) -> bytes:
    """Encodes a command, text as UTF-8."""
    return _pack(args)


class RedisConnection(asyncio.Protocol):
    """Bytes to and from Redis. ``lost`` is done when the connection is closed, with the reason.

    A read of the socket may hold thousands of replies: they are taken over several turns of the event loop, and the
    socket is not read meanwhile.
    """

    __slots__ = (
        "_call_soon",
        "_data",
        "_has_rest",
        "_is_due",
        "_is_over",
        "_is_paused",
        "_offset",
        "_on_reply",
        "_opened",
        "_outgoing",
        "_parser",
        "_reason",
        "_transport",
        "lost",
    )

    def __init__(self, opened: AbstractConnection, on_reply: Callable[[Any], None]) -> None:
        self._opened = opened
        self._on_reply = on_reply
        self._parser = hiredis.Reader(notEnoughData=_MORE)
        self._reason = "the connection was closed"
        self._outgoing: list[bytes] = []
        loop = asyncio.get_running_loop()
        self._call_soon = loop.call_soon
        self.lost: asyncio.Future[str] = loop.create_future()
        # The last read, and the offset up to which the parser has it
        self._data = b""
        self._offset = 0
        # Are there replies that have not been taken? Are some to be taken in the next turn?
        self._has_rest = False
        self._is_due = False
        self._is_paused = False
        self._is_over = False
        # redis-py has no public name for it.
        writer = opened._writer  # noqa: SLF001
        assert writer is not None
        self._transport = cast("asyncio.Transport", writer.transport)
        self._transport.set_protocol(self)

    # Reading

    def data_received(self, data: bytes) -> None:
        """Parses, and takes every reply in order."""
        if self._has_rest:
            self._data = self._data[self._offset :] + data
            self._offset = 0
            return
        self._data, self._offset = data, 0
        self._take_some()

    def connection_lost(self, exc: Exception | None) -> None:
        if exc is not None:
            self._reason = str(exc) or type(exc).__name__
        self._is_over = True
        if self._has_rest:
            self._take_later()
        else:
            self._end()

    def _take_some(self) -> None:
        """Takes as many replies as one turn has room for."""
        self._is_due = False
        try:
            self._has_rest, had_rest = self._has_more(), self._has_rest
        except hiredis.ProtocolError as error:
            self._has_rest, had_rest = False, True
            self.drop(f"expected replies of Redis: {error}")
        except BaseException:
            self._has_rest = False
            self.drop("a reply could not be handled")
            raise
        if self._has_rest:
            self._pause_transport()
            if self._is_over or not self._is_paused:
                self._take_later()
        elif self._is_over:
            self._end()
        elif had_rest and not self._is_paused:
            self._resume_transport()

    def _has_more(self) -> bool:
        """Takes replies; returns whether there may be more. Raises :class:`hiredis.ProtocolError`."""
        parser, data = self._parser, self._data
        for _ in range(REPLIES_AT_ONCE):
            while (reply := parser.gets()) is _MORE:
                fed = min(len(data) - self._offset, FEED_BYTES)
                if fed == 0:
                    self._data = b""
                    return False
                parser.feed(data, self._offset, fed)
                self._offset += fed
            self._on_reply(reply)
        return True

    def _take_later(self) -> None:
        if not self._is_due:
            self._is_due = True
            self._call_soon(self._take_some)

    def _end(self) -> None:
        if not self.lost.done():
            self.lost.set_result(self._reason)

    def pause(self) -> None:
        """Stops reading for a while: later replies wait at Redis. Those of this turn are still taken."""
        self._is_paused = True
        self._pause_transport()

    def resume(self) -> None:
        """Reads on."""
        self._is_paused = False
        if self._has_rest:
            self._take_later()
        else:
            self._resume_transport()

    def _pause_transport(self) -> None:
        if not self._transport.is_closing():
            self._transport.pause_reading()

    def _resume_transport(self) -> None:
        if not self._transport.is_closing():
            self._transport.resume_reading()

    # Writing

    def write(self, packed: bytes) -> None:
        """Sends a command. All those of one turn of the loop leave together."""
        if not self._outgoing:
            self._call_soon(self.flush)
        self._outgoing.append(packed)

    def flush(self) -> None:
        """Sends what waits for the end of this turn."""
        outgoing, self._outgoing = self._outgoing, []
        if outgoing and not self._transport.is_closing():
            self._transport.write(b"".join(outgoing))

    # The end

    def drop(self, reason: str) -> None:
        """Closes the connection at once."""
        self._reason = reason
        self._transport.abort()

    async def close(self) -> None:
        """Closes the connection, and returns when it is closed."""
        self._transport.abort()
        try:
            await asyncio.wait([self.lost])
        finally:
            await self._opened.disconnect(nowait=True)


async def open_connection(client: Redis, on_reply: Callable[[Any], None]) -> RedisConnection:
    """Opens a connection; ``on_reply`` gets every reply, errors as :class:`hiredis.ReplyError`.

    Raises :class:`BackendError` if Redis is unavailable, does not answer, or refuses the user.
    """
    opened: AbstractConnection = client.connection_pool.make_connection()  # type: ignore[no-untyped-call]
    # In version 2 there are no pushed replies.
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
    return RedisConnection(opened, on_reply)


async def close_client(client: Redis) -> None:
    """Closes a client, and its connections to sentinels, which redis-py leaves open."""
    await client.aclose()
    pool = client.connection_pool
    if isinstance(pool, SentinelConnectionPool):
        for sentinel in pool.sentinel_manager.sentinels:
            await sentinel.aclose()
