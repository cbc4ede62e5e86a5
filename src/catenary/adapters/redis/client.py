"""A connection to Redis: one server, or the master that sentinels name.

Source: "Redis" of docs/configuration.md and docs/broadcasting.md (anycable).
"""

from typing import Any, Final

import msgspec
from redis.asyncio import Redis, Sentinel
from redis.asyncio.connection import parse_url
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from catenary.errors import ConfigError

CONNECT_TIMEOUT_S: Final = 5


class RedisAddress(msgspec.Struct, frozen=True):
    """Where Redis is.

    With ``sentinels`` (``host:port``, with or without ``user:password@``), the host of ``url`` is
    the master's name. After ``keepalive_s`` without a word the connection is probed. The paths are
    of PEM files; empty ones count as not given.
    """

    url: str
    sentinels: tuple[str, ...] = ()
    keepalive_s: int = 30
    tls_verify: bool = False
    tls_ca_path: str = ""
    tls_client_cert_path: str = ""
    tls_client_key_path: str = ""


def connect(address: RedisAddress) -> Redis:
    """A client; nothing is sent before its first command. Raises :class:`ConfigError`."""
    try:
        options = parse_url(address.url)
    except ValueError as error:
        raise ConfigError(f"redis_url: expected redis://HOST:PORT/DB: {error}") from error
    settings: dict[str, Any] = {
        "socket_keepalive": True,
        "socket_connect_timeout": CONNECT_TIMEOUT_S,
        # Whoever uses the client comes back in its own way, and says so.
        "retry": Retry(NoBackoff(), 0),
    }
    if address.url.startswith("rediss://"):
        settings |= _tls(address)
    if not address.sentinels:
        return Redis.from_url(address.url, **settings)
    master = str(options.pop("host", "mymaster"))
    options.pop("port", None)
    sentinel = Sentinel(  # type: ignore[no-untyped-call]
        [_host_and_port(each) for each in address.sentinels],
        sentinel_kwargs={
            "socket_connect_timeout": CONNECT_TIMEOUT_S,
            **_credentials(address.sentinels[0]),
        },
    )
    client: Redis = sentinel.master_for(master, **{**options, **settings})
    return client


def _tls(address: RedisAddress) -> dict[str, Any]:
    return {
        "ssl_cert_reqs": "required" if address.tls_verify else "none",
        "ssl_check_hostname": address.tls_verify,
        "ssl_ca_certs": address.tls_ca_path or None,
        "ssl_certfile": address.tls_client_cert_path or None,
        "ssl_keyfile": address.tls_client_key_path or None,
    }


def _host_and_port(sentinel: str) -> tuple[str, int]:
    host, _, port = sentinel.rpartition("@")[2].partition(":")
    if port and not port.isdecimal():
        raise ConfigError(f"redis_sentinels: expected HOST:PORT, got a port of {port!r}")
    return host, int(port or 26379)


def _credentials(sentinel: str) -> dict[str, str]:
    user, colon, password = sentinel.rpartition("@")[0].partition(":")
    if not user and not password:
        return {}
    return {"username": user, "password": password} if colon else {"password": user}
