"""Settings of a server, from environment variables of a process that publishes to it or reads from it.

The server's table of options reads them, so a job uses the same variables as the server. Two URLs are
added, which only clients of a server need.
Sources: docs/broadcasting.md, docs/configuration.md (anycable/anycable).
"""

import os
from collections.abc import Mapping
from typing import Final

from catenary.auth.keys import API_PHRASE, BROADCAST_PHRASE, effective_key
from catenary.channels.http_reader import HttpReader
from catenary.channels.publishers.http import HttpPublisher
from catenary.channels.publishers.ordered import OrderedPublisher
from catenary.config.effective import Keys, effective, keys, redis_address
from catenary.config.load import load
from catenary.config.options import TABLE, Options

BROADCAST_URL: Final = "ANYCABLE_HTTP_BROADCAST_URL"
API_URL: Final = "ANYCABLE_API_URL"

_ROOMS: Final = frozenset(
    ("broadcast", "http_broadcast", "redis", "redisx", "nats", "streams", "jwt", "api")
)
_PLACES: Final = frozenset(
    ("server.port", "access.secret", "access.public", "access.broadcast_key")
)
_NAMES: Final = frozenset(
    name
    for entry in TABLE
    if entry.room in _ROOMS or entry.place in _PLACES
    for name in entry.option.variables
    if name != "PORT"  # usually the port of a web server
)


class EnvironmentSettings:
    """The settings in ``environ``. Raises :class:`catenary.errors.ConfigError` for a value that can't be read."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        # Other variables concern the server only, which may have another version.
        known = {name: environ[name] for name in _NAMES if name in environ}
        if environ.get("ANYCABLE_BROADCAST_ADAPTER") == "":
            del known["ANYCABLE_BROADCAST_ADAPTER"]
        self._environ = environ
        self.options: Options = effective(load((), known, _no_file).options)
        self.keys: Keys = keys(self.options)

    def publisher(self) -> OrderedPublisher:
        """The publisher of the first ``ANYCABLE_BROADCAST_ADAPTER``; without that variable, the one whose URL
        is given (HTTP, Redis or NATS); without any, HTTP to the default URL."""
        match self._adapter():
            case "redis":
                from catenary.channels.publishers.redis import RedisPublisher

                return RedisPublisher(
                    redis_address(self.options.redis), channel=self.options.broadcast.redis_channel
                )
            case "redisx":
                from catenary.channels.publishers.redis import RedisStreamPublisher

                return RedisStreamPublisher(
                    redis_address(self.options.redis), stream=self.options.redisx.stream
                )
            case "nats":
                from catenary.channels.publishers.nats import NatsPublisher

                return NatsPublisher(
                    self.options.nats.servers, subject=self.options.broadcast.nats_channel
                )
            case _:
                key = effective_key(self.keys.broadcast, BROADCAST_PHRASE)
                return HttpPublisher(self._broadcast_url(), key=key)

    def reader(self) -> HttpReader:
        """A reader of the API at ``ANYCABLE_API_URL``, or at the default URL."""
        api = self.options.api
        url = self._environ.get(API_URL) or f"http://localhost:{api.port}{api.path}"
        return HttpReader(url, key=effective_key(self.keys.api, API_PHRASE))

    def _adapter(self) -> str:
        if self._environ.get("ANYCABLE_BROADCAST_ADAPTER"):
            return self.options.broadcast.adapters[0]
        for adapter, names in _SIGNS.items():
            if any(self._environ.get(name) for name in names):
                return adapter
        return "http"

    def _broadcast_url(self) -> str:
        http = self.options.http_broadcast
        return self._environ.get(BROADCAST_URL) or f"http://localhost:{http.port}{http.path}"


_SIGNS: Final = {
    "http": (BROADCAST_URL,),
    "redis": ("ANYCABLE_REDIS_URL", "REDIS_URL"),
    "nats": ("ANYCABLE_NATS_SERVERS",),
}


def _no_file(path: str) -> None:
    return None


def publisher_from_environment(environ: Mapping[str, str] = os.environ) -> OrderedPublisher:
    """The publisher that the environment variables choose: by default HTTP to this machine.

    Raises :class:`catenary.errors.ConfigError`.
    """
    return EnvironmentSettings(environ).publisher()
