"""JSON Web Tokens in compact form: verified and issued.

Sources: RFC 7515 (signatures), RFC 7518 (algorithms), RFC 7519 (claims); docs/jwt_identification.md
(anycable) for the claim ``ext``. HMAC needs no library; ``public_keys`` verifies the other algorithms.
Knows: keys, the time as an argument. Does not know: where a token or a key comes from.
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


class VerifyingKey(Protocol):
    """A key that verifies signatures."""

    @property
    def kid(self) -> str | None:
        """The id of the key (RFC 7517, section 4.5); None for a key that matches tokens with any id."""
        ...

    @property
    def algorithms(self) -> frozenset[str]:
        """Algorithms that the key is used for: those of one family, so that no token can choose another."""
        ...

    def verify(self, algorithm: str, message: bytes, signature: bytes) -> bool:
        """Whether the signature is valid. ``algorithm`` is one of :attr:`algorithms`."""
        ...


class SecretKey:
    """A secret that the issuer shares. Satisfies :class:`VerifyingKey`."""

    __slots__ = ("_secret", "algorithms")

    kid: Final = None

    def __init__(self, secret: str) -> None:
        """Raises ValueError for an empty secret, with which anyone could sign."""
        if not secret:
            raise ValueError("expected a secret, got an empty one")
        self._secret = key_bytes(secret)
        self.algorithms = frozenset(HMAC_ALGORITHMS)

    def verify(self, algorithm: str, message: bytes, signature: bytes) -> bool:
        """Compares in constant time."""
        expected = hmac.digest(self._secret, message, HMAC_ALGORITHMS[algorithm])
        return hmac.compare_digest(expected, signature)


class TokenError(enum.Enum):
    """Why a token is refused; the value completes "a token …" in the log."""

    MALFORMED = "that is malformed"
    ALGORITHM = "with an algorithm that is not accepted"
    UNKNOWN_KEY = "with an unknown key"
    SIGNATURE = "with an invalid signature"
    EXPIRED = "that has expired"
    EARLY = "that is not valid yet"
    ISSUER = "of another issuer"
    AUDIENCE = "for another audience"


class Rules(msgspec.Struct, frozen=True):
    """Requirements beside a valid signature; an empty ``issuer`` or ``audience`` matches every token."""

    algorithms: frozenset[str]
    issuer: str = ""
    audience: str = ""


class Verified(msgspec.Struct, frozen=True):
    """The claims of a valid token.

    ``identifiers`` is the claim ``ext``, None if it is missing or not a string; ``expires_at`` is the claim
    ``exp`` in seconds since 1970, None if the token does not expire.
    """

    identifiers: str | None
    expires_at: float | None = None


# Unused claims may have any type: tokens are also made for other consumers.
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


def check(
    token: str, keys: Sequence[VerifyingKey], rules: Rules, now_s: float
) -> Verified | TokenError:
    """Verifies a token at a time (seconds since 1970). Claims are read after the signature has been verified."""
    try:
        parts = _parts(token)
    except ValueError:
        # The errors of msgspec, binascii and Unicode are ValueErrors.
        return TokenError.MALFORMED
    header = parts.header
    if header.crit is not msgspec.UNSET:
        # RFC 7515, section 4.1.11: refuse critical extensions that are not understood.
        return TokenError.MALFORMED
    if header.alg not in rules.algorithms:
        return TokenError.ALGORITHM
    matching = [key for key in keys if _matches(key, header)]
    if not matching:
        return TokenError.UNKNOWN_KEY
    if not any(key.verify(header.alg, parts.signed, parts.signature) for key in matching):
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
    """The claims of a token: the client's identifiers (``ext``), expiry (seconds since 1970), issuer and
    audience."""

    ext: str
    exp: int
    iss: str = ""
    aud: str = ""


def issued(claims: Claims, secret: str) -> str:
    """Issues a token, signed with HMAC-SHA256. Raises ValueError for an empty secret."""
    if not secret:
        raise ValueError("expected a secret, got an empty one")
    parts = (b'{"alg":"HS256","typ":"JWT"}', msgspec.json.encode(claims))
    signed = b".".join(map(_encoded, parts))
    return b".".join((signed, _encoded(hmac.digest(key_bytes(secret), signed, "sha256")))).decode()


def _encoded(raw: bytes) -> bytes:
    return base64.urlsafe_b64encode(raw).rstrip(b"=")


class _Parts(msgspec.Struct, gc=False):
    """The parts of a token; ``signed`` is the text that the signature covers."""

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


def _matches(key: VerifyingKey, header: _Header) -> bool:
    if header.alg not in key.algorithms:
        return False
    return key.kid is None or header.kid is None or key.kid == header.kid


def _error_in(claims: _Claims, rules: Rules, now_s: float) -> TokenError | None:
    """RFC 7519, section 4.1. A token has expired at the second of its ``exp``."""
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
