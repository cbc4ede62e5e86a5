"""Signs tokens and stream names, with which clients connect and subscribe without a call to the application.

Sources: docs/jwt_identification.md and docs/signed_streams.md (anycable).
Knows: secrets. Does not know: where they come from, HTML.
"""

from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Final

from catenary.auth.jwt import Claims, issued
from catenary.auth.keys import WRITE_PHRASE, derived_key
from catenary.auth.signatures import Signatures
from catenary.channels.connection import identifiers
from catenary.channels.streams import stream_name
from catenary.config.effective import Keys
from catenary.config.options import JwtOptions
from catenary.errors import ConfigError

TTL: Final = timedelta(hours=1)
"""How long a token is valid by default."""


def signed_stream_name(*names: object, secret: str) -> str:
    """Signs the name of a stream, or of objects that name one: a client that has it may subscribe.

    Raises TypeError for an object without a name, ValueError for an empty secret.
    """
    return Signatures(secret).signed(stream_name(names[0] if len(names) == 1 else names))


class Signer:
    """Signs with the keys of the server.

    Methods raise :class:`ConfigError` if there is no key. ``now`` returns seconds since the epoch.
    """

    def __init__(self, keys: Keys, rules: JwtOptions, now: Callable[[], float]) -> None:
        self._keys = keys
        self._rules = rules
        self._now = now

    def signed_stream_name(self, *names: object, write: bool = False) -> str:
        """Signs a name for the channel of signed streams, ``$pubsub``, or to ``write`` a durable stream."""
        key = _given(self._keys.streams, "STREAMS_SECRET")
        return signed_stream_name(*names, secret=derived_key(key, WRITE_PHRASE) if write else key)

    @property
    def turbo_secret(self) -> str:
        """The secret that signs names for Turbo."""
        return _given(self._keys.turbo, "STREAMS_SECRET")

    def token(self, values: Mapping[str, object], ttl: timedelta | float) -> str:
        """Returns a JSON Web Token with these identifiers; ``ttl`` is a timedelta or seconds."""
        ttl_s = ttl.total_seconds() if isinstance(ttl, timedelta) else ttl
        claims = Claims(
            ext=identifiers(values) or "{}",
            exp=int(self._now() + ttl_s),
            iss=self._rules.issuer,
            aud=self._rules.audience,
        )
        return issued(claims, _given(self._keys.tokens, "JWT_SECRET"))


def _given(key: str | None, variable: str) -> str:
    if key is None:
        raise ConfigError(
            f"nothing to sign with: expected Cable(secret=…), ANYCABLE_SECRET or ANYCABLE_{variable}"
        )
    return key
