"""Where the server is and which keys it knows, as its own configuration says.

The tools read what the server reads (flags, ``ANYCABLE_*``, ``anycable.toml``), so that beside a
server they need no options. Knows: options. Does not know: who asks for what.
"""

import argparse
import json

from catenary.auth.keys import API_PHRASE, BROADCAST_PHRASE, key_text
from catenary.auth.signatures import Signatures
from catenary.config.effective import effective, keys
from catenary.config.options import Options
from catenary.config.urls import bracketed, is_everywhere
from catenary.errors import ConfigError
from catenary.terminal.running import Given, declare_sources


def declare_keys(parser: argparse.ArgumentParser, key: str) -> None:
    """Adds ``--secret``, ``--key`` and where else keys stand; ``key`` says what the second is."""
    parser.add_argument(
        "--secret", metavar="TEXT", help="the application's secret (else $ANYCABLE_SECRET)"
    )
    parser.add_argument("--key", metavar="TEXT", help=f"{key}, instead of what the secret gives")
    declare_sources(parser)


def surroundings(given: Given, key_option: str = "") -> "Surroundings":
    """Those of a command; ``--key`` stands for the server's option ``key_option``.

    Raises :class:`catenary.errors.ConfigError`.
    """
    flags = []
    if getattr(given.arguments, "secret", None):
        flags.append(f"--secret={given.arguments.secret}")
    if key_option and given.arguments.key:
        flags.append(f"--{key_option}={given.arguments.key}")
    return Surroundings(effective(given.configuration(*flags).options))


class Surroundings:
    """The server that these options describe."""

    def __init__(self, options: Options) -> None:
        """``options`` are effective ones."""
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
    def broadcast_key(self) -> str:
        """What publishers must show; empty where they need nothing."""
        return key_text(self._keys.broadcast, BROADCAST_PHRASE)

    @property
    def api_key(self) -> str:
        """What callers of the API must show; empty where nothing is known of one."""
        return key_text(self._keys.api, API_PHRASE)

    @property
    def token_secret(self) -> str:
        """What tokens are signed with. Raises :class:`catenary.errors.ConfigError`."""
        return _known(self._keys.tokens, "--secret, --key, ANYCABLE_SECRET or ANYCABLE_JWT_SECRET")

    def signed(self, stream: str, *, by: str = "streams") -> str:
        """The name of a stream as it is signed for ``$pubsub``, ``turbo`` or ``cable_ready``.

        Raises :class:`catenary.errors.ConfigError` where the key is not known.
        """
        key = {
            "streams": self._keys.streams,
            "turbo": self._keys.turbo,
            "cable_ready": self._keys.cable_ready,
        }[by]
        sources = "--secret, --key, ANYCABLE_SECRET or ANYCABLE_STREAMS_SECRET"
        return Signatures(_known(key, sources)).signed(stream)

    def identifier(self, stream: str, *, is_plain: bool = False) -> str:
        """What subscribes to a stream: signed where a key is known and streams are not public."""
        if is_plain or self.options.streams.public or self._keys.streams is None:
            return json.dumps({"channel": "$pubsub", "stream_name": stream})
        return json.dumps({"channel": "$pubsub", "signed_stream_name": self.signed(stream)})

    @property
    def _host(self) -> str:
        host = self.options.server.host
        host = host.removeprefix("[").removesuffix("]")
        # Where a server listens everywhere, nobody connects to.
        return "localhost" if is_everywhere(host) else bracketed(host)

    @property
    def _s(self) -> str:
        return "s" if self.options.server.ssl_cert else ""


def _known(key: str | None, sources: str) -> str:
    if not key:
        raise ConfigError(f"expected a secret from {sources}, got none")
    return key
