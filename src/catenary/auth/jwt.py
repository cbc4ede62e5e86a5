"""JSON Web Tokens in their compact form: text → what it says, or why it is not believed; and back.

Sources: RFC 7515 (signatures), RFC 7518 (algorithms), RFC 7519 (claims); docs/jwt_identification.md
(anycable) for the claim ``ext``. Tokens with a secret need no library; see ``public_keys`` for the
others. Knows: keys, a moment. Does not know: where a token or a key comes from.
"""

import base64
import enum
import hmac
from collections.abc import Sequence
from typing import Any, Final, Protocol

import msgspec

from catenary.auth.keys import key_bytes
from catenary.messages.lenient_json import value_reader

HMAC_ALGORITHMS: Final = {"HS256": "sha256", "HS384": "sha384", "HS512": "sha512"}


class Key(Protocol):
    """What signatures are checked with."""

    @property
    def kid(self) -> str | None:
        """The key's name (RFC 7517, section 4.5); None for one that fits tokens of every name."""
        ...

    @property
    def algorithms(self) -> frozenset[str]:
        """What it may be used for: a key serves one family, so that no token can choose another."""
        ...

    def verify(self, algorithm: str, message: bytes, signature: bytes) -> bool:
        """Was this signed with its counterpart? ``algorithm`` is one of its own."""
        ...


class SecretKey:
    """A secret that the issuer shares. Satisfies :class:`Key`."""

    __slots__ = ("_secret", "algorithms")

    kid: Final = None

    def __init__(self, secret: str) -> None:
        """Raises ValueError for an empty secret, with which everybody could sign."""
        if not secret:
            raise ValueError("expected a secret, got an empty one")
        self._secret = key_bytes(secret)
        self.algorithms = frozenset(HMAC_ALGORITHMS)

    def verify(self, algorithm: str, message: bytes, signature: bytes) -> bool:
        """Compares in constant time."""
        expected = hmac.digest(self._secret, message, HMAC_ALGORITHMS[algorithm])
        return hmac.compare_digest(expected, signature)


class TokenError(enum.Enum):
    """Why a token is not believed; the value completes "a token …"."""

    MALFORMED = "that is none"
    ALGORITHM = "with an algorithm that is not accepted"
    UNKNOWN_KEY = "whose key is not known"
    SIGNATURE = "with a signature that does not fit"
    EXPIRED = "that has expired"
    EARLY = "that is not valid yet"
    ISSUER = "of another issuer"
    AUDIENCE = "for another audience"


class Rules(msgspec.Struct, frozen=True):
    """What a token must be beyond being signed; empty ``issuer`` and ``audience`` fit every token."""

    algorithms: frozenset[str]
    issuer: str = ""
    audience: str = ""


class Verified(msgspec.Struct, frozen=True):
    """The claims of a valid token.

    ``identifiers`` is the claim ``ext``, None where it is missing or not a string; ``expires_at`` the
    claim ``exp`` in seconds since 1970, None where the token does not expire.
    """

    identifiers: str | None
    expires_at: float | None = None


# What nobody asks for may have any type: tokens are made for others, too.
class _Header(msgspec.Struct, gc=False):
    alg: str
    kid: Any = None
    crit: Any = msgspec.UNSET


class _Claims(msgspec.Struct, gc=False):
    ext: Any = None
    exp: float | msgspec.UnsetType = msgspec.UNSET
    nbf: float | msgspec.UnsetType = msgspec.UNSET
    iss: Any = None
    aud: Any = None


_read_header: Final = value_reader(_Header)
_read_claims: Final = value_reader(_Claims)


def check(token: str, keys: Sequence[Key], rules: Rules, now_s: float) -> Verified | TokenError:
    """Judges a token at a moment (seconds since 1970). Claims count only where the signature fits."""
    try:
        parts = _parts(token)
    except ValueError:
        # All that goes wrong in reading is a ValueError: msgspec's, binascii's, Unicode's.
        return TokenError.MALFORMED
    header = parts.header
    if header.crit is not msgspec.UNSET:
        # RFC 7515, section 4.1.11: what is critical and not understood.
        return TokenError.MALFORMED
    if header.alg not in rules.algorithms:
        return TokenError.ALGORITHM
    fitting = [key for key in keys if _fits(key, header)]
    if not fitting:
        return TokenError.UNKNOWN_KEY
    if not any(key.verify(header.alg, parts.signed, parts.signature) for key in fitting):
        return TokenError.SIGNATURE
    try:
        claims = _read_claims(parts.payload)
    except ValueError:
        return TokenError.MALFORMED
    return _error_in(claims, rules, now_s) or Verified(
        claims.ext if isinstance(claims.ext, str) else None,
        claims.exp if isinstance(claims.exp, float) else None,
    )


class Claims(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a token says of a client: its identifiers (``ext``), until when (seconds since 1970), who
    says so and to whom."""

    ext: str
    exp: int
    iss: str = ""
    aud: str = ""


def issued(claims: Claims, secret: str) -> str:
    """A token, signed with HMAC-SHA256. Raises ValueError for an empty secret."""
    if not secret:
        raise ValueError("expected a secret, got an empty one")
    parts = (b'{"alg":"HS256","typ":"JWT"}', msgspec.json.encode(claims))
    signed = b".".join(map(_encoded, parts))
    return b".".join((signed, _encoded(hmac.digest(key_bytes(secret), signed, "sha256")))).decode()


def _encoded(raw: bytes) -> bytes:
    return base64.urlsafe_b64encode(raw).rstrip(b"=")


class _Parts(msgspec.Struct, gc=False):
    """A token taken apart; ``signed`` is the text under the signature."""

    signed: bytes
    header: _Header
    payload: bytes
    signature: bytes


def _parts(token: str) -> _Parts:
    """Section 7.1 of RFC 7515: three parts in base64url."""
    header, payload, signature = token.split(".")
    return _Parts(
        token.encode("ascii").rpartition(b".")[0],
        _read_header(_decoded(header)),
        _decoded(payload),
        _decoded(signature),
    )


def _decoded(part: str) -> bytes:
    if "=" in part:
        raise ValueError("expected base64url without padding")
    return base64.b64decode(part + "=" * (-len(part) % 4), altchars=b"-_", validate=True)


def _fits(key: Key, header: _Header) -> bool:
    if header.alg not in key.algorithms:
        return False
    return key.kid is None or header.kid is None or key.kid == header.kid


def _error_in(claims: _Claims, rules: Rules, now_s: float) -> TokenError | None:
    """RFC 7519, section 4.1. A token is gone at the very second of its ``exp``."""
    if isinstance(claims.exp, float) and now_s >= claims.exp:
        return TokenError.EXPIRED
    if isinstance(claims.nbf, float) and now_s < claims.nbf:
        return TokenError.EARLY
    if rules.issuer and claims.iss != rules.issuer:
        return TokenError.ISSUER
    audiences = claims.aud if isinstance(claims.aud, list) else [claims.aud]
    if rules.audience and rules.audience not in audiences:
        return TokenError.AUDIENCE
    return None
