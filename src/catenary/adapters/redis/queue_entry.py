"""Parts of scripts that publish an entry of a queue in this Redis and remove it from the queue in the same step.

Knows: Redis Streams. Does not know: the publication.
Source: redis.io, "Redis Streams", "XPENDING".
"""

from typing import Final

from catenary.adapters.redis.connection import Argument
from catenary.messages.publications import QueueEntry

ENTRY: Final = """
local function check_entry(queue, group, consumer, id)
  if id == '' then return 'ours' end
  local pending = redis.pcall('XPENDING', queue, group, '-', '+', 1, consumer)
  if pending.err then return nil, 'TRYAGAIN the queue is gone: ' .. pending.err end
  if pending[1] and pending[1][1] == id then return 'ours' end
  if not redis.call('XPENDING', queue, group, id, id, 1)[1] then return 'gone' end
  return nil, 'TRYAGAIN an earlier entry of the queue comes first'
end
local function remove_entry(queue, group, id)
  if id ~= '' then
    redis.call('XACK', queue, group, id)
    redis.call('XDEL', queue, id)
  end
end
"""
"""Lua functions. ``check_entry`` returns "ours" if an entry is the next of its consumer, "gone" if it has left its queue,
or an error. Without an id there is no entry: the first returns "ours", the second does nothing."""

MARK_MS: Final = 600_000
"""The time for which it is known which entry of a queue was the last on a stream. A node publishes an entry again
within seconds; a queue that was deleted may begin again with lower ids."""

MARKED_ENTRY: Final = f"""
local function is_later(id, mark)
  local ms, number = string.match(id, '^(%d+)-(%d+)$')
  local known_ms, known_number = string.match(mark, '^(%d+)-(%d+)$')
  ms, known_ms = tonumber(ms), tonumber(known_ms)
  return ms > known_ms or ms == known_ms and tonumber(number) > tonumber(known_number)
end
local function check_entry(queue, group, consumer, id)
  local mark = redis.call('HGET', KEYS[#KEYS], queue .. ' ' .. group)
  if mark and not is_later(id, mark) then return 'gone' end
  return 'ours'
end
local function remove_entry(queue, group, id)
  redis.call('HSET', KEYS[#KEYS], queue .. ' ' .. group, id)
  redis.call('PEXPIRE', KEYS[#KEYS], {MARK_MS})
end
"""
"""The same functions for a cluster, where the queue is in another slot than the stream of a message. The last key is a hash
beside the stream, with the id of the last entry of each queue: entries are published in their order, so one that is not
later was published before. The node that reads the queue removes the entry from it."""


def entry_arguments(entry: QueueEntry | None) -> tuple[Argument, ...]:
    """Queue, group, consumer and id, as the script expects them."""
    if entry is None:
        return ("", "", "", "")
    return (entry.queue, entry.group, entry.consumer, entry.id)
