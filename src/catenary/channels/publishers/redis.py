"""Publishes over Redis: to a channel, to which every server subscribes, or to a stream, which they share.

Source: docs/broadcasting.md, "Redis" and "Redis X" (anycable/anycable). Uses redis-py.
"""

from typing import Any, Final

from catenary.channels.publishers.ordered import OrderedPublisher
from catenary.config.addresses import RedisAddress, redis_reason, redis_settings
from catenary.errors import BackendError, BackendRefused, MissingExtra, TooLarge
from catenary.protocols.redis_errors import is_lasting

try:
    from redis import Redis, Sentinel
    from redis.backoff import NoBackoff
    from redis.cluster import ClusterNode, RedisCluster
    from redis.exceptions import ConnectionError as Disconnected
    from redis.exceptions import (
        DataError,
        MasterDownError,
        OutOfMemoryError,
        ReadOnlyError,
        RedisClusterException,
        RedisError,
        ResponseError,
    )
    from redis.retry import Retry
except ImportError as error:
    raise MissingExtra("publishing over Redis", "redis") from error

CHANNEL: Final = "__anycable__"
SMALLEST_LIMIT: Final = 1024 * 1024
"""Redis accepts publications up to this size whatever its ``proto-max-bulk-len``."""

STREAM_LENGTH: Final = 100_000
"""The approximate limit of publications in the stream; beyond it, Redis drops the oldest."""


class _Sender(OrderedPublisher):
    def __init__(self, address: str | RedisAddress, timeout_s: float) -> None:
        super().__init__()
        if isinstance(address, str):
            address = RedisAddress(url=address, tls_verify=True)
        self._redis: Any = _client(address, timeout_s)

    def _send(self, raw: bytes, *command: str | bytes | int) -> None:
        """Sends a command whose last argument is the publication."""
        try:
            self._redis.execute_command(*command, raw)
        except (RedisError, RedisClusterException, OSError) as error:
            kind: type[BackendError] = BackendRefused if _is_lasting(error) else BackendError
            if isinstance(error, Disconnected | ResponseError) and self._is_too_large(raw):
                kind = TooLarge
            raise kind(f"Redis refused the publication: {redis_reason(error)}") from error

    def _is_too_large(self, raw: bytes) -> bool:
        """Whether the publication is larger than Redis accepts; Redis closes the connection of its sender."""
        if len(raw) <= SMALLEST_LIMIT:
            return False
        try:
            config = self._redis.config_get("proto-max-bulk-len")
        except RedisError:
            return False
        limit = config.get("proto-max-bulk-len")
        return limit is not None and len(raw) > int(limit)

    def _hang_up(self) -> None:
        self._redis.close()


class RedisPublisher(_Sender):
    """Publishes with PUBLISH: servers that are not connected at that moment do not get it."""

    def __init__(
        self, address: str | RedisAddress, *, channel: str = CHANNEL, timeout_s: float = 5.0
    ) -> None:
        """``address`` may be the URL alone; the certificate of ``rediss://`` is then verified. Raises :class:`ConfigError`."""
        super().__init__(address, timeout_s)
        self._channel = channel

    def _deliver(self, raw: bytes) -> None:
        self._send(raw, "PUBLISH", self._channel)


class RedisStreamPublisher(_Sender):
    """Publishes with XADD: the stream keeps publications, up to about ``max_length``, until servers read them."""

    def __init__(
        self,
        address: str | RedisAddress,
        *,
        stream: str = CHANNEL,
        max_length: int = STREAM_LENGTH,
        timeout_s: float = 5.0,
    ) -> None:
        """``address`` may be the URL alone; the certificate of ``rediss://`` is then verified. Raises :class:`ConfigError`."""
        super().__init__(address, timeout_s)
        self._stream = stream
        self._max_length = max_length

    def _deliver(self, raw: bytes) -> None:
        self._send(raw, "XADD", self._stream, "MAXLEN", "~", self._max_length, "*", "payload")


def _is_lasting(error: Exception) -> bool:
    """Whether Redis would refuse the same command again."""
    if isinstance(error, OutOfMemoryError | ReadOnlyError | MasterDownError):
        return False
    if type(error) is not ResponseError:
        return isinstance(error, ResponseError | DataError)
    # redis-py leaves out the code ERR, and codes that have a class of their own.
    text = str(error)
    return is_lasting(text if text[:3].isupper() else f"ERR {text}")


class _Cluster:
    """A client of a Redis Cluster, which the first command connects. A failed command is not repeated."""

    def __init__(self, address: RedisAddress, timeout_s: float) -> None:
        settings = redis_settings(address, address.server)
        for name in ("host", "port", "db"):
            del settings[name]
        self._settings = settings | {
            "socket_timeout": timeout_s,
            "socket_connect_timeout": timeout_s,
            "retry": Retry(NoBackoff(), 0),
        }
        self._nodes = [(each.host, each.port) for each in address.cluster_nodes]
        self._connected: RedisCluster | None = None

    def _client(self) -> RedisCluster:
        if self._connected is None:
            nodes = [ClusterNode(host, port) for host, port in self._nodes]  # type: ignore[no-untyped-call]
            self._connected = RedisCluster(startup_nodes=nodes, **self._settings)
        return self._connected

    def execute_command(self, *command: str | bytes | int) -> Any:
        return self._client().execute_command(*command)  # type: ignore[no-untyped-call]

    def config_get(self, name: str) -> Any:
        return self._client().config_get(name, target_nodes=RedisCluster.RANDOM)

    def close(self) -> None:
        if self._connected is not None:
            self._connected.close()


def _client(address: RedisAddress, timeout_s: float) -> Redis | _Cluster:
    """A client with one connection, which the first command opens, and again after it was lost."""
    if address.cluster_nodes:
        return _Cluster(address, timeout_s)
    server, sentinels = address.server, address.sentinel_servers
    settings: dict[str, Any] = {
        **redis_settings(address, server),
        "socket_timeout": timeout_s,
        "socket_connect_timeout": timeout_s,
        # One retry, for a connection that was lost since. A command that timed out is not repeated, because
        # Redis may still execute it.
        "retry": Retry(NoBackoff(), 1, supported_errors=(Disconnected,)),
    }
    if not sentinels:
        return Redis(**settings)
    master, _ = settings.pop("host"), settings.pop("port")
    asking = Sentinel([])  # type: ignore[no-untyped-call]
    asking.sentinels = [
        Redis(
            **redis_settings(address, each),
            socket_timeout=timeout_s,
            socket_connect_timeout=timeout_s,
            # The next sentinel is asked instead.
            retry=Retry(NoBackoff(), 0),
        )
        for each in sentinels
    ]
    client: Redis = asking.master_for(master, **settings)  # type: ignore[no-untyped-call]
    return client
