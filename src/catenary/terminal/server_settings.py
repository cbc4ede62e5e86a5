"""The URLs and keys of the server, from its own configuration.

Tools read the same sources as the server (flags, ``ANYCABLE_*``, ``anycable.toml``), so that they need no
options on its machine. Knows: options. Does not know: which tool needs them.
"""

import argparse
import json

from catenary.auth.keys import (
    API_PHRASE,
    BROADCAST_PHRASE,
    WRITE_PHRASE,
    derived_key,
    effective_key,
)
from catenary.auth.signatures import Signatures
from catenary.config.effective import effective, keys
from catenary.config.options import Options
from catenary.config.urls import bracketed, is_everywhere
from catenary.errors import ConfigError
from catenary.terminal.arguments import more_arguments
from catenary.terminal.running import Invocation, add_config_argument


def add_key_arguments(parser: argparse.ArgumentParser, key: str) -> None:
    """Adds ``--secret``, ``--key`` and ``--config-path``; ``key`` describes the second."""
    parser.add_argument(
        "--secret", metavar="TEXT", help="the application secret (or $ANYCABLE_SECRET)"
    )
    more_arguments(parser).add_argument(
        "--key", metavar="TEXT", help=f"{key}, instead of the one derived from the secret"
    )
    add_config_argument(parser)


def server_settings(invocation: Invocation, key_option: str = "") -> "ServerSettings":
    """The settings for a command; ``--key`` sets the server's option ``key_option``.

    Raises :class:`catenary.errors.ConfigError`.
    """
    flags = []
    if getattr(invocation.arguments, "secret", None):
        flags.append(f"--secret={invocation.arguments.secret}")
    if key_option and invocation.arguments.key:
        flags.append(f"--{key_option}={invocation.arguments.key}")
    return ServerSettings(effective(invocation.configuration(*flags).options))


class ServerSettings:
    """URLs and keys of the server that these options describe."""

    def __init__(self, options: Options) -> None:
        """Takes effective options."""
        self.options = options
        self._keys = keys(options)

    @property
    def cable_url(self) -> str:
        path = self.options.websocket.paths[0]
        return f"ws{self._s}://{self._host}:{self.options.server.port}{path}"

    @property
    def broadcast_url(self) -> str:
        given = self.options.http_broadcast
        return f"http{self._s}://{self._host}:{given.port}{given.path}"

    @property
    def api_url(self) -> str:
        port = self.options.api.port or self.options.server.port
        return f"http{self._s}://{self._host}:{port}{self.options.api.path}"

    @property
    def health_url(self) -> str:
        return f"http{self._s}://{self._host}:{self.options.server.port}{self.options.server.health_path}"

    @property
    def ready_url(self) -> str:
        return f"http{self._s}://{self._host}:{self.options.server.port}{self.options.server.ready_path}"

    @property
    def broadcast_key(self) -> str:
        """The key that publishers must send; empty if they need none."""
        return effective_key(self._keys.broadcast, BROADCAST_PHRASE)

    @property
    def api_key(self) -> str:
        """The key that API clients must send; empty if none is known."""
        return effective_key(self._keys.api, API_PHRASE)

    @property
    def token_secret(self) -> str:
        """The secret that signs tokens. Raises :class:`catenary.errors.ConfigError`."""
        return _known(self._keys.tokens, "--secret, --key, ANYCABLE_SECRET or ANYCABLE_JWT_SECRET")

    def signed(self, stream: str, *, by: str = "streams") -> str:
        """A stream name, signed for ``$pubsub``, ``turbo`` or ``cable_ready``, or to ``write`` a durable stream.

        Raises :class:`catenary.errors.ConfigError` if the key is not known.
        """
        key = {
            "streams": self._keys.streams,
            "write": self._keys.streams,
            "turbo": self._keys.turbo,
            "cable_ready": self._keys.cable_ready,
        }[by]
        sources = "--secret, --key, ANYCABLE_SECRET or ANYCABLE_STREAMS_SECRET"
        known = _known(key, sources)
        return Signatures(derived_key(known, WRITE_PHRASE) if by == "write" else known).signed(
            stream
        )

    def identifier(self, stream: str, *, is_plain: bool = False) -> str:
        """The identifier of a stream: signed if a key is known and streams are not public."""
        if is_plain or self.options.streams.public or self._keys.streams is None:
            return json.dumps({"channel": "$pubsub", "stream_name": stream})
        return json.dumps({"channel": "$pubsub", "signed_stream_name": self.signed(stream)})

    @property
    def _host(self) -> str:
        host = self.options.server.host
        host = host.removeprefix("[").removesuffix("]")
        # A wildcard address is not one to connect to.
        return "localhost" if is_everywhere(host) else bracketed(host)

    @property
    def _s(self) -> str:
        return "s" if self.options.server.ssl_cert else ""


def _known(key: str | None, sources: str) -> str:
    if not key:
        raise ConfigError(f"expected a secret from {sources}, got none")
    return key
