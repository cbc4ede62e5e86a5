"""Sends publications to a Redis Cluster: a batch goes out in parts, one for each stream.

Streams are in different slots, which no script can write in one step: each part is sent all or nothing, and the batch
fails if one part does. Entries of a queue are sent one after another on each stream, so that an entry whose
predecessor failed can't be taken for the last one that was published. A remote disconnect is sent when all that was
sent before it is published: it reaches the nodes through another channel, where it would overtake the last messages of the
clients that it disconnects. Later messages may overtake it.
Knows: parts, the order of entries. Does not know: slots.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any

from catenary.adapters.pacing import paced
from catenary.adapters.redis.cluster_commands import ClusterCommands
from catenary.adapters.redis.engine import RedisEngine
from catenary.adapters.redis.large_commands import ScriptCall
from catenary.adapters.redis.sender import RedisSender, failed, refused, size_of
from catenary.errors import BackendError, BackendRefused, TooLarge
from catenary.messages.names import Stream
from catenary.messages.publications import Publication, Publishable, QueueEntry, RemoteDisconnect


class _Parts:
    """The parts of a batch: of each stream, and the remote disconnects."""

    __slots__ = ("commands", "streams")

    def __init__(self) -> None:
        self.streams: dict[Stream, ScriptCall] = {}
        self.commands: list[RemoteDisconnect] = []


class ClusterSender(RedisSender):
    """The sending half of :class:`catenary.ports.PubSub`, for a cluster."""

    __slots__ = ("_cluster", "_entries", "_last_command")

    def __init__(self, engine: RedisEngine) -> None:
        super().__init__(engine)
        assert isinstance(engine.commands, ClusterCommands)
        self._cluster = engine.commands
        # The last remote disconnect that waits or is being sent
        self._last_command: asyncio.Future[Any] | None = None
        # The last entry of a queue that is being sent on each stream
        self._entries: dict[Stream, asyncio.Future[Any]] = {}

    def _send(self, publication: Publishable, entry: QueueEntry | None = None) -> Awaitable[Any]:
        if isinstance(publication, Publication) and (
            self._history is None or publication.transient
        ):
            return self._appender.publish(publication.stream, *self._unkept(publication))
        if isinstance(publication, RemoteDisconnect):
            return self._send_last(lambda: super(ClusterSender, self)._send(publication, entry))
        return super()._send(publication, entry)

    def _send_now(
        self, publications: tuple[Publishable, ...], entry: QueueEntry | None
    ) -> Awaitable[Any]:
        parts = _Parts()
        try:
            if len(publications) == 1 and entry is None:
                return self._send(publications[0])
            for each in publications:
                self._add_to(parts, each, entry)
        except ValueError as error:
            return failed(refused(error))
        except TooLarge as error:
            return failed(error)
        return self._send_parts(parts, entry)

    async def _send_in_turns(
        self, publications: tuple[Publishable, ...], entry: QueueEntry | None
    ) -> Awaitable[Any]:
        if len(publications) <= 1:
            return self._send_now(publications, entry)
        parts = _Parts()
        try:
            async for each in paced(publications, size_of):
                self._add_to(parts, each, entry)
        except ValueError as error:
            raise refused(error) from error
        return self._send_parts(parts, entry)

    def _add_to(self, parts: _Parts, publication: Publishable, entry: QueueEntry | None) -> None:
        """Raises ValueError and :class:`TooLarge`."""
        if not isinstance(publication, Publication):
            parts.commands.append(publication)
            return
        stream = publication.stream
        part = parts.streams.get(stream)
        if part is None:
            part = parts.streams[stream] = self._appender.begin_part(stream, entry)
        self._add(part, publication)

    def _send_parts(self, parts: _Parts, entry: QueueEntry | None) -> Awaitable[Any]:
        sent: list[Awaitable[Any]] = []
        if entry is None:
            for stream, part in parts.streams.items():
                self._appender.end_part(part, stream)
                sent.append(self._commands.send(part))
        else:
            sent += [self._send_entry(*each) for each in parts.streams.items()]
        sent += [self._send_command(each, entry) for each in parts.commands]
        return sent[0] if len(sent) == 1 else _all_of(sent)

    def _send_command(self, command: RemoteDisconnect, entry: QueueEntry | None) -> Awaitable[Any]:
        if self._sessions is None:
            return self._send(command)
        revoke = self._sessions.revoke
        # That of an entry may be repeated, as one that every node relays.
        is_relayed = entry is not None
        return self._send_last(lambda: revoke(command, self._channel, is_relayed=is_relayed))

    def _send_last(self, send: Callable[[], Awaitable[Any]]) -> Awaitable[Any]:
        """Sends a remote disconnect after everything before it."""
        before = [*self._cluster.last_calls(), *self._entries.values()]
        if self._last_command is not None:
            before.append(self._last_command)
        if not before:
            return send()
        sent = asyncio.ensure_future(_send_after_all(before, send))
        self._last_command = sent
        sent.add_done_callback(self._forget_command)
        return sent

    def _forget_command(self, done: "asyncio.Future[Any]") -> None:
        if self._last_command is done:
            self._last_command = None

    def _send_entry(self, stream: Stream, part: ScriptCall) -> "asyncio.Future[Any]":
        part.add((self._appender.mark(stream),))
        before = self._entries.get(stream)
        sent = (
            self._commands.send(part)
            if before is None
            else asyncio.ensure_future(self._send_after(before, part))
        )
        self._entries[stream] = sent
        sent.add_done_callback(lambda done: self._forget(stream, done))
        return sent

    async def _send_after(self, before: "asyncio.Future[Any]", part: ScriptCall) -> None:
        await asyncio.wait([before])
        if before.cancelled() or before.exception() is not None:
            raise BackendError("an earlier entry of the queue was not published")
        await self._commands.send(part)

    def _forget(self, stream: Stream, done: "asyncio.Future[Any]") -> None:
        if self._entries.get(stream) is done:
            del self._entries[stream]


async def _send_after_all(
    before: Sequence["asyncio.Future[Any]"], send: Callable[[], Awaitable[Any]]
) -> Any:
    """Their failures are those of others."""
    await asyncio.wait(before)
    return await send()


async def _all_of(sent: Sequence[Awaitable[Any]]) -> None:
    """Waits for all. Raises an error that may pass, if there is one, else one that is lasting."""
    results: Iterable[Any] = await asyncio.gather(*sent, return_exceptions=True)
    errors = [each for each in results if isinstance(each, BaseException)]
    errors.sort(key=lambda error: isinstance(error, BackendRefused))
    if errors:
        raise errors[0]
