"""Checks of Redis: whether it can be reached, and is fit for what the options store there."""

import asyncio
import secrets
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Final

from catenary.config.addresses import RedisAddress
from catenary.config.effective import redis_address, uses_redis
from catenary.config.options import Options
from catenary.errors import BackendError
from catenary.terminal.doctor.findings import Finding, ok, problem, warning

if TYPE_CHECKING:
    from catenary.adapters.redis.inspection import RedisFacts

_OLDEST: Final = (6, 2)
_SKEW_S: Final = 5
_QUEUE: Final = frozenset({"XREADGROUP", "XREAD", "XPENDING", "XCLAIM", "XACK", "XDEL", "XINFO"})


async def check_redis(options: Options) -> AsyncIterator[Finding]:
    """Everything that this server does there, without storing anything."""
    if not uses_redis(options):
        return
    try:
        from catenary.adapters.redis import inspection
    except ImportError:
        # A missing library is a finding of its own.
        return

    address = redis_address(options.redis)
    async for finding in _sentinels(address):
        yield finding
    channel = options.pubsub.redis_channel
    commands = {"SUBSCRIBE", "PUBLISH"}
    if options.pubsub.adapter == "redis":
        commands |= inspection.commands_of(inspection.PUBSUB)
    if options.broker.adapter == "redis":
        commands |= inspection.commands_of(inspection.STORES) | {"HGETALL", "HKEYS", "MGET"}
    if "redisx" in options.broadcast.adapters:
        commands |= _QUEUE
    known = address.sentinel_servers or address.cluster_nodes or (address.server,)
    where = ", ".join(each.where for each in known)
    if address.cluster_nodes:
        commands |= inspection.commands_of(inspection.CLUSTER) | {
            "CLUSTER",
            "SPUBLISH",
            "SSUBSCRIBE",
        }
    try:
        facts = await inspection.inspect(
            address,
            key=f"catenary:{channel}:doctor",
            channel=f"{channel}#doctor-{secrets.token_hex(4)}",
            commands=commands,
        )
    except BackendError as error:
        text = f"Redis at {where} is unavailable: {error}"
        yield problem("redis", text, "start it, or correct redis_url (and its user and password)")
        return
    if facts.is_cluster and not address.cluster_nodes:
        text = f"Redis at {where} is a node of a Redis Cluster"
        yield problem("redis", text, "write redis+cluster://HOST:PORT as redis_url")
        return
    for finding in _judged(options, where, facts):
        yield finding


def _judged(options: Options, where: str, facts: "RedisFacts") -> list[Finding]:
    found = []
    version = facts.version
    if version is not None and _number(version) < _OLDEST:
        text = f"Redis at {where} is {version}"
        found.append(problem("redis", text, "use 6.2 or newer"))
    else:
        found.append(ok("redis", f"Redis {version or ''} at {where} answers".replace("  ", " ")))
    if facts.is_replica:
        text = f"Redis at {where} is a replica, which can't be written"
        found.append(problem("redis", text, "name the primary, or redis_sentinels that know it"))
    if facts.refused:
        names = ", ".join(facts.refused)
        advice = "allow them to this user: ACL SETUSER NAME " + " ".join(
            f"+{name.lower()}" for name in facts.refused
        )
        text = f"the user may not run {names}, or not on Catenary's keys and channels"
        found.append(problem("redis", text, advice))
    if facts.returned:
        found.append(ok("redis", "a message that was published came back"))
    else:
        text = "a message that was published did not come back within 2 s"
        advice = "allow PUBLISH and SUBSCRIBE on the channels: ACL SETUSER NAME &CHANNEL*"
        found.append(problem("redis", text, advice))
    if facts.ahead_s is not None and abs(facts.ahead_s) > _SKEW_S:
        text = f"the clock of Redis is {abs(facts.ahead_s):.0f} s {_side(facts.ahead_s)} this machine's"
        found.append(warning("clock", text, "synchronize both clocks (NTP)"))
    elif facts.ahead_s is not None:
        found.append(ok("clock", "the clock of Redis agrees with this machine's"))
    stores = options.broker.adapter == "redis" or "redisx" in options.broadcast.adapters
    if stores and facts.loses_keys:
        text = "the eviction policy may remove histories and sessions when memory is full"
        found.append(warning("redis", text, "CONFIG SET maxmemory-policy noeviction"))
    if stores and facts.is_persistent is False:
        text = "Redis keeps nothing on disk: histories and sessions are lost when it restarts"
        found.append(warning("redis", text, "CONFIG SET appendonly yes, if that matters"))
    return found


def _number(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".")[:2] if part.isdigit())


def _side(ahead_s: float) -> str:
    return "ahead of" if ahead_s > 0 else "behind"


async def _sentinels(address: RedisAddress) -> AsyncIterator[Finding]:
    for each in address.sentinel_servers:
        try:
            async with asyncio.timeout(3):
                _, writer = await asyncio.open_connection(each.host, each.port)
        except OSError as error:
            reason = error.strerror or "no answer within 3 s"
            text = f"the sentinel at {each.where} can't be reached: {reason}"
            yield warning("redis", text, "start it, or correct redis_sentinels")
        else:
            writer.close()
            yield ok("redis", f"the sentinel at {each.where} can be reached")
