"""The presence of a cluster, in Redis.

    <prefix>:presence:deadlines     sorted set  sid → when it expires, in ms of Redis' clock
    <prefix>:presence:of:<sid>      hash        stream → the member id of the session
    <prefix>:presence:on:<stream>   hash        "=" + member id → "<order> <sessions> <info>",
                                                "n" → the order assigned last

Every step is one script. Scripts use keys whose names they have read, so all keys are in one slot of a Redis Cluster. Keys
expire a day after the last use.
Knows: sids, ids, times. Does not know: how changes are announced.
Source: broker/presence_set.py, the same in memory.
"""

import asyncio
from collections.abc import Awaitable, Collection
from typing import Any, Final

from catenary.adapters.pacing import paced
from catenary.adapters.redis.commands import NOW, RedisCommands, Script
from catenary.messages.names import Sid, Stream
from catenary.messages.presence import Member, PresenceChange

TOUCHED_AT_ONCE: Final = 250
"""Sessions touched by one script: 1 to 2 ms, during which Redis does nothing else; once an hour 6 ms."""

EXPIRED_AT_ONCE: Final = 200
"""Sessions that expire in one script."""

STREAMS_AT_ONCE: Final = 2_000
"""Streams that expired sessions leave in one script: about 5 ms. A session with more leaves the others with the next scripts."""

UNUSED_S: Final = 86_400
"""The time for which keys are stored after the last node has stopped."""

RENEW_S: Final = 3_600
"""The interval at which the keys of present sessions are renewed: less than a day, and rare enough to cost little."""

_PART: Final = """
local function part(on, id)
  local entry = redis.call('HGET', on, '=' .. id)
  if not entry then return false end
  local order, sessions, info = string.match(entry, '^(%d+) (%d+) (.*)$')
  if tonumber(sessions) > 1 then
    redis.call('HSET', on, '=' .. id, order .. ' ' .. (sessions - 1) .. ' ' .. info)
    return false
  end
  redis.call('HDEL', on, '=' .. id)
  if redis.call('HLEN', on) == 1 then redis.call('DEL', on) end
  return true
end
"""

JOIN: Final = Script(
    NOW
    + """
local deadlines, of, on = KEYS[1], KEYS[2], KEYS[3]
local ttl, unused, stream, sid, id, info = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5], ARGV[6]
local known = redis.call('HGET', of, stream)
if known and known ~= id then return 0 end
redis.call('ZADD', deadlines, now + ttl, sid)
local entry = redis.call('HGET', on, '=' .. id)
local order, sessions, before
if entry then
  order, sessions, before = string.match(entry, '^(%d+) (%d+) (.*)$')
else
  order, sessions = redis.call('HINCRBY', on, 'n', 1), 0
end
if not known then
  redis.call('HSET', of, stream, id)
  sessions = sessions + 1
end
redis.call('HSET', on, '=' .. id, order .. ' ' .. sessions .. ' ' .. info)
for _, key in ipairs(KEYS) do redis.call('PEXPIRE', key, unused) end
if not entry then return 1 end
return before == info and 0 or 2
"""
)
"""Returns 0 (nothing changed for others), 1 (a join) or 2 (new info)."""

LEAVE: Final = Script(
    _PART
    + """
local deadlines, of, on = KEYS[1], KEYS[2], KEYS[3]
local stream, sid = ARGV[1], ARGV[2]
local id = redis.call('HGET', of, stream)
if not id then return end
redis.call('HDEL', of, stream)
if redis.call('EXISTS', of) == 0 then redis.call('ZREM', deadlines, sid) end
if part(on, id) then return id end
"""
)
"""Returns the id of the member that leaves with this session."""

TOUCH: Final = Script(
    NOW
    + """
local ttl, unused, prefix_of, prefix_on = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local deadline, pairs = now + ttl, {}
for number = 5, #ARGV do
  pairs[#pairs + 1] = deadline
  pairs[#pairs + 1] = ARGV[number]
end
redis.call('ZADD', KEYS[1], 'XX', unpack(pairs))
redis.call('PEXPIRE', KEYS[1], unused)
if prefix_of == '' then return end
for number = 5, #ARGV do
  local of = prefix_of .. ARGV[number]
  redis.call('PEXPIRE', of, unused)
  for _, stream in ipairs(redis.call('HKEYS', of)) do
    redis.call('PEXPIRE', prefix_on .. stream, unused)
  end
end
"""
)
"""With prefixes, the keys of these sessions and of their streams are renewed, too."""

EXPIRE: Final = Script(
    NOW
    + _PART
    + """
local prefix_of, prefix_on, room, leaves = ARGV[1], ARGV[2], tonumber(ARGV[4]), {}
local sids = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now, 'LIMIT', 0, ARGV[3])
for _, sid in ipairs(sids) do
  local of, cursor = prefix_of .. sid, '0'
  repeat
    local reply = redis.call('HSCAN', of, cursor, 'COUNT', 200)
    local streams = reply[2]
    cursor = reply[1]
    for number = 1, #streams, 2 do
      if part(prefix_on .. streams[number], streams[number + 1]) then
        leaves[#leaves + 1] = {streams[number], streams[number + 1]}
      end
      redis.call('HDEL', of, streams[number])
    end
    room = room - #streams / 2
  until cursor == '0' or room <= 0
  if redis.call('EXISTS', of) == 0 then redis.call('ZREM', KEYS[1], sid) end
  if room <= 0 then break end
end
return leaves
"""
)

SCRIPTS: Final = (JOIN, LEAVE, TOUCH, EXPIRE)


class RedisPresence:
    """Satisfies :class:`catenary.ports.Presence`.

    A session that was not touched for ``ttl_s`` seconds leaves at the next :meth:`expire` of any node.
    """

    __slots__ = ("_commands", "_deadlines", "_of", "_on", "_ttl_ms", "_ttl_s", "_unused_ms")

    def __init__(self, commands: RedisCommands, prefix: str, *, ttl_s: int) -> None:
        self._commands = commands
        self._deadlines = f"{prefix}:presence:deadlines"
        self._of = f"{prefix}:presence:of:"
        self._on = f"{prefix}:presence:on:"
        self._ttl_s = ttl_s
        self._ttl_ms = ttl_s * 1000
        self._unused_ms = (ttl_s + UNUSED_S) * 1000

    def join(
        self, stream: Stream, sid: Sid, member_id: str, info: str
    ) -> Awaitable[PresenceChange | None]:
        """Adds a session to a member; returns None if nothing changed for others.

        Nothing changes if the session is present under another id.
        """
        answer = self._commands.run(
            JOIN,
            (self._deadlines, self._of + sid, self._on + stream),
            self._ttl_ms,
            self._unused_ms,
            stream,
            sid,
            member_id,
            info,
        )
        return _joined(answer, stream, member_id, info)

    def leave(self, stream: Stream, sid: Sid) -> Awaitable[PresenceChange | None]:
        """Removes a session from its member, which leaves with its last session."""
        keys = (self._deadlines, self._of + sid, self._on + stream)
        return _left(self._commands.run(LEAVE, keys, stream, sid), stream)

    def touch(self, sids: Collection[Sid]) -> Awaitable[Any] | None:
        """Restarts the time to live of sessions, on all their streams."""
        some = list(sids)
        if not some:
            return None
        now_s = asyncio.get_running_loop().time()
        prefixes = (self._of, self._on) if self.is_renewing(now_s) else ("", "")
        return asyncio.gather(
            *(
                self._commands.run(
                    TOUCH,
                    (self._deadlines,),
                    self._ttl_ms,
                    self._unused_ms,
                    *prefixes,
                    *some[start : start + TOUCHED_AT_ONCE],
                )
                for start in range(0, len(some), TOUCHED_AT_ONCE)
            )
        )

    def members(self, stream: Stream) -> Awaitable[tuple[Member, ...]]:
        """The members, in the order in which they joined."""
        return _members(self._commands.call("HGETALL", self._on + stream))

    def streams(self, sid: Sid) -> Awaitable[tuple[Stream, ...]]:
        """The streams on which a session is present."""
        return _streams(self._commands.call("HKEYS", self._of + sid))

    def expire(self) -> tuple[PresenceChange, ...] | Awaitable[tuple[PresenceChange, ...]]:
        """Removes expired sessions, 200 at most and from about 2,000 streams, and returns the leaves, each on one node.

        Does nothing for some time after an outage, so that live nodes can touch their sessions first.
        """
        if not self._commands.is_settled(self._ttl_s):
            return ()
        return _leaves(
            self._commands.run(
                EXPIRE,
                (self._deadlines,),
                self._of,
                self._on,
                EXPIRED_AT_ONCE,
                STREAMS_AT_ONCE,
            )
        )

    def is_renewing(self, now_s: float) -> bool:
        """True once an hour for ``ttl_s``: each present session is touched within this time."""
        return now_s % RENEW_S < self._ttl_s


async def _joined(
    answer: "asyncio.Future[int]", stream: Stream, member_id: str, info: str
) -> PresenceChange | None:
    match await answer:
        case 0:
            return None
        case 1:
            return PresenceChange(stream, "join", member_id, info)
        case _:
            return PresenceChange(stream, "update", member_id, info)


async def _left(answer: "asyncio.Future[bytes | None]", stream: Stream) -> PresenceChange | None:
    member_id = await answer
    return None if member_id is None else PresenceChange(stream, "leave", member_id.decode())


async def _members(answer: "asyncio.Future[list[bytes]]") -> tuple[Member, ...]:
    """Reads alternating names and values."""
    found = await answer
    members: dict[int, Member] = {}
    pairs = zip(found[::2], found[1::2], strict=True)
    async for field, value in paced(pairs, _pair_size):
        if field.startswith(b"="):
            order, _, info = value.split(b" ", 2)
            members[int(order)] = Member(field[1:].decode(), info.decode())
    return tuple(members[order] for order in sorted(members))


async def _streams(answer: "asyncio.Future[list[bytes]]") -> tuple[Stream, ...]:
    return tuple([Stream(each.decode()) async for each in paced(await answer)])


def _pair_size(pair: tuple[bytes, bytes]) -> int:
    return len(pair[1])


async def _leaves(answer: "asyncio.Future[Any]") -> tuple[PresenceChange, ...]:
    leaves = [
        PresenceChange(Stream(stream.decode()), "leave", member_id.decode())
        async for stream, member_id in paced(await answer)
    ]
    return tuple(leaves)
