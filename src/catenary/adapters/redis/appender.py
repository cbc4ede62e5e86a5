"""Appends messages to histories in Redis, and publishes them in the same step.

One script assigns the offset, stores the message and publishes it, so all nodes see one order. An entry of a queue in
this Redis leaves the queue in the same step: it is published once and in the order of the queue, even if the node
that read it dies, hangs, or never receives the reply.
Knows: scripts that write. Does not know: publishers, subscribers.
Source: redis.io, "Scripting with Lua", "Redis Streams"; the keys are those of ``history.py``.
"""

import asyncio
import secrets
from typing import Any, Final

from catenary.adapters.redis import payload
from catenary.adapters.redis.commands import NOW, RedisCommands, Script
from catenary.adapters.redis.connection import Argument
from catenary.adapters.redis.history import meta_ttl_ms
from catenary.adapters.redis.large_commands import ScriptCall
from catenary.adapters.redis.names import RedisNames
from catenary.adapters.redis.queue_entry import ENTRY, MARKED_ENTRY, entry_arguments
from catenary.broker.history_limits import HistoryLimit, HistoryLimits
from catenary.messages.names import Stream
from catenary.messages.publications import Publication, QueueEntry

APPEND_LUA: Final = """
local runs, limit, ttl, meta_ttl, max_bytes = ARGV[1], tonumber(ARGV[2]), ARGV[3], ARGV[4], tonumber(ARGV[5])
local run, reign = string.match(runs, '^([^,.]*)%.?(%d*)')
local function is_of_a_primary(known, since)
  if known == run and reign ~= '' then return tonumber(since or reign) >= tonumber(reign) end
  return known == run or known and known ~= '' and #runs > #run and string.find(runs, known, 1, true)
end
local way, moving = string.match(runs, '!([sm])(.*)$')
local command = way == 's' and 'SPUBLISH' or 'PUBLISH'
local function may_publish(channel)
  return not redis.acl_check_cmd or redis.acl_check_cmd(command, channel, '')
end
local function publish(channel, payload)
  if way == 'm' then
    redis.call('PUBLISH', moving, #channel .. ' ' .. channel .. payload)
  else
    redis.call(command, channel, payload)
  end
end
local function oldest_of(log) return redis.call('XRANGE', log, '-', '+', 'COUNT', 1)[1] end
local function append_sized(meta, log, id, payload)
  local total = tonumber(redis.call('HGET', meta, 'bytes') or 0) + #payload
  redis.call('HSET', meta, 'bytes', total)
  redis.call('XADD', log, 'MAXLEN', '=', limit, id, 'm', payload, 'b', total)
  local oldest = oldest_of(log)
  while oldest and total - (tonumber(oldest[2][4]) or 0) + #oldest[2][2] > max_bytes do
    redis.call('XDEL', log, oldest[1])
    oldest = oldest_of(log)
  end
end
local function append(meta, log, new_epoch, channel, packed)
  local known = redis.call('HMGET', meta, 'epoch', 'offset', 'ms', 'run', 'reign')
  local epoch, offset, ms = known[1], tonumber(known[2]), now
  if not epoch then
    redis.call('DEL', log)
    epoch, offset = new_epoch, 0
  elseif not is_of_a_primary(known[4], known[5]) then
    epoch, offset, ms = new_epoch, 0, math.max(now, known[3] + 1)
  else
    ms = math.max(now, tonumber(known[3]))
  end
  offset = offset + 1
  local position = epoch .. ' ' .. offset
  local payload = position .. ' ' .. packed
  if limit > 0 and ttl ~= '0' then
    if max_bytes > 0 then
      append_sized(meta, log, ms .. '-' .. offset, payload)
    else
      redis.call('XADD', log, 'MAXLEN', '=', limit, ms .. '-' .. offset, 'm', payload)
    end
    redis.call('XTRIM', log, 'MINID', now - ttl + 1)
    redis.call('PEXPIRE', log, ttl)
  end
  redis.call('HSET', meta, 'epoch', epoch, 'offset', offset, 'ms', ms, 'run', run)
  local is_known = known[4] == run and known[5] and tonumber(known[5]) >= (tonumber(reign) or 0)
  if reign ~= '' and not is_known then redis.call('HSET', meta, 'reign', reign) end
  redis.call('PEXPIRE', meta, meta_ttl)
  publish(channel, payload)
  return position
end
"""
"""Redis does not roll back a script that fails, so the script checks first what would be refused.

``runs`` is the run of this server and since when it is the primary: a stream of an earlier reign begins a new epoch. A node that
has not noticed a later reign continues the epochs of that. On a cluster, also those of the other primaries, and how messages are published there (``ClusterCommands.runs``). Before
Redis 7, a script can't check what its user may publish (ACL).

A history with a limit of bytes has the sum of all payloads so far in ``bytes`` of its meta, and in ``b`` of each entry: the
bytes of the entries from any one on are a difference. Entries from before the limit have no ``b``; they count with the
bytes since then.
"""

APPEND: Final = Script(
    NOW
    + APPEND_LUA
    + """
if not may_publish(ARGV[7]) then
  return redis.error_reply('NOPERM this user may not publish to ' .. ARGV[7])
end
return append(KEYS[1], KEYS[2], ARGV[6], ARGV[7], ARGV[8])
"""
)
"""Stores and publishes one message; returns its position."""

_APPEND_ALL_LUA: Final = """
local queue, group, consumer, id = ARGV[6], ARGV[7], ARGV[8], ARGV[9]
local entry, trouble = check_entry(queue, group, consumer, id)
if trouble then return redis.error_reply(trouble) end
if entry == 'gone' then return end
local function check(key, wanted)
  local kind = redis.call('TYPE', key).ok
  if kind ~= 'none' and kind ~= wanted then
    return 'WRONGTYPE expected ' .. key .. ' to be a ' .. wanted .. ', got a ' .. kind
  end
end
local wrong
for number = 1, #KEYS - 1, 2 do
  wrong = wrong or check(KEYS[number], 'hash')
  if redis.call('EXISTS', KEYS[number]) == 1 then wrong = wrong or check(KEYS[number + 1], 'stream') end
end
for number = 11, #ARGV, 3 do
  if not may_publish(ARGV[number + 1]) then
    wrong = wrong or 'NOPERM this user may not publish to ' .. ARGV[number + 1]
  end
end
if wrong then return redis.error_reply(wrong) end
local new_epoch, kept = ARGV[10], 0
local usual = {limit, ttl, meta_ttl, max_bytes}
for number = 11, #ARGV, 3 do
  local is_kept, channel, packed = ARGV[number], ARGV[number + 1], ARGV[number + 2]
  if is_kept ~= '0' then
    if is_kept == '1' then
      limit, ttl, meta_ttl, max_bytes = unpack(usual)
    else
      limit, ttl, meta_ttl, max_bytes = string.match(is_kept, '(%d+) (%d+) (%d+) (%d+)')
      limit, max_bytes = tonumber(limit), tonumber(max_bytes)
    end
    append(KEYS[kept + 1], KEYS[kept + 2], new_epoch, channel, packed)
    kept = kept + 2
  else
    publish(channel, packed)
  end
end
remove_entry(queue, group, id)
"""

APPEND_ALL: Final = Script(NOW + APPEND_LUA + ENTRY + _APPEND_ALL_LUA)
"""Stores and publishes several messages, or none of them if one would be refused.

Each is 1 or 0 (stored or not) or the limits of its own stream, a channel and a payload; a new stream gets ``ARGV[10]`` as
its epoch. With the ``id`` of
a queue entry, the entry is acknowledged and deleted; if that was done before, nothing is published, and if its
consumer still has an earlier entry, the script returns an error.
"""

APPEND_MARKED: Final = Script(NOW + APPEND_LUA + MARKED_ENTRY + _APPEND_ALL_LUA)
"""The same for one stream and an entry of a queue in another slot. The last key is the mark of the stream."""

PUBLISH: Final = Script(APPEND_LUA + "publish(ARGV[6], ARGV[7])")
"""Publishes one message, and does not store it. The key is one in the slot of the channel."""

SCRIPTS: Final = (APPEND, APPEND_ALL)
CLUSTER_SCRIPTS: Final = (APPEND_MARKED, PUBLISH)


class RedisAppender:
    """Publishes by script. ``limits`` says how many messages of each stream are stored, and for how long.

    If that is 0, none is stored, but offsets are assigned.
    """

    __slots__ = ("_commands", "_limits", "_log", "_mark", "_meta")

    def __init__(self, commands: RedisCommands, names: RedisNames, limits: HistoryLimits) -> None:
        self._commands = commands
        self._meta = names.keys("meta")
        self._log = names.keys("log")
        self._mark = names.keys("entries")
        self._limits = limits

    def append(self, publication: Publication, channel: bytes) -> "asyncio.Future[bytes]":
        """Stores and publishes; the reply is ``<epoch> <offset>``."""
        return self._commands.run(
            APPEND,
            self.keys(publication.stream),
            *self.rules(publication.stream),
            secrets.token_hex(4),
            channel,
            payload.pack(publication),
        )

    def publish(self, stream: Stream, channel: bytes, packed: bytes) -> "asyncio.Future[Any]":
        """Publishes where the keys of a stream are, on a cluster, and does not store it."""
        return self._commands.run(
            PUBLISH, (self._meta.of(stream),), *self.rules(stream), channel, packed
        )

    def begin_batch(self, entry: QueueEntry | None = None) -> ScriptCall:
        """Begins a batch: all of it is published, or nothing if one message would be refused.

        :meth:`add` adds the messages, :meth:`Commands.send` sends them. With the ``entry`` of a queue, the entry leaves
        its queue in the same step; nothing happens if it has left before.
        """
        batch = self._commands.script_call(APPEND_ALL)
        batch.add(
            (), *self._rules(self._limits.usual), *entry_arguments(entry), secrets.token_hex(4)
        )
        return batch

    def begin_part(self, stream: Stream, entry: QueueEntry | None = None) -> ScriptCall:
        """Begins the messages of one stream of a batch, for a cluster. With the ``entry`` of a queue, the last key must be
        :meth:`mark`; nothing happens if the same or a later entry was published on the stream before."""
        script = APPEND_ALL if entry is None else APPEND_MARKED
        part = self._commands.script_call(script, self._meta.of(stream))
        part.add(
            (), *self._rules(self._limits.usual), *entry_arguments(entry), secrets.token_hex(4)
        )
        return part

    def end_part(self, part: ScriptCall, stream: Stream) -> None:
        """Ends the messages of one stream, without an entry: names a key even if none is stored, so that a node that does not
        have the slot refuses the call."""
        part.add((self._meta.of(stream),))

    def mark(self, stream: Stream) -> str:
        """The key with the last entry of each queue that was published on a stream."""
        return self._mark.of(stream)

    def add(self, batch: ScriptCall, stream: Stream | None, channel: bytes, packed: bytes) -> None:
        """Adds a message, which is not stored if ``stream`` is None. Raises :class:`TooLarge`."""
        if stream is None:
            batch.add((), 0, channel, packed)
        else:
            limit = self._limits.of(stream)
            is_usual = limit is self._limits.usual
            own: Argument = 1 if is_usual else " ".join(map(str, self._rules(limit)[1:]))
            batch.add(self.keys(stream), own, channel, packed)

    def keys(self, stream: Stream) -> tuple[str, str]:
        """The keys that a message of a stream is written to."""
        return self._meta.of(stream), self._log.of(stream)

    def rules(self, stream: Stream) -> tuple[Argument, ...]:
        """The first arguments of scripts with :data:`APPEND_LUA` that append to one stream."""
        return self._rules(self._limits.of(stream))

    def _rules(self, limit: HistoryLimit) -> tuple[Argument, ...]:
        ttl_ms = int(limit.ttl_s * 1000)
        meta_ms = meta_ttl_ms(limit.ttl_s)
        return (self._commands.run_id, limit.messages, ttl_ms, meta_ms, limit.max_bytes)
