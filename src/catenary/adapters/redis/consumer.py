"""The reader of a Redis stream in a consumer group: the node that holds the lease.

All nodes read as the same consumer, :data:`READER`, so the next node finds the entries that a node has read and not
finished, at once and in order. The lease is a key beside the stream:

    <stream>:<group>:reader    the id of the node that reads; expires ``lease_s`` after it was last renewed

(on a Redis Cluster ``{<stream>}:<group>:reader``, in the slot of the stream.)

Other servers of the group (anycable-go, older versions) read as consumers of their own; entries that they do not
finish are claimed. Only commands of Redis 6.2 are used. Every method raises
:class:`redis.exceptions.RedisError` or OSError if Redis is unavailable, does not answer in time, or refuses.
Knows: streams and groups. Does not know: the contents of entries, who publishes them.
Source: redis.io, "Redis Streams", "Distributed Locks with Redis".
"""

import asyncio
import secrets
import socket
from collections.abc import Awaitable, Sequence
from typing import Final, NamedTuple, TypeVar

from redis.asyncio import Redis
from redis.exceptions import ResponseError

T = TypeVar("T")

BATCH_BYTES: Final = 4_194_304
"""A read ends with the step that reaches this size."""

STEP: Final = 8
"""Entries in one step of a read. Steps of one entry double the time that Redis needs for a read."""

READER: Final = "catenary"
"""The name of the consumer, the same for every node."""

_READ: Final = """
local stream, lease = KEYS[1], KEYS[2]
local node, lease_ms, group, reader, after = unpack(ARGV)
local count, bytes, step = tonumber(ARGV[6]), tonumber(ARGV[7]), tonumber(ARGV[8])
local holder = redis.call('GET', lease)
if holder and holder ~= node then return {0} end
if not holder then after = '0' end
local is_new, entries, size = after == '>', {}, 0
while #entries < count and size < bytes do
  local read = redis.call(
    'XREADGROUP', 'GROUP', group, reader,
    'COUNT', math.min(step, count - #entries), 'STREAMS', stream, after
  )
  local some = read and read[1][2] or {}
  if #some == 0 then break end
  for _, entry in ipairs(some) do
    entries[#entries + 1] = entry
    for _, field in ipairs(entry[2] or {}) do size = size + #field end
  end
  if not is_new then after = entries[#entries][1] end
end
redis.call('SET', lease, node, 'PX', lease_ms)
local last = ''
if is_new and #entries == 0 then
  for _, info in ipairs(redis.call('XINFO', 'GROUPS', stream)) do
    for field = 1, #info, 2 do
      if info[field] == 'name' and info[field + 1] ~= group then break end
      if info[field] == 'last-delivered-id' then last = info[field + 1] end
    end
  end
end
return {holder and 1 or 2, entries, last}
"""
"""Acquires or renews the lease, and reads; does nothing if another node holds it.

This is one step, so a node that has lost its lease can't read. A node that has just acquired it reads the entries that
were read before and not finished. It reads in steps, because Redis limits a read by the number of entries only, and
an entry may be large. Returns 0 (another node holds the lease), 1 (renewed) or 2 (acquired), the entries,
and, if there are no new ones, the id after which they come.
"""

_KEEP: Final = """
if redis.call('GET', KEYS[2]) ~= ARGV[1] then return 0 end
redis.call('PEXPIRE', KEYS[2], ARGV[2])
local ids = {}
for _, entry in ipairs(redis.call('XPENDING', KEYS[1], ARGV[3], '-', '+', ARGV[5], ARGV[4])) do
  ids[#ids + 1] = entry[1]
end
if #ids > 0 then
  ids[#ids + 1] = 'JUSTID'
  redis.call('XCLAIM', KEYS[1], ARGV[3], ARGV[4], 0, unpack(ids))
end
return 1
"""
"""Renews the lease. Claims the pending entries again, so that no other server of the group does; their contents are
not read."""

_CLAIM: Final = """
local claimed = redis.call(
  'XAUTOCLAIM', KEYS[1], ARGV[1], ARGV[2], ARGV[3], ARGV[4], 'COUNT', ARGV[5], 'JUSTID'
)
return {claimed[1], #claimed[2]}
"""
"""Claims entries without reading their contents: the next read has a limit for them. Returns the id to continue with, and
their number. This is a script, because redis-py does not return that id with JUSTID."""

_RELEASE: Final = """
if redis.call('GET', KEYS[2]) == ARGV[1] then redis.call('DEL', KEYS[2]) end
"""


class StreamEntry(NamedTuple):
    """An entry of the stream. ``fields`` are alternating names and values; None if it was deleted
    from the stream before it was acknowledged."""

    id: bytes
    fields: list[bytes] | None


class Reading(NamedTuple):
    """The result of a read. ``is_new``: the lease was just acquired, and ``entries`` are those that another
    node did not finish. ``last`` is the id after which new entries come, if there are none."""

    entries: list[StreamEntry]
    is_new: bool
    last: bytes


class Consumer:
    """One of the nodes that may read. The lease expires ``lease_s`` after it was last renewed."""

    __slots__ = (
        "_blocked",
        "_claim",
        "_claimed_to",
        "_client",
        "_group",
        "_keep",
        "_keys",
        "_lease_ms",
        "_patience_s",
        "_read",
        "_release",
        "_stream",
        "node",
    )

    def __init__(
        self,
        client: Redis,
        stream: str,
        group: str,
        *,
        lease: str,
        lease_s: float,
        patience_s: float,
    ) -> None:
        """``lease`` is the key of the lease."""
        self.node = f"{socket.gethostname()}-{secrets.token_hex(4)}"
        """The id of this node, as the value of the lease."""
        self._client = client
        self._stream = stream
        self._group = group
        self._keys = (stream, lease)
        self._lease_ms = int(lease_s * 1000)
        self._patience_s = patience_s
        self._blocked: asyncio.Timeout | None = None
        self._claimed_to: str | bytes = "0-0"
        self._read = client.register_script(_READ)
        self._keep = client.register_script(_KEEP)
        self._claim = client.register_script(_CLAIM)
        self._release = client.register_script(_RELEASE)

    async def join(self) -> None:
        """Creates the group if it does not exist. A new group begins with the oldest entry of the stream, so
        that entries from before the first node, or from before Redis lost the group, are published."""
        try:
            await self._within_patience(
                self._client.xgroup_create(self._stream, self._group, id="0", mkstream=True)
            )
        except ResponseError as error:
            if not str(error).startswith("BUSYGROUP"):
                raise

    async def read_new(self, count: int) -> Reading | None:
        """Reads up to ``count`` entries that no consumer has, fewer if they are large; None if another node holds the
        lease."""
        return await self._read_after(">", count)

    async def read_pending(self, count: int) -> Reading | None:
        """Reads the first entries that were read, by any node, and not acknowledged; None as above."""
        return await self._read_after("0", count)

    async def wait(self, last: bytes, block_ms: int) -> None:
        """Waits for an entry after ``last``, up to ``block_ms``; :meth:`interrupt` ends the wait."""
        try:
            async with asyncio.timeout(block_ms / 1000 + self._patience_s) as self._blocked:
                await self._client.execute_command(  # type: ignore[no-untyped-call]
                    *("XREAD", "COUNT", 1, "BLOCK", block_ms, "STREAMS", self._stream, last)
                )
        finally:
            self._blocked = None

    def interrupt(self) -> None:
        """Ends :meth:`wait` with TimeoutError, if it waits."""
        if self._blocked is not None and not self._blocked.expired():
            self._blocked.reschedule(asyncio.get_running_loop().time())

    async def renew(self, count: int) -> bool:
        """Renews the lease while ``count`` entries are being published; False if another node holds it."""
        arguments = (self.node, self._lease_ms, self._group, READER, count)
        return bool(await self._within_patience(self._keep(self._keys, arguments)))

    async def release(self) -> None:
        """Releases the lease, if this node holds it."""
        await self._within_patience(self._release(self._keys, (self.node,)))

    async def acknowledge(self, ids: Sequence[bytes]) -> None:
        """Acknowledges and deletes entries."""
        pipeline = self._client.pipeline(transaction=True)
        pipeline.xack(self._stream, self._group, *ids)
        pipeline.xdel(self._stream, *ids)
        await self._within_patience(pipeline.execute())

    async def claim(self, count: int, idle_s: float) -> int:
        """Claims entries that any consumer has read ``idle_s`` ago and not acknowledged; returns how many.

        Redis examines ten times ``count`` entries; the next call continues after them.
        """
        arguments = (self._group, READER, int(idle_s * 1000), self._claimed_to, count)
        self._claimed_to, claimed = await self._within_patience(
            self._claim(self._keys[:1], arguments)
        )
        return int(claimed)

    async def lag(self) -> int:
        """The number of entries that no consumer has read."""
        pipeline = self._client.pipeline(transaction=True)
        pipeline.xlen(self._stream)
        pipeline.xpending(self._stream, self._group)
        length, owed = await self._within_patience(pipeline.execute())
        waiting: int = length - owed["pending"]
        return max(waiting, 0)

    async def _read_after(self, after: str, count: int) -> Reading | None:
        arguments = (
            *(self.node, self._lease_ms, self._group, READER, after),
            *(count, BATCH_BYTES, STEP),
        )
        status, *rest = await self._within_patience(self._read(self._keys, arguments))
        if not rest:
            return None
        entries, last = rest
        return Reading([StreamEntry(id_, fields) for id_, fields in entries], status == 2, last)

    async def _within_patience(self, answer: Awaitable[T]) -> T:
        async with asyncio.timeout(self._patience_s):
            return await answer
