"""The playground's ways in: how its client may connect, and what the server signs for it.

The client of the playground uses the same endpoint as all clients, so it needs what they need: a token where
the server verifies tokens, a signature for a stream that is not public. The server issues both to people who may use
the console, for a short time, with its own keys.

Knows: options, keys. Does not know: requests.
"""

from typing import Final, Literal

import msgspec

from catenary.auth.jwt import Claims, issued
from catenary.auth.signatures import Signatures
from catenary.config.effective import keys
from catenary.config.options import Options

TOKEN_S: Final = 300
"""How long a token of the playground is valid: it is used at once, and a client that stays connected is not asked again."""

Authentication = Literal["none", "token", "application", "unavailable"]


class _Facts(msgspec.Struct, gc=False):
    cable_path: str
    cable_port: int
    broadcast_path: str
    broadcast_port: int
    broadcast_needs_key: bool
    api_path: str
    api_port: int
    api_needs_key: bool
    sse_path: str
    has_login: bool
    is_apart: bool
    authentication: Authentication
    token_param: str
    channel: str
    public_streams: bool
    signs_streams: bool
    whisper: bool
    presence: bool
    history: bool


class Signed(msgspec.Struct, gc=False, omit_defaults=True):
    """A token and the signed name of a stream, for the playground's client."""

    token: str = ""
    signed_stream_name: str = ""


class Playground:
    """Answers what the playground asks; ``options`` are effective ones."""

    __slots__ = ("_facts", "_options", "_stream_key", "_token_key")

    def __init__(self, options: Options) -> None:
        found = keys(options)
        self._options = options
        self._token_key = found.tokens or ""
        self._stream_key = found.streams or ""
        self._facts = msgspec.json.encode(self._described())

    def facts(self) -> bytes:
        """How clients connect and publish, as JSON."""
        return self._facts

    def signed(self, stream: str, identifiers: str, now_s: float) -> bytes:
        """A token with these identifiers (a JSON object as text) and the signed name of the stream, as JSON; each is left out if it
        is empty or the server has no key for it. Raises ValueError for identifiers that are no JSON object."""
        signed = Signed()
        if self._token_key and identifiers:
            msgspec.json.decode(identifiers, type=dict[str, object])
            jwt = self._options.jwt
            claims = Claims(
                ext=identifiers, exp=int(now_s) + TOKEN_S, iss=jwt.issuer, aud=jwt.audience
            )
            signed.token = issued(claims, self._token_key)
        if self._stream_key and stream:
            signed.signed_stream_name = Signatures(self._stream_key).signed(stream)
        return msgspec.json.encode(signed)

    def _described(self) -> _Facts:
        options = self._options
        streams, broadcast = options.streams, options.http_broadcast
        is_http = "http" in options.broadcast.adapters
        return _Facts(
            cable_path=options.websocket.paths[0],
            cable_port=options.server.port,
            broadcast_path=broadcast.path if is_http else "",
            broadcast_port=broadcast.port,
            broadcast_needs_key=keys(options).broadcast is not None,
            api_path=options.api.path,
            api_port=options.api.port,
            api_needs_key=keys(options).api is not None,
            sse_path=options.sse.path if options.sse.enabled else "",
            has_login=bool(options.admin.secret),
            is_apart=options.admin.port != options.server.port,
            authentication=self._authentication(),
            token_param=options.jwt.param,
            channel=streams.pubsub_channel,
            public_streams=streams.public,
            signs_streams=bool(self._stream_key),
            whisper=streams.whisper or streams.public,
            presence=streams.presence or streams.public,
            history=bool(options.broker.adapter),
        )

    def _authentication(self) -> Authentication:
        options = self._options
        if options.access.noauth and not options.jwt.enforce:
            return "none"
        algorithms = options.jwt.algorithms
        if self._token_key and (not algorithms or "HS256" in algorithms):
            return "token"
        return "unavailable" if options.jwt.enforce else "application"
