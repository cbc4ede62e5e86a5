"""What an application signs, so that clients need not ask it: tokens, and names of streams.

Sources: docs/jwt_identification.md and docs/signed_streams.md (anycable).
Knows: secrets. Does not know: where they come from, what is on a page.
"""

from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Final

from catenary.auth.jwt import Claims, issued
from catenary.auth.signatures import Signatures
from catenary.channels.connection import identifiers
from catenary.channels.streams import stream_name
from catenary.config.effective import Keys
from catenary.config.options import JwtOptions
from catenary.errors import ConfigError

TTL: Final = timedelta(hours=1)
"""How long a token is good, unless somebody says otherwise."""


def signed_stream_name(*names: object, secret: str) -> str:
    """The name of a stream, or of objects that name one, with its signature: a right to hear it.

    Raises TypeError for what has no name, ValueError for an empty secret.
    """
    return Signatures(secret).signed(stream_name(names[0] if len(names) == 1 else names))


class Signer:
    """Signs with the keys that the server knows, too.

    Methods raise :class:`ConfigError` where there is no key. ``now`` counts seconds since 1970.
    """

    def __init__(self, keys: Keys, rules: JwtOptions, now: Callable[[], float]) -> None:
        self._keys = keys
        self._rules = rules
        self._now = now

    def signed_stream_name(self, *names: object) -> str:
        """For the channel of signed streams, ``$pubsub``."""
        return signed_stream_name(*names, secret=_given(self._keys.streams, "STREAMS_SECRET"))

    @property
    def turbo_secret(self) -> str:
        """What names of Turbo's streams are signed with."""
        return _given(self._keys.turbo, "STREAMS_SECRET")

    def token(self, values: Mapping[str, object], ttl: timedelta | float) -> str:
        """A token with which a client connects as somebody; ``ttl`` in seconds, unless it says."""
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
