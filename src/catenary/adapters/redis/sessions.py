"""Sessions that may be resumed, in Redis: any node can take them.

    <prefix>:sessions             hash        sid → snapshot
    <prefix>:sessions:deadlines   sorted set  sid → when its time is over, in ms of Redis' clock

Two keys for all, and not one for each session, because then two expiries bound everything, however
long a session lives: a day after no node uses them any more, Redis forgets them.
Knows: sids and bytes. Does not know: what a snapshot says.
Source: broker/session_cache.py, the same in memory.
"""

import asyncio
from collections.abc import Awaitable, Collection
from typing import Any, Final

from catenary.adapters.redis.commands import NOW, Commands, Script
from catenary.messages.names import Sid

TOUCHED_AT_ONCE: Final = 250
"""Sessions touched in one step: 2 ms, during which Redis does nothing else."""

EXPIRED_AT_ONCE: Final = 200
"""Snapshots that one answer carries."""

UNUSED_S: Final = 86_400
"""What is stored outlives every node by so long: who comes back by then tells of all ends."""

_KEEP: Final = """
redis.call('PEXPIRE', KEYS[1], unused)
redis.call('PEXPIRE', KEYS[2], unused)
"""

SAVE: Final = Script(
    NOW
    + """
local ttl, unused, sid, snapshot, is_new = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5]
if is_new == '0' and not redis.call('ZSCORE', KEYS[2], sid) then return end
redis.call('HSET', KEYS[1], sid, snapshot)
redis.call('ZADD', KEYS[2], now + ttl, sid)
"""
    + _KEEP
)

TOUCH: Final = Script(
    NOW
    + """
local ttl, unused = ARGV[1], ARGV[2]
for number = 3, #ARGV do
  local deadline = redis.call('ZSCORE', KEYS[2], ARGV[number])
  if deadline and tonumber(deadline) > now then
    redis.call('ZADD', KEYS[2], now + ttl, ARGV[number])
  end
end
"""
    + _KEEP
)

TAKE: Final = Script(
    NOW
    + """
local deadline = redis.call('ZSCORE', KEYS[2], ARGV[1])
if not deadline or tonumber(deadline) <= now then return end
local snapshot = redis.call('HGET', KEYS[1], ARGV[1])
redis.call('HDEL', KEYS[1], ARGV[1])
redis.call('ZREM', KEYS[2], ARGV[1])
return snapshot
"""
)

EXPIRE: Final = Script(
    NOW
    + """
local sids = redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', now, 'LIMIT', 0, ARGV[1])
if #sids == 0 then return {} end
local snapshots = redis.call('HMGET', KEYS[1], unpack(sids))
redis.call('HDEL', KEYS[1], unpack(sids))
redis.call('ZREM', KEYS[2], unpack(sids))
return snapshots
"""
)

SCRIPTS: Final = (SAVE, TOUCH, TAKE, EXPIRE)


class RedisSessions:
    """Satisfies :class:`catenary.ports.SessionCache`. Each may be taken for ``ttl_s``."""

    __slots__ = ("_commands", "_keys", "_ttl_ms", "_ttl_s", "_unused_ms")

    is_shared = True

    def __init__(self, commands: Commands, prefix: str, *, ttl_s: int) -> None:
        self._commands = commands
        self._keys = (f"{prefix}:sessions", f"{prefix}:sessions:deadlines")
        self._ttl_s = ttl_s
        self._ttl_ms = ttl_s * 1000
        self._unused_ms = (ttl_s + UNUSED_S) * 1000

    def save(self, sid: Sid, snapshot: bytes, *, is_new: bool = True) -> Awaitable[None]:
        """Keeps a session, in place of what was kept of it; one that is not new only there."""
        return self._commands.run(
            SAVE, self._keys, self._ttl_ms, self._unused_ms, sid, snapshot, int(is_new)
        )

    def touch(self, sids: Collection[Sid]) -> Awaitable[Any] | None:
        """Their time runs anew; nothing happens for one that is not kept."""
        some = list(sids)
        if not some:
            return None
        return asyncio.gather(
            *(
                self._commands.run(
                    TOUCH,
                    self._keys,
                    self._ttl_ms,
                    self._unused_ms,
                    *some[start : start + TOUCHED_AT_ONCE],
                )
                for start in range(0, len(some), TOUCHED_AT_ONCE)
            )
        )

    def take(self, sid: Sid) -> Awaitable[bytes | None]:
        """Takes a session out: of several who ask, one gets it. None where it is not there."""
        return self._commands.run(TAKE, self._keys, sid)

    def expire(self) -> tuple[bytes, ...] | Awaitable[tuple[bytes, ...]]:
        """Takes out sessions whose time is over, 200 at most; each is returned once, to one node.

        Behind an outage it waits for a while: the nodes that live touch theirs first.
        """
        if not self._commands.is_settled(self._ttl_s):
            return ()
        return _snapshots(self._commands.run(EXPIRE, self._keys, EXPIRED_AT_ONCE))

    def give_up(self) -> tuple[bytes, ...]:
        """At the end of this node: none, for other nodes may resume them."""
        return ()


async def _snapshots(answer: "asyncio.Future[Any]") -> tuple[bytes, ...]:
    return tuple(snapshot for snapshot in await answer if snapshot is not None)
