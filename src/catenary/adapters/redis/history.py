"""Histories in Redis: what was published on each stream, for a while.

    <prefix>:meta:<stream>   hash    epoch, offset (the newest), ms (of the newest), run
    <prefix>:log:<stream>    stream  entries "<ms>-<offset>", each with the payload as published

One script hands out the offset, keeps the message and publishes it, so all nodes see one order. The
time is that of Redis; it never falls within a log.

An epoch belongs to one stream. A new one begins where nothing is known of the stream, and with
every run of the server: a Redis that was restarted, or a replica that became the master, may have
lost its newest messages, and would hand out their offsets once more. Old messages stay in the log
and can be read by time.

Keys of one script live anywhere: Redis Cluster is not supported. Only commands of Redis 6.2 are used.
Knows: streams of Redis. Does not know: who listens.
Source: redis.io, "Redis Streams", "Scripting with Lua"; broker/stream_log.py, the same in memory.
"""

import asyncio
import secrets
from collections.abc import Awaitable, Iterable, Sequence
from typing import Any, Final

from catenary.adapters.redis import payload
from catenary.adapters.redis.commands import NOW, Commands, Script
from catenary.adapters.redis.connection import Argument
from catenary.broker.stream_log import KEPT_EMPTY
from catenary.errors import BackendError, LostPosition
from catenary.messages.names import Stream
from catenary.messages.publications import Position, Publication

SHORTEST_META_S: Final = 60
"""For times to live of nothing or next to it: offsets go on for so long all the same."""

NEWEST_AT_ONCE: Final = 200
"""Streams asked for in one step: 2 to 3 ms, during which Redis does nothing else."""

LATEST_S: Final = 2**40
"""A moment that never comes; greater ones are no numbers to Redis."""

_APPEND: Final = """
local run, limit, ttl, meta_ttl = ARGV[1], tonumber(ARGV[2]), ARGV[3], ARGV[4]
local function may_publish(channel)
  return not redis.acl_check_cmd or redis.acl_check_cmd('PUBLISH', channel, '')
end
local function append(meta, log, new_epoch, channel, packed)
  local known = redis.call('HMGET', meta, 'epoch', 'offset', 'ms', 'run')
  local epoch, offset, ms = known[1], tonumber(known[2]), now
  if not epoch then
    redis.call('DEL', log)
    epoch, offset = new_epoch, 0
  elseif known[4] ~= run then
    epoch, offset, ms = new_epoch, 0, math.max(now, known[3] + 1)
  else
    ms = math.max(now, tonumber(known[3]))
  end
  offset = offset + 1
  local position = epoch .. ' ' .. offset
  local payload = position .. ' ' .. packed
  if limit > 0 and ttl ~= '0' then
    redis.call('XADD', log, 'MAXLEN', '=', limit, ms .. '-' .. offset, 'm', payload)
    redis.call('XTRIM', log, 'MINID', now - ttl + 1)
    redis.call('PEXPIRE', log, ttl)
  end
  redis.call('HSET', meta, 'epoch', epoch, 'offset', offset, 'ms', ms, 'run', run)
  redis.call('PEXPIRE', meta, meta_ttl)
  redis.call('PUBLISH', channel, payload)
  return position
end
"""
"""Redis takes nothing back of a script that fails: what would be refused is looked for before.

Before Redis 7 a script can't ask what its user may publish (ACL).
"""

APPEND: Final = Script(
    NOW
    + _APPEND
    + """
if not may_publish(ARGV[6]) then
  return redis.error_reply('NOPERM this user may not publish to ' .. ARGV[6])
end
return append(KEYS[1], KEYS[2], ARGV[5], ARGV[6], ARGV[7])
"""
)
"""Keeps and publishes one message; answers its position."""

APPEND_ALL: Final = Script(
    NOW
    + _APPEND
    + """
local function check(key, wanted)
  local kind = redis.call('TYPE', key).ok
  if kind ~= 'none' and kind ~= wanted then
    return 'WRONGTYPE expected ' .. key .. ' to be a ' .. wanted .. ', got a ' .. kind
  end
end
local wrong
for number = 1, #KEYS, 2 do
  wrong = wrong or check(KEYS[number], 'hash')
  if redis.call('EXISTS', KEYS[number]) == 1 then wrong = wrong or check(KEYS[number + 1], 'stream') end
end
for number = 5, #ARGV, 3 do
  if not may_publish(ARGV[number + 1]) then
    wrong = wrong or 'NOPERM this user may not publish to ' .. ARGV[number + 1]
  end
end
if wrong then return redis.error_reply(wrong) end
local kept = 0
for number = 5, #ARGV, 3 do
  local new_epoch, channel, packed = ARGV[number], ARGV[number + 1], ARGV[number + 2]
  if new_epoch == '' then
    redis.call('PUBLISH', channel, packed)
  else
    append(KEYS[kept + 1], KEYS[kept + 2], new_epoch, channel, packed)
    kept = kept + 2
  end
end
"""
)
"""Keeps and publishes several messages, or none of them where one would be refused.

Each is a new epoch, a channel and what is published there; with "" for the epoch it is not kept.
"""

AFTER: Final = Script(
    NOW
    + """
local epoch, offset, ttl = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local known = redis.call('HMGET', KEYS[1], 'epoch', 'offset')
local newest = tonumber(known[2])
local lost = {0, known[1] or '', newest or 0}
if known[1] ~= epoch then return lost end
local behind = newest - offset
if behind == 0 then return {1} end
if behind < 0 or behind > redis.call('XLEN', KEYS[2]) then return lost end
local found = redis.call('XREVRANGE', KEYS[2], '+', '-', 'COUNT', behind)
local ms, first = string.match(found[behind][1], '^(%d+)-(%d+)$')
if tonumber(first) ~= offset + 1 or now - ttl >= tonumber(ms) then return lost end
return {1, found}
"""
)
"""Everything behind a position, the newest first, or the newest position where that is not there."""

SINCE: Final = Script(
    NOW
    + """
return redis.call('XRANGE', KEYS[1], math.max(now - ARGV[2] + 1, tonumber(ARGV[1])), '+')
"""
)

NEWEST: Final = Script(
    NOW
    + """
local new_epoch, run, ttl = ARGV[1], ARGV[2], ARGV[3]
local found = {}
for number, meta in ipairs(KEYS) do
  local known = redis.call('HMGET', meta, 'epoch', 'offset')
  if not known[1] and new_epoch ~= '' then
    redis.call('HSET', meta, 'epoch', new_epoch, 'offset', 0, 'ms', now, 'run', run)
    known = {new_epoch, '0'}
  end
  redis.call('PEXPIRE', meta, ttl)
  found[number] = known
end
return found
"""
)
"""The newest positions; with an epoch, those streams begin of which nothing is known."""

SCRIPTS: Final = (APPEND, APPEND_ALL, AFTER, SINCE, NEWEST)


class RedisHistory:
    """Satisfies :class:`catenary.ports.History`; :meth:`append`, :meth:`append_all` and
    :meth:`newest` are for the pub/sub.

    ``limit`` messages of each stream are kept, each for ``ttl_s``; where one of them is 0, nothing
    is kept, and offsets are handed out all the same.
    """

    __slots__ = ("_commands", "_limit", "_meta_ttl_ms", "_prefix", "_ttl_ms")

    is_immediate = False

    def __init__(self, commands: Commands, prefix: str, *, limit: int, ttl_s: int) -> None:
        self._commands = commands
        self._prefix = prefix
        self._limit = limit
        self._ttl_ms = ttl_s * 1000
        self._meta_ttl_ms = max(ttl_s * KEPT_EMPTY, SHORTEST_META_S) * 1000

    def append(self, publication: Publication, channel: bytes) -> "asyncio.Future[bytes]":
        """Keeps and publishes; the answer is ``<epoch> <offset>``."""
        return self._commands.run(
            APPEND,
            (self._meta(publication.stream), self._log(publication.stream)),
            *self._rules(),
            secrets.token_hex(4),
            channel,
            payload.pack(publication),
        )

    def append_all(
        self, messages: Sequence[tuple[Stream | None, bytes, bytes]]
    ) -> "asyncio.Future[None]":
        """Keeps and publishes all, or none where one would be refused.

        Each message is its stream, or None where it is not kept, its channel and its payload.
        """
        keys: list[Argument] = []
        args: list[Argument] = []
        for stream, channel, packed in messages:
            if stream is not None:
                keys += (self._meta(stream), self._log(stream))
            args += ("" if stream is None else secrets.token_hex(4), channel, packed)
        return self._commands.run(APPEND_ALL, keys, *self._rules(), *args)

    def _rules(self) -> tuple[Argument, ...]:
        """What scripts that keep something are told first."""
        return (self._commands.run_id, self._limit, self._ttl_ms, self._meta_ttl_ms)

    def after(self, stream: Stream, position: Position) -> Awaitable[tuple[Publication, ...]]:
        """Everything behind a position, in order.

        Raises :class:`catenary.errors.LostPosition` where that is not all there any more.
        """
        answer = self._commands.run(
            AFTER,
            (self._meta(stream), self._log(stream)),
            position.epoch,
            str(position.offset),
            self._ttl_ms,
        )
        return _behind(stream, position, answer)

    def since(self, stream: Stream, moment_s: int) -> Awaitable[tuple[Publication, ...]]:
        """What is kept of a stream from a moment on (seconds since the epoch), in order."""
        moment_ms = max(0, min(moment_s, LATEST_S)) * 1000
        return _kept(
            stream, self._commands.run(SINCE, (self._log(stream),), moment_ms, self._ttl_ms)
        )

    async def newest(
        self, streams: Sequence[Stream], *, begin: bool
    ) -> dict[Stream, Position | None]:
        """The newest positions of streams, which are remembered for a while from now on.

        A stream of which nothing is known begins with ``begin``, so that whatever is published
        next has something before it; else its position is None.
        """
        asked = [
            self._commands.run(
                NEWEST,
                [self._meta(stream) for stream in streams[start : start + NEWEST_AT_ONCE]],
                secrets.token_hex(4) if begin else "",
                self._commands.run_id,
                self._meta_ttl_ms,
            )
            for start in range(0, len(streams), NEWEST_AT_ONCE)
        ]
        answers = await asyncio.gather(*asked)
        known = [_position(each) for answer in answers for each in answer]
        return dict(zip(streams, known, strict=True))

    def _meta(self, stream: Stream) -> str:
        return f"{self._prefix}:meta:{stream}"

    def _log(self, stream: Stream) -> str:
        return f"{self._prefix}:log:{stream}"


def _position(known: list[bytes | None]) -> Position | None:
    epoch, offset = known
    return None if epoch is None or offset is None else Position(epoch.decode(), int(offset))


async def _behind(
    stream: Stream, position: Position, answer: "asyncio.Future[Any]"
) -> tuple[Publication, ...]:
    is_there, *rest = await answer
    if not is_there:
        epoch, newest = rest
        raise LostPosition(
            f"expected a position of {epoch.decode()!r} that is kept, up to {newest}, "
            f"got {position.offset} of {position.epoch!r}"
        )
    return _publications(stream, reversed(rest[0])) if rest else ()


async def _kept(stream: Stream, answer: "asyncio.Future[Any]") -> tuple[Publication, ...]:
    return _publications(stream, await answer)


def _publications(stream: Stream, entries: Iterable[Any]) -> tuple[Publication, ...]:
    try:
        return tuple(payload.unpack(stream, fields[1]) for _, fields in entries)
    except ValueError as error:
        raise BackendError(f"expected messages of a node in the history: {error}") from error
