"""The records of durable streams in Redis.

    <prefix>:durable:<stream>        string  the record, with its time to live
    <prefix>:durable-gone:<stream>   string  exists as long as the record, and as long after it as the history keeps messages

One script compares and replaces the record, and stores and publishes the messages, so that writers at several nodes are
serialized, and a repeated request of a producer is appended once even if a node dies.
Knows: keys, scripts. Does not know: what a record means.
"""

import secrets
from typing import Any, Final

from catenary.adapters.redis import payload
from catenary.adapters.redis.appender import APPEND_LUA, RedisAppender
from catenary.adapters.redis.commands import NOW, RedisCommands, Script
from catenary.adapters.redis.names import RedisNames
from catenary.messages.names import Stream
from catenary.messages.publications import Publication

WRITE: Final = Script(
    NOW
    + APPEND_LUA
    + """
local expected, record, record_ttl, gone_ttl = ARGV[8], ARGV[9], ARGV[10], ARGV[11]
if (redis.call('GET', KEYS[3]) or '') ~= expected then return 0 end
if #ARGV > 11 and not may_publish(ARGV[7]) then
  return redis.error_reply('NOPERM this user may not publish to ' .. ARGV[7])
end
if record == '' then
  redis.call('DEL', KEYS[3])
else
  redis.call('SET', KEYS[3], record, 'PX', record_ttl)
end
redis.call('SET', KEYS[4], '', 'PX', gone_ttl)
for number = 12, #ARGV do
  append(KEYS[1], KEYS[2], ARGV[6], ARGV[7], ARGV[number])
end
return 1
"""
)
"""Replaces the record and appends messages, unless the record is another one: then returns 0."""

TOUCH: Final = Script(
    """
if redis.call('PEXPIRE', KEYS[1], ARGV[1]) == 1 then redis.call('PEXPIRE', KEYS[2], ARGV[2]) end
"""
)

SCRIPTS: Final = (WRITE, TOUCH)


class RedisStreamRecords:
    """Satisfies :class:`catenary.ports.StreamRecords`. The history keeps messages for ``gone_s`` seconds."""

    __slots__ = ("_appender", "_channels", "_commands", "_durable", "_durable_gone", "_gone_ms")

    def __init__(
        self, commands: RedisCommands, appender: RedisAppender, names: RedisNames, *, gone_s: int
    ) -> None:
        self._commands = commands
        self._appender = appender
        self._durable = names.keys("durable")
        self._durable_gone = names.keys("durable-gone")
        self._channels = names.channels
        self._gone_ms = gone_s * 1000

    async def read(self, stream: Stream) -> bytes | None:
        """Returns the record; empty if the stream is gone, None if it is unknown."""
        stored: list[bytes | None] = await self._commands.call("MGET", *self._keys(stream))
        record, gone = stored
        return record if record is not None else gone

    async def touch(self, stream: Stream, ttl_s: float) -> None:
        """Starts the time to live of a record again."""
        await self._commands.run(TOUCH, self._keys(stream), *self._ttls(ttl_s))

    async def write(
        self,
        stream: Stream,
        expected: bytes,
        record: bytes,
        ttl_s: float,
        publications: tuple[Publication, ...] = (),
    ) -> bool:
        """Replaces the record, and stores and publishes the messages. Raises :class:`BackendError`, and
        :class:`catenary.errors.TooLarge` for more than Redis takes."""
        channel = self._channels.of(stream)
        keys = (*self._appender.keys(stream), *self._keys(stream))
        call = self._commands.script_call(WRITE, keys[0])
        call.add(
            keys, *self._appender.rules(stream), secrets.token_hex(4), channel, expected, record
        )
        call.add((), *self._ttls(ttl_s if record else 0))
        for each in publications:
            call.add((), payload.pack(each))
        written: Any = await self._commands.send(call)
        return bool(written)

    def _keys(self, stream: Stream) -> tuple[str, str]:
        return self._durable.of(stream), self._durable_gone.of(stream)

    def _ttls(self, ttl_s: float) -> tuple[int, int]:
        ttl_ms = max(int(ttl_s * 1000), 1)
        return ttl_ms, ttl_ms + self._gone_ms
