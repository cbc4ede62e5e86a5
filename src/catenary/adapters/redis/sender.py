"""Sends publications and remote commands of this node to Redis, in the order in which they were given.

A message of a stream with a history is stored and published by one script, so that it has its offset when it arrives;
any other is only published. A batch is sent all or nothing; a large one is packed over several turns.
Knows: channels, scripts of the appender. Does not know: subscriptions, what arrives.
"""

import asyncio
from collections.abc import Awaitable
from functools import partial
from typing import Any, TypeGuard

from catenary.adapters import packing
from catenary.adapters.pacing import paced
from catenary.adapters.redis import payload
from catenary.adapters.redis.commands import Commands
from catenary.adapters.redis.engine import RedisEngine
from catenary.adapters.redis.large_commands import LargeCommand, Transaction
from catenary.adapters.send_queue import AT_ONCE, SendQueue
from catenary.errors import BackendError, BackendRefused, TooLarge
from catenary.messages.publications import (
    Publication,
    Publishable,
    QueueEntry,
    RemoteDisconnect,
)


class RedisSender:
    """The sending half of :class:`catenary.ports.PubSub`."""

    __slots__ = (
        "_appender",
        "_channel",
        "_channels",
        "_commands",
        "_history",
        "_queue",
        "_sessions",
        "_transaction",
    )

    def __init__(self, engine: RedisEngine) -> None:
        self._commands = engine.commands
        # Nothing is stored: a batch is only published.
        commands = engine.commands
        self._transaction = commands.transaction if isinstance(commands, Commands) else None
        self._appender = engine.appender
        self._history = engine.history
        self._sessions = engine.sessions
        self._queue = SendQueue(engine.counters)
        # The channel of remote commands, and those of streams
        self._channel = engine.names.channel.encode()
        self._channels = engine.names.channels

    def send(
        self, publications: tuple[Publishable, ...], entry: QueueEntry | None = None
    ) -> Awaitable[Any] | None:
        """Stores and publishes in order, all or nothing; awaiting raises :class:`BackendError`.

        An ``entry`` of a queue of this Redis leaves its queue in the same step.
        """
        if not publications:
            return None
        if self._queue.is_idle and len(publications) <= AT_ONCE:
            return self._send_now(publications, entry)
        return self._queue.add(len(publications), partial(self._send_in_turns, publications, entry))

    async def relay(self, command: RemoteDisconnect) -> None:
        """Sends a command that every node relays. Raises :class:`BackendError`."""
        if self._sessions is None:
            await self._send(command)
        else:
            await self._sessions.revoke(command, self._channel, is_relayed=True)

    def _send_now(
        self, publications: tuple[Publishable, ...], entry: QueueEntry | None
    ) -> "Awaitable[Any]":
        try:
            if len(publications) == 1 and (entry is None or self._is_revocation(publications[0])):
                return self._send(publications[0], entry)
            batch = self._begin_batch(entry)
            for each in publications:
                self._add(batch, each)
            return self._commands.send(batch)
        except ValueError as error:
            return failed(refused(error))
        except TooLarge as error:
            return failed(error)

    async def _send_in_turns(
        self, publications: tuple[Publishable, ...], entry: QueueEntry | None
    ) -> "Awaitable[Any]":
        """The same as :meth:`_send_now` for a batch of any size. Raises :class:`BackendRefused`."""
        if len(publications) <= AT_ONCE:
            return self._send_now(publications, entry)
        try:
            batch = self._begin_batch(entry)
            async for each in paced(publications, size_of):
                self._add(batch, each)
        except ValueError as error:
            raise refused(error) from error
        return self._commands.send(batch)

    def _send(self, publication: Publishable, entry: QueueEntry | None = None) -> "Awaitable[Any]":
        if self._sessions is not None and isinstance(publication, RemoteDisconnect):
            return self._sessions.revoke(publication, self._channel, entry)
        if self._history is not None and _is_kept(publication):
            return self._appender.append(publication, self._channels.of(publication.stream))
        return self._commands.call("PUBLISH", *self._unkept(publication))

    def _is_revocation(self, publication: Publishable) -> bool:
        return self._sessions is not None and isinstance(publication, RemoteDisconnect)

    def _begin_batch(self, entry: QueueEntry | None) -> LargeCommand:
        if entry is None and self._history is None and self._transaction is not None:
            return self._transaction()
        return self._appender.begin_batch(entry)

    def _add(self, batch: LargeCommand, publication: Publishable) -> None:
        if isinstance(batch, Transaction):
            batch.add("PUBLISH", *self._unkept(publication))
        elif self._history is not None and _is_kept(publication):
            channel = self._channels.of(publication.stream)
            self._appender.add(batch, publication.stream, channel, payload.pack(publication))
        else:
            self._appender.add(batch, None, *self._unkept(publication))

    def _unkept(self, publication: Publishable) -> tuple[bytes, bytes]:
        """The channel and the payload of a publication that no history stores."""
        if not isinstance(publication, Publication):
            return self._channel, packing.pack_command(publication)
        channel = self._channels.of(publication.stream)
        return channel, payload.NOWHERE + payload.pack(publication)


def size_of(publication: Publishable) -> int:
    return len(publication.data) if isinstance(publication, Publication) else 0


def refused(error: ValueError) -> BackendRefused:
    return BackendRefused(f"a publication can't be sent: {error}")


def failed(error: BackendError) -> "asyncio.Future[Any]":
    failed: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    failed.set_exception(error)
    return failed


def _is_kept(publication: Publishable) -> TypeGuard[Publication]:
    """Whether a publication is stored, if there is a history."""
    return isinstance(publication, Publication) and not publication.transient
