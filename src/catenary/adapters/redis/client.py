"""A connection to Redis: one server, or the master that sentinels name.

Source: "Redis" of docs/configuration.md and docs/broadcasting.md (anycable).
"""

from typing import Any, Final

from redis.asyncio import Redis, Sentinel
from redis.asyncio.connection import parse_url
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from catenary.config.addresses import RedisAddress, redis_settings, sentinel_credentials
from catenary.errors import ConfigError

CONNECT_TIMEOUT_S: Final = 5


def connect(address: RedisAddress) -> Redis:
    """A client; nothing is sent before its first command. Raises :class:`ConfigError`."""
    try:
        options = parse_url(address.url)
    except ValueError as error:
        raise ConfigError(f"redis_url: expected redis://HOST:PORT/DB: {error}") from error
    settings: dict[str, Any] = {
        **redis_settings(address),
        "socket_connect_timeout": CONNECT_TIMEOUT_S,
        # Whoever uses the client comes back in its own way, and says so.
        "retry": Retry(NoBackoff(), 0),
    }
    if not address.sentinels:
        return Redis.from_url(address.url, **settings)
    master = str(options.pop("host", "mymaster"))
    options.pop("port", None)
    sentinel = Sentinel(  # type: ignore[no-untyped-call]
        address.sentinel_hosts,
        sentinel_kwargs={
            "socket_connect_timeout": CONNECT_TIMEOUT_S,
            # The next sentinel is asked instead.
            "retry": Retry(NoBackoff(), 0),
            **sentinel_credentials(address.sentinels[0]),
        },
    )
    client: Redis = sentinel.master_for(master, **{**options, **settings})
    return client
