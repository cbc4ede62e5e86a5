"""Resumable sessions in Redis: any node can take them.

    <prefix>:sessions             hash        sid → the first line of a snapshot,
                                              sid, line feed and number → another line of it
    <prefix>:sessions:deadlines   sorted set  sid → when it expires, in ms of Redis' clock
    <prefix>:sessions:revoked     sorted set  remote disconnect → number

All sessions share two keys, so that two expiries are enough, however
long a session lives: the keys expire a day after the last use.

One script numbers, stores and publishes a remote disconnect. The numbers follow Redis' clock, so they grow
even if Redis has lost its data. A node that was disconnected reads the remote disconnects that it has missed, and takes
no session before it has all of them.
Knows: sids and bytes. Does not know: the contents of snapshots.
Source: broker/session_cache.py, the same in memory.
"""

import asyncio
from collections.abc import Awaitable, Collection, Mapping
from typing import Any, Final

from catenary.adapters.pacing import paced
from catenary.adapters.packing import NumberedCommand
from catenary.adapters.redis.commands import NOW, RedisCommands, Script
from catenary.adapters.redis.queue_entry import ENTRY, entry_arguments
from catenary.broker.revocations import LATE_S, LIMIT, Revocations
from catenary.errors import NotCaughtUp
from catenary.messages.names import Sid
from catenary.messages.publications import QueueEntry, RemoteDisconnect

TOUCHED_AT_ONCE: Final = 250
"""Sessions touched by one script: 2 ms, during which Redis does nothing else."""

EXPIRED_AT_ONCE: Final = 200
"""Snapshots in one reply."""

UNUSED_S: Final = 86_400
"""The time for which sessions are stored after the last node has stopped: a node that starts within it ends them."""

RELAY_MS: Final = 2_000
"""The time within which all nodes relay the same remote disconnect."""

ALL: Final = "inf"
"""In place of the number of the newest known revocation: the session is taken in any case."""

_KEEP: Final = """
redis.call('PEXPIRE', KEYS[1], unused)
redis.call('PEXPIRE', KEYS[2], unused)
"""

_TAKE_LINES: Final = """
local function take_lines(sid)
  local lines, field, number = {}, sid, 0
  while true do
    local line = redis.call('HGET', KEYS[1], field)
    if not line then return #lines > 0 and table.concat(lines, '\\n') end
    redis.call('HDEL', KEYS[1], field)
    number = number + 1
    lines[number] = line
    field = sid .. '\\n' .. number
  end
end
"""

SAVE: Final = Script(
    NOW
    + """
local ttl, unused, sid, is_new = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
if is_new == '0' and not redis.call('ZSCORE', KEYS[2], sid) then return end
redis.call('HSET', KEYS[1], sid, ARGV[5])
for number = 6, #ARGV do
  redis.call('HSET', KEYS[1], sid .. '\\n' .. number - 5, ARGV[number])
end
local number = #ARGV - 4
while redis.call('HDEL', KEYS[1], sid .. '\\n' .. number) == 1 do number = number + 1 end
redis.call('ZADD', KEYS[2], now + ttl, sid)
"""
    + _KEEP
)
"""Stores the lines of a snapshot, and deletes those that it had in addition."""

AMEND: Final = Script(
    NOW
    + """
local ttl, unused, sid = ARGV[1], ARGV[2], ARGV[3]
if not redis.call('ZSCORE', KEYS[2], sid) then return end
for number = 4, #ARGV, 2 do
  local field = ARGV[number] == '0' and sid or sid .. '\\n' .. ARGV[number]
  redis.call('HSET', KEYS[1], field, ARGV[number + 1])
end
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
    + _TAKE_LINES
    + """
local newest = redis.call('ZRANGE', KEYS[3], -1, -1, 'WITHSCORES')[2]
if newest and tonumber(newest) > tonumber(ARGV[2]) then return 0 end
local deadline = redis.call('ZSCORE', KEYS[2], ARGV[1])
if not deadline or tonumber(deadline) <= now then return end
redis.call('ZREM', KEYS[2], ARGV[1])
return take_lines(ARGV[1])
"""
)
"""Returns a snapshot, or 0 if there are revocations after the newest one that the node knows."""

REVOKE: Final = Script(
    NOW
    + ENTRY
    + """
local command, reconnect, channel, since = ARGV[1], ARGV[2], ARGV[3], now - ARGV[4]
local limit, unused = ARGV[5], ARGV[6]
local entry, trouble = check_entry(ARGV[7], ARGV[8], ARGV[9], ARGV[10])
if trouble then return redis.error_reply(trouble) end
if entry == 'gone' then return end
local revocation = reconnect .. command
local before = redis.call('ZSCORE', KEYS[1], revocation)
if before and tonumber(before) > since then return end
local newest = redis.call('ZRANGE', KEYS[1], -1, -1, 'WITHSCORES')[2]
local number = math.max(now, (tonumber(newest) or 0) + 1)
redis.call('ZADD', KEYS[1], number, revocation)
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now - unused)
redis.call('ZREMRANGEBYRANK', KEYS[1], 0, -limit - 1)
redis.call('PEXPIRE', KEYS[1], unused)
redis.call('PUBLISH', channel, cmsgpack.pack({'disconnect', command, reconnect == '1', number}))
remove_entry(ARGV[7], ARGV[8], ARGV[10])
"""
)
"""Numbers, stores and publishes a remote disconnect. If another node has just relayed the same one, does nothing."""

MISSED: Final = Script(
    NOW
    + """
local since = ARGV[1]
if ARGV[2] ~= '0' then since = now - ARGV[2] end
return redis.call('ZRANGEBYSCORE', KEYS[1], '(' .. string.format('%.0f', since), '+inf', 'WITHSCORES')
"""
)

EXPIRE: Final = Script(
    NOW
    + _TAKE_LINES
    + """
local sids = redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', now, 'LIMIT', 0, ARGV[1])
if #sids == 0 then return {} end
local snapshots = {}
for number, sid in ipairs(sids) do snapshots[number] = take_lines(sid) end
redis.call('ZREM', KEYS[2], unpack(sids))
return snapshots
"""
)

SCRIPTS: Final = (SAVE, AMEND, TOUCH, TAKE, REVOKE, MISSED, EXPIRE)


class RedisSessions:
    """Satisfies :class:`catenary.ports.SessionCache`. A session can be taken for ``ttl_s`` seconds."""

    __slots__ = (
        "_clock",
        "_commands",
        "_keys",
        "_revoked",
        "_ttl_ms",
        "_ttl_s",
        "_unused_ms",
        "revocations",
    )

    is_shared = True

    def __init__(self, commands: RedisCommands, prefix: str, *, ttl_s: int) -> None:
        self._commands = commands
        self._keys = (f"{prefix}:sessions", f"{prefix}:sessions:deadlines")
        self._revoked = f"{prefix}:sessions:revoked"
        self._clock = asyncio.get_running_loop().time
        self.revocations = Revocations(ttl_s)
        self._ttl_s = ttl_s
        self._ttl_ms = ttl_s * 1000
        self._unused_ms = (ttl_s + UNUSED_S) * 1000

    def save(self, sid: Sid, snapshot: bytes, *, is_new: bool = True) -> Awaitable[None]:
        """Stores a session. If it is not new, it only replaces an earlier snapshot."""
        return self._commands.run(
            SAVE,
            self._keys,
            *(self._ttl_ms, self._unused_ms, sid, int(is_new)),
            *snapshot.split(b"\n"),
        )

    def amend(self, sid: Sid, lines: Mapping[int, bytes]) -> Awaitable[None]:
        """Replaces or adds lines of a snapshot; does nothing if it is not stored any more."""
        numbered = [part for number, line in lines.items() for part in (number, line)]
        return self._commands.run(AMEND, self._keys, self._ttl_ms, self._unused_ms, sid, *numbered)

    def touch(self, sids: Collection[Sid]) -> Awaitable[Any] | None:
        """Restarts the time to live of those that are stored."""
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
        """Takes a session out: one of several concurrent callers gets it. None if it is not stored.

        Raises :class:`NotCaughtUp` if Redis has revocations that this node has not received.
        """
        return _taken(self._take(sid, self.revocations.newest))

    def remove(self, sid: Sid) -> Awaitable[bytes | None]:
        """Takes a session out, to end it."""
        return self._take(sid, ALL)

    def _take(self, sid: Sid, known: int | str) -> "asyncio.Future[Any]":
        return self._commands.run(TAKE, (*self._keys, self._revoked), sid, known)

    # Remote disconnects

    def revoke(
        self,
        command: RemoteDisconnect,
        channel: bytes,
        entry: QueueEntry | None = None,
        *,
        is_relayed: bool = False,
    ) -> Awaitable[None]:
        """Revokes identifiers, and sends the command to all nodes; once, if all of them relay it.

        If it was read from a queue, its ``entry`` leaves the queue in the same step.
        """
        return self._commands.run(
            REVOKE,
            (self._revoked,),
            *(command.identifiers, int(command.reconnect), channel),
            *(RELAY_MS if is_relayed else 0, LIMIT, self._unused_ms),
            *entry_arguments(entry),
        )

    async def missed(self, *, is_first: bool) -> list[NumberedCommand]:
        """Reads the remote disconnects after the newest known one, in order.

        The first time, reads those that are younger than the oldest session can be. Raises :class:`BackendError`.
        """
        lately_ms = self._ttl_ms + LATE_S * 1000 if is_first else 0
        found = await self._commands.run(
            MISSED, (self._revoked,), self.revocations.newest, lately_ms
        )
        return [
            NumberedCommand(
                RemoteDisconnect(revocation[1:].decode(), revocation[:1] == b"1"), int(number)
            )
            async for revocation, number in paced(zip(found[::2], found[1::2], strict=True))
        ]

    def received(self, command: NumberedCommand) -> bool:
        """Adds the revocation of a remote disconnect; returns False if it is known."""
        return command.number == 0 or self.revocations.add(
            command.command.identifiers, command.number, self._clock()
        )

    def expire(self) -> tuple[bytes, ...] | Awaitable[tuple[bytes, ...]]:
        """Takes out expired sessions, 200 at most; each is returned once, on one node.

        Does nothing for some time after an outage, so that live nodes can touch their sessions first.
        """
        if not self._commands.is_settled(self._ttl_s):
            return ()
        return _snapshots(self._commands.run(EXPIRE, self._keys, EXPIRED_AT_ONCE))

    def give_up(self) -> tuple[bytes, ...]:
        """Returns none at the end of this node: other nodes may resume them."""
        return ()


async def _taken(answer: "asyncio.Future[Any]") -> bytes | None:
    taken: bytes | int | None = await answer
    if isinstance(taken, int):
        raise NotCaughtUp("this node has not received all remote disconnects yet")
    return taken


async def _snapshots(answer: "asyncio.Future[Any]") -> tuple[bytes, ...]:
    return tuple(snapshot for snapshot in await answer if snapshot is not None)
