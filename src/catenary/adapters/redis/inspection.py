"""Facts about a Redis server, for an operator who asks whether it can be used.

Nothing is stored there: commands are checked by Redis itself, which says whether the user may run them.
Source: redis.io, "ACL" and "redis.acl_check_cmd". Knows: Redis. Does not know: what follows from the facts.
"""

import asyncio
import re
import secrets
import time
from collections.abc import Iterable
from typing import Any, Final

import msgspec
from redis.asyncio import Redis
from redis.exceptions import NoPermissionError, RedisError, ResponseError

from catenary.adapters.redis import appender, history, presence, sessions, stream_records
from catenary.adapters.redis.client import connect
from catenary.adapters.redis.commands import Script
from catenary.adapters.redis.connection import close_client
from catenary.config.addresses import RedisAddress, redis_reason
from catenary.errors import BackendError

STORES: Final = (
    *history.SCRIPTS,
    *sessions.SCRIPTS,
    *presence.SCRIPTS,
    *stream_records.SCRIPTS,
)
PUBSUB: Final = appender.SCRIPTS
CLUSTER: Final = appender.CLUSTER_SCRIPTS
"""Besides, on a Redis Cluster."""

_CALLS: Final = re.compile(r"redis\.p?call\('(\w+)'")

# Arguments with which a command is checked: K is the key, C the channel.
_EXAMPLES: Final = {
    "CLUSTER": "SLOTS",
    "DEL": "K",
    "EXISTS": "K",
    "GET": "K",
    "HDEL": "K f",
    "HGET": "K f",
    "HGETALL": "K",
    "HINCRBY": "K f 1",
    "HKEYS": "K",
    "HLEN": "K",
    "HMGET": "K f",
    "HSCAN": "K 0",
    "HSET": "K f 1",
    "MGET": "K",
    "PEXPIRE": "K 1",
    "PUBLISH": "C x",
    "SET": "K x",
    "SPUBLISH": "C x",
    "SSUBSCRIBE": "C",
    "SUBSCRIBE": "C",
    "TIME": "",
    "TYPE": "K",
    "XACK": "K g 0",
    "XADD": "K * f v",
    "XCLAIM": "K g c 1 0",
    "XDEL": "K 0",
    "XINFO": "STREAM K",
    "XLEN": "K",
    "XPENDING": "K g",
    "XRANGE": "K - +",
    "XREAD": "STREAMS K 0",
    "XREADGROUP": "GROUP g c STREAMS K >",
    "XREVRANGE": "K + -",
    "XTRIM": "K MAXLEN 1",
    "ZADD": "K 1 m",
    "ZRANGE": "K 0 1",
    "ZRANGEBYSCORE": "K 0 1",
    "ZREM": "K m",
    "ZREMRANGEBYRANK": "K 0 1",
    "ZREMRANGEBYSCORE": "K 0 1",
    "ZSCORE": "K m",
}

_CHECK: Final = """
if not redis.acl_check_cmd then return false end
local refused = {}
for _, line in ipairs(ARGV) do
  local words = {}
  for word in string.gmatch(line, '%S+') do words[#words + 1] = word end
  local known, allowed = pcall(redis.acl_check_cmd, unpack(words))
  if known and not allowed then refused[#refused + 1] = words[1] end
end
return refused
"""


class RedisFacts(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that the user of the connection may know; None for what it may not.

    ``refused`` are commands that this user may not run, None before Redis 7. ``ahead_s`` is how far the clock of Redis is
    ahead of ours. ``is_cluster``: it is a node of a Redis Cluster, ``is_replica``: it can't be written. ``loses_keys``: the eviction policy may remove keys that Catenary stored. ``is_persistent``: data survive
    a restart. ``returned``: a message that was published arrived.
    """

    version: str | None
    is_cluster: bool
    is_replica: bool
    refused: tuple[str, ...] | None
    ahead_s: float | None
    loses_keys: bool | None
    is_persistent: bool | None
    returned: bool


def commands_of(scripts: Iterable[Script]) -> frozenset[str]:
    """The commands that scripts call."""
    return frozenset(name for script in scripts for name in _CALLS.findall(script.source))


async def inspect(
    address: RedisAddress, *, key: str, channel: str, commands: Iterable[str]
) -> RedisFacts:
    """Asks the server about itself. ``key`` is one that is not used, ``channel`` one that nobody else subscribes to.

    Raises :class:`BackendError` if Redis is unavailable or refuses the user, :class:`ConfigError` for an unusable address.
    """
    client = connect(address, key)
    try:
        await client.ping()
        clock = await _maybe(client, "TIME")
        ahead_s = None if clock is None else _seconds(clock) - time.time()
        info = await _maybe(client, "INFO", "server") or {}
        replication = await _maybe(client, "INFO", "replication") or {}
        policy = await _setting(client, "maxmemory-policy")
        return RedisFacts(
            version=info.get("redis_version"),
            is_cluster="cluster" in (info.get("redis_mode"), info.get("server_mode")),
            is_replica=replication.get("role") == "slave",
            refused=await _refused(client, key, channel, commands),
            ahead_s=ahead_s,
            loses_keys=None if policy is None else await _loses_keys(client, policy),
            is_persistent=await _is_persistent(client),
            returned=await _returns(client, channel),
        )
    except (RedisError, OSError) as error:
        raise BackendError(redis_reason(error)) from error
    finally:
        await close_client(client)


async def _maybe(client: Redis, *command: str) -> Any:
    """The reply, or None if this user may not run the command."""
    try:
        return await client.execute_command(*command)  # type: ignore[no-untyped-call]
    except NoPermissionError:
        return None


async def _setting(client: Redis, name: str) -> str | None:
    try:
        found = await client.config_get(name)
    except ResponseError:
        # No permission, or a hosted Redis without CONFIG.
        return None
    value = found.get(name)
    return None if value is None else str(value)


async def _loses_keys(client: Redis, policy: str) -> bool:
    return policy != "noeviction" and await _setting(client, "maxmemory") != "0"


async def _is_persistent(client: Redis) -> bool | None:
    appends, saves = await _setting(client, "appendonly"), await _setting(client, "save")
    return None if appends is None or saves is None else appends == "yes" or saves != ""


async def _refused(
    client: Redis, key: str, channel: str, commands: Iterable[str]
) -> tuple[str, ...] | None:
    places = {"K": key, "C": channel}
    lines = [
        " ".join((name, *(places.get(word, word) for word in _EXAMPLES[name].split())))
        for name in sorted(commands)
    ]
    try:
        found = await client.eval(_CHECK, 0, *lines)
    except NoPermissionError:
        return ("EVAL",)
    return None if found is None else tuple(_text(each) for each in found)


async def _returns(client: Redis, channel: str) -> bool:
    """Whether a message that is published arrives at a subscriber."""
    message = secrets.token_hex(8)
    async with client.pubsub() as pubsub:
        try:
            await pubsub.subscribe(channel)
            await client.publish(channel, message)
            async with asyncio.timeout(2):
                async for each in pubsub.listen():
                    if each["type"] == "message" and _text(each["data"]) == message:
                        return True
        except (TimeoutError, NoPermissionError):
            return False
    return False


def _seconds(clock: Any) -> float:
    seconds, microseconds = clock
    return float(seconds) + float(microseconds) / 1e6


def _text(value: object) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
