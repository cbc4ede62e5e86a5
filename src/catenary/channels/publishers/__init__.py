"""Publishers for processes without a server: over HTTP, Redis, Redis Streams and NATS, chosen by URL.

Knows: URLs. Does not know: environment variables; see ``environment_settings.py``.
"""

from collections.abc import Callable
from typing import Final

from catenary.channels.publishers.http import HttpPublisher
from catenary.channels.publishers.ordered import OrderedPublisher
from catenary.errors import ConfigError

EXPECTED: Final = "http://, https://, redis://, rediss://, redis+stream://, nats:// or tls://"


def publisher(url: str, *, secret: str = "", key: str = "", channel: str = "") -> OrderedPublisher:
    """Returns a publisher, which connects with its first publication.

    ::

        cable = Cable(channels=[], publisher=publisher("redis://localhost:6379"))

    ``key`` is the broadcast key of the HTTP server; by default it is derived from the application's
    ``secret``. ``channel`` is the Redis channel or stream, or the NATS subject, if servers do not use the
    default one. URLs of several NATS servers, or of several nodes of a Redis Cluster, are separated by commas. Raises :class:`ConfigError`.
    """
    build = _BUILD.get(url.partition("://")[0].lower())
    if build is None:
        # Not the URL, which may contain a password.
        raise ConfigError(f"expected the URL of a publisher, {EXPECTED}")
    return build(url, secret, key, channel)


def _http(url: str, secret: str, key: str, channel: str) -> OrderedPublisher:
    return HttpPublisher(url, key=key, secret=secret)


def _redis(url: str, secret: str, key: str, channel: str) -> OrderedPublisher:
    from catenary.channels.publishers.redis import CHANNEL, RedisPublisher

    return RedisPublisher(url, channel=channel or CHANNEL)


def _redis_stream(url: str, secret: str, key: str, channel: str) -> OrderedPublisher:
    from catenary.channels.publishers.redis import CHANNEL, RedisStreamPublisher

    scheme, _, rest = url.partition("://")
    plain = "rediss" if scheme.lower().startswith("rediss") else "redis"
    return RedisStreamPublisher(f"{plain}://{rest}", stream=channel or CHANNEL)


def _nats(url: str, secret: str, key: str, channel: str) -> OrderedPublisher:
    from catenary.channels.publishers.nats import SUBJECT, NatsPublisher

    return NatsPublisher(url, subject=channel or SUBJECT)


_BUILD: Final[dict[str, Callable[[str, str, str, str], OrderedPublisher]]] = {
    "http": _http,
    "https": _http,
    "redis": _redis,
    "rediss": _redis,
    "redis+cluster": _redis,
    "rediss+cluster": _redis,
    "valkey": _redis,
    "valkeys": _redis,
    "unix": _redis,
    "redis+stream": _redis_stream,
    "rediss+stream": _redis_stream,
    "redisx": _redis_stream,
    "nats": _nats,
    "tls": _nats,
}
