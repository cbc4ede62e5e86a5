"""Which publisher a URL asks for.

Knows: URLs. Does not know: variables; see ``environment_settings.py``.
"""

from collections.abc import Callable
from typing import Final

from catenary.channels.publishers.http import HttpPublisher
from catenary.channels.publishers.ordered import OrderedPublisher
from catenary.errors import ConfigError

EXPECTED: Final = "http://, https://, redis://, rediss://, redis+stream://, nats:// or tls://"


def publisher(url: str, *, secret: str = "", key: str = "", channel: str = "") -> OrderedPublisher:
    """A publisher; it connects when it first has something to publish.

    Over HTTP the server wants the ``key``, or the one that is derived from the application's
    ``secret``. ``channel`` is another channel, stream or subject than servers listen to unless they
    are told. Several servers of NATS stand in one URL with commas. Raises :class:`ConfigError`.
    """
    build = _BUILD.get(url.partition("://")[0].lower())
    if build is None:
        # Not the URL: it may hold a password.
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
    "valkey": _redis,
    "valkeys": _redis,
    "unix": _redis,
    "redis+stream": _redis_stream,
    "rediss+stream": _redis_stream,
    "redisx": _redis_stream,
    "nats": _nats,
    "tls": _nats,
}
