"""Histories in Redis: the recent messages of each stream.

    <prefix>:meta:<stream>   hash    epoch, offset (the newest), ms (of the newest), run, reign
    <prefix>:reign           hash    run (of the present primary), since (ms): ``commands.py: BEGIN_REIGN``
    <prefix>:log:<stream>    stream  entries "<ms>-<offset>", each with the payload as published

The scripts of ``appender.py`` write them. The time is that of Redis; within a log it never decreases.

An epoch belongs to one stream. A new one begins if the stream is unknown, and with
every run of the server, and whenever a server becomes the primary, for the first time or again: a Redis that was restarted,
or a replica that became the primary, may have lost its newest messages, and would assign their offsets again. Old messages stay in the log
and can be read by time.

Both keys of a stream are in one slot of a Redis Cluster. Only commands of Redis 6.2 are used.
Knows: Redis streams. Does not know: subscribers.
Source: redis.io, "Redis Streams", "Scripting with Lua"; broker/stream_log.py, the same in memory.
"""

import asyncio
import secrets
from collections.abc import Awaitable, Iterable, Sequence
from itertools import chain
from typing import Any, Final

from catenary.adapters.pacing import BUDGET_BYTES, paced
from catenary.adapters.redis import payload
from catenary.adapters.redis.commands import NOW, RedisCommands, Script
from catenary.adapters.redis.connection import Argument
from catenary.adapters.redis.names import RedisNames
from catenary.broker.history_limits import HistoryLimits
from catenary.broker.stream_log import KEPT_EMPTY
from catenary.errors import BackendError, LostPosition
from catenary.messages.names import Stream
from catenary.messages.publications import Position, Publication

SHORTEST_META_S: Final = 60
"""Offsets continue for at least this time, even if messages are stored for a shorter one."""

NEWEST_AT_ONCE: Final = 200
"""Streams of one script call: 2 to 3 ms, during which Redis does nothing else."""

LOST: Final = 0
OLDEST_FIRST: Final = 2
"""The first element of the reply of :data:`AFTER`."""

LATEST_S: Final = 2**40
"""The latest moment; Redis can't represent greater ones exactly."""

PART_BYTES: Final = 262_144
"""Redis runs nothing else while a script copies its result, so a long history is read in parts."""

_READ_PART: Final = f"""
local function read_part(log, to, from, count)
  local found, bytes = {{}}, 0
  while #found < count and bytes < {PART_BYTES} do
    local some = redis.call('XREVRANGE', log, to, from, 'COUNT', math.min(10, count - #found))
    for _, entry in ipairs(some) do
      found[#found + 1] = entry
      bytes = bytes + #entry[2][2]
      to = '(' .. entry[1]
    end
    if #some == 0 then return {{found, 0}} end
  end
  return {{found, count - #found}}
end
"""
"""Reads at most ``count`` entries, newest first, up to about :data:`PART_BYTES`; returns them and how many are left."""

PART: Final = Script(_READ_PART + "return read_part(KEYS[1], ARGV[1], ARGV[2], tonumber(ARGV[3]))")

AFTER: Final = Script(
    NOW
    + _READ_PART
    + """
local epoch, offset, ttl = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local known = redis.call('HMGET', KEYS[1], 'epoch', 'offset')
local newest = tonumber(known[2])
local lost = {0, known[1] or '', newest or 0}
if known[1] ~= epoch then return lost end
local log, limit, wanted = KEYS[2], tonumber(ARGV[4]), offset + 1
local remaining = newest - offset
if remaining == 0 then return {1} end
if remaining < 0 or remaining > redis.call('XLEN', log) then return lost end
local function number(entry)
  local ms, offset = string.match(entry[1], '^(%d+)-(%d+)$')
  return tonumber(ms), tonumber(offset)
end
local function is_wanted(entry)
  local ms, offset = number(entry)
  return offset == wanted and ms > now - ttl
end
if limit == 0 or remaining <= limit then
  return {1, read_part(log, '+', '-', remaining), now - ttl}
end
local low = number(redis.call('XRANGE', log, '-', '+', 'COUNT', 1)[1])
local high = number(redis.call('XREVRANGE', log, '+', '-', 'COUNT', 1)[1])
while low < high do
  local middle = math.ceil((low + high) / 2)
  local entry = redis.call('XRANGE', log, middle, '+', 'COUNT', 1)[1]
  local _, found = number(entry)
  local is_of_epoch = string.sub(entry[2][2], 1, #epoch + 1) == epoch .. ' '
  if is_of_epoch and found > wanted then high = middle - 1 else low = middle end
end
local found = redis.call('XRANGE', log, low .. '-' .. wanted, '+', 'COUNT', limit)
if not found[1] or not is_wanted(found[1]) then return lost end
return {2, found}
"""
)
"""Returns the messages after a position: {1, a part, newest first, the time after which they must be}, {2, all, oldest
first}, or {0, the newest position} where one of them is missing.

An entry is found by its time. A limited read knows only the offset of the first message it wants, so it searches for its
time: offsets and times grow together within an epoch, and the entries of the newest epoch are the last ones.
"""

FIRST: Final = Script(
    NOW
    + """
local from = math.max(now - ARGV[2] + 1, tonumber(ARGV[1]))
return redis.call('XRANGE', KEYS[1], from, '+', 'COUNT', ARGV[3])
"""
)
"""Returns the first messages from a time on, oldest first."""

SINCE: Final = Script(
    NOW
    + _READ_PART
    + """
local from, limit = math.max(now - ARGV[2] + 1, tonumber(ARGV[1])), tonumber(ARGV[3])
if limit == 0 then limit = redis.call('XLEN', KEYS[1]) end
return {read_part(KEYS[1], '+', from, limit), from}
"""
)
"""Returns the last messages from a time on: a part, newest first, and the time. 0 is no limit."""

NEWEST: Final = Script(
    NOW
    + """
local new_epoch = ARGV[1]
local run, reign = string.match(ARGV[2], '^([^,.]*)%.?(%d*)')
local found = {}
for number, meta in ipairs(KEYS) do
  local known = redis.call('HMGET', meta, 'epoch', 'offset')
  if not known[1] and new_epoch ~= '' then
    redis.call('HSET', meta, 'epoch', new_epoch, 'offset', 0, 'ms', now, 'run', run)
    if reign ~= '' then redis.call('HSET', meta, 'reign', reign) end
    known = {new_epoch, '0'}
  end
  redis.call('PEXPIRE', meta, ARGV[number + 2])
  found[number] = known
end
return found
"""
)
"""Returns the newest positions; with an epoch, unknown streams begin with it."""

SCRIPTS: Final = (PART, AFTER, FIRST, SINCE, NEWEST)


def meta_ttl_ms(ttl_s: float) -> int:
    """The time for which the newest position of a stream is stored, if messages are stored for ``ttl_s``."""
    return int(max(ttl_s * KEPT_EMPTY, SHORTEST_META_S) * 1000)


class RedisHistory:
    """Satisfies :class:`catenary.ports.History`; :meth:`newest` is for the pub/sub.

    ``limits`` says for how long messages of each stream are stored.
    """

    __slots__ = ("_commands", "_limits", "_log", "_meta", "_newest_at_once")

    is_immediate = False

    def __init__(self, commands: RedisCommands, names: RedisNames, limits: HistoryLimits) -> None:
        self._commands = commands
        self._meta = names.keys("meta")
        self._log = names.keys("log")
        # Streams in different slots can't be read by one script.
        self._newest_at_once = 1 if names.has_slots else NEWEST_AT_ONCE
        self._limits = limits

    def _ttl_ms(self, stream: Stream) -> int:
        return int(self._limits.of(stream).ttl_s * 1000)

    def after(
        self, stream: Stream, position: Position, limit: int | None = None
    ) -> Awaitable[tuple[Publication, ...]]:
        """Returns the messages after a position, oldest first.

        Raises :class:`catenary.errors.LostPosition` if one of them is no longer stored.
        """
        answer = self._commands.run(
            AFTER,
            (self._meta.of(stream), self._log.of(stream)),
            position.epoch,
            str(position.offset),
            self._ttl_ms(stream),
            limit or 0,
        )
        return self._after(stream, position, answer)

    def since(
        self, stream: Stream, moment_s: int, limit: int | None = None, *, newest: bool = False
    ) -> Awaitable[tuple[Publication, ...]]:
        """Returns the messages of a stream from a moment on (seconds since the epoch), oldest first."""
        moment_ms = max(0, min(moment_s, LATEST_S)) * 1000
        key, ttl_ms = (self._log.of(stream),), self._ttl_ms(stream)
        if limit is not None and not newest:
            return _first(stream, self._commands.run(FIRST, key, moment_ms, ttl_ms, limit))
        return self._since(stream, self._commands.run(SINCE, key, moment_ms, ttl_ms, limit or 0))

    async def _after(
        self, stream: Stream, position: Position, answer: "asyncio.Future[Any]"
    ) -> tuple[Publication, ...]:
        order, *rest = await answer
        if order == LOST:
            epoch, newest = rest
            raise LostPosition(
                f"expected a position of {epoch.decode()!r} that is kept, up to {newest}, "
                f"got {position.offset} of {position.epoch!r}"
            )
        if order == OLDEST_FIRST:
            return await _publications(stream, rest[0])
        if not rest:
            return ()
        part, too_old_ms = rest
        entries = await self._read_rest(stream, part, "-")
        # The messages follow each other: if the oldest is the wanted one, all are there.
        ms, offset = map(int, entries[-1][0].split(b"-")) if entries else (0, 0)
        if offset != position.offset + 1 or ms <= too_old_ms:
            raise LostPosition(f"the messages after {position.offset} are not kept (any more)")
        return await _publications(stream, reversed(entries))

    async def _since(
        self, stream: Stream, answer: "asyncio.Future[Any]"
    ) -> tuple[Publication, ...]:
        part, from_ms = await answer
        entries = await self._read_rest(stream, part, from_ms)
        return await _publications(stream, reversed(entries))

    async def _read_rest(self, stream: Stream, part: list[Any], from_ms: Argument) -> list[Any]:
        """Reads the parts after the first one, from the newest entry to the oldest.

        Redis may drop the oldest ones meanwhile; what was read has no gap.
        """
        entries, remaining = part
        while remaining > 0:
            before = b"(" + entries[-1][0]
            more, remaining = await self._commands.run(
                PART, (self._log.of(stream),), before, from_ms, remaining
            )
            entries += more
        return list(entries)

    async def newest(
        self, streams: Sequence[Stream], *, begin: bool
    ) -> dict[Stream, Position | None]:
        """Returns the newest positions of streams, and extends their time to live.

        With ``begin``, an unknown stream begins a new epoch, so that its first message
        has a predecessor; else its position is None.
        """
        at_once = self._newest_at_once

        def part_size(_: int) -> int:
            """Asking for :data:`NEWEST_AT_ONCE` streams takes 0.2 ms."""
            return BUDGET_BYTES * at_once // (5 * NEWEST_AT_ONCE)

        asked = [
            self._ask_newest(streams[start : start + at_once], begin=begin)
            async for start in paced(range(0, len(streams), at_once), part_size)
        ]
        answers = await asyncio.gather(*asked)
        known = [_position(each) async for each in paced(chain.from_iterable(answers))]
        return dict(zip(streams, known, strict=True))

    def _ask_newest(self, streams: Sequence[Stream], *, begin: bool) -> "asyncio.Future[Any]":
        return self._commands.run(
            NEWEST,
            [self._meta.of(stream) for stream in streams],
            secrets.token_hex(4) if begin else "",
            self._commands.run_id,
            *[meta_ttl_ms(self._limits.of(stream).ttl_s) for stream in streams],
        )


def _position(known: list[bytes | None]) -> Position | None:
    epoch, offset = known
    return None if epoch is None or offset is None else Position(epoch.decode(), int(offset))


async def _first(stream: Stream, answer: "asyncio.Future[Any]") -> tuple[Publication, ...]:
    return await _publications(stream, await answer)


async def _publications(stream: Stream, entries: Iterable[Any]) -> tuple[Publication, ...]:
    packed = (fields[1] for _, fields in entries)
    try:
        return tuple([payload.unpack(stream, each) async for each in paced(packed, len)])
    except ValueError as error:
        raise BackendError(f"expected messages of a node in the history: {error}") from error
