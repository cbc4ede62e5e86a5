"""Clients of redis-py, for one server, for the master that sentinels name, or for a node of a Redis Cluster.

Source: "Redis" of docs/configuration.md and docs/broadcasting.md (anycable).
"""

import ssl
from typing import Any, Final

from redis.asyncio import Redis, Sentinel
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from catenary.adapters.redis.cluster_nodes import cluster_client
from catenary.config.addresses import RedisAddress, RedisServer, redis_settings
from catenary.errors import ConfigError

CONNECT_TIMEOUT_S: Final = 5


def connect(address: RedisAddress, key: str | None = None) -> Redis:
    """Returns a client, which connects at its first command. Of a cluster, it connects to the primary that has ``key``, or to
    any.

    Raises :class:`ConfigError` for an address, or for certificate files, with which no connection can be built: the
    server must not start with them.
    """
    server, sentinels = address.server, address.sentinel_servers
    if server.is_encrypted:
        check_tls(address)
    settings = _settings(address, server)
    client: Redis
    if address.cluster_nodes:
        client = cluster_client(address, key, settings)
    elif not sentinels:
        client = Redis(**settings)
    else:
        master, _ = settings.pop("host"), settings.pop("port")
        asking = Sentinel([])  # type: ignore[no-untyped-call]
        # A sentinel that hangs must leave time for the others: all are asked within one attempt.
        patience_s = CONNECT_TIMEOUT_S / (len(sentinels) + 1)
        asking.sentinels = [
            Redis(
                **redis_settings(address, each),
                socket_connect_timeout=patience_s,
                socket_timeout=patience_s,
                # The next sentinel is asked instead.
                retry=Retry(NoBackoff(), 0),
            )
            for each in sentinels
        ]
        client = asking.master_for(master, **settings)
    try:
        client.connection_pool.make_connection()  # type: ignore[no-untyped-call]
    except (TypeError, ValueError) as error:
        raise ConfigError(f"redis_url: no connection can be built: {error}") from error
    return client


def connect_to(address: RedisAddress, server: RedisServer) -> Redis:
    """Returns a client for one node of a cluster."""
    return Redis(**_settings(address, server))


def _settings(address: RedisAddress, server: RedisServer) -> dict[str, Any]:
    return {
        **redis_settings(address, server),
        "socket_connect_timeout": CONNECT_TIMEOUT_S,
        # The users of the client reconnect by themselves, and log it.
        "retry": Retry(NoBackoff(), 0),
    }


def check_tls(address: RedisAddress) -> None:
    """Raises :class:`ConfigError` for certificate files that can't be loaded."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if address.tls_ca_path:
        try:
            context.load_verify_locations(address.tls_ca_path)
        except OSError as error:
            raise ConfigError(
                f"redis_tls_ca_cert_path: expected certificates in PEM, got {error}"
            ) from error
    if address.tls_client_cert_path:
        try:
            context.load_cert_chain(
                address.tls_client_cert_path, address.tls_client_key_path or None
            )
        except OSError as error:
            raise ConfigError(
                "redis_tls_client_cert_path, redis_tls_client_key_path: expected a certificate and its"
                f" key in PEM, got {error}"
            ) from error
