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


def entry_arguments(entry: QueueEntry | None) -> tuple[Argument, ...]:
    """Queue, group, consumer and id, as the script expects them."""
    if entry is None:
        return ("", "", "", "")
    return (entry.queue, entry.group, entry.consumer, entry.id)
