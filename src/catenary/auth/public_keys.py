"""Public keys that verify tokens: from PEM, and from JSON Web Key Sets.

Sources: RFC 7517 (key sets), RFC 7518 and RFC 8037 (algorithms). PyJWT and cryptography verify signatures; this
module decides which key is used for which algorithm. A public key is never used for HMAC.
Knows: key material. Does not know: where it comes from.
"""

from typing import Any, Final

import msgspec
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from cryptography.x509 import load_pem_x509_certificate
from jwt import PyJWK, PyJWTError
from jwt.algorithms import Algorithm, get_default_algorithms

from catenary.messages.lenient_json import read_object, reader

ALGORITHMS: Final = (
    ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"),
    ("ES256", "ES384", "ES512"),
    ("EdDSA",),
)
_RSA: Final = frozenset(ALGORITHMS[0])
_CURVES: Final = {"secp256r1": "ES256", "secp384r1": "ES384", "secp521r1": "ES512"}
_VERIFIERS: Final[dict[str, Algorithm]] = {
    name: verifier
    for name, verifier in get_default_algorithms().items()
    if any(name in family for family in ALGORITHMS)
}

MIN_RSA_BITS: Final = 2048
"""RFC 7518, section 3.3."""


class PublicKey:
    """Satisfies :class:`catenary.auth.jwt.VerifyingKey`."""

    __slots__ = ("_key", "algorithms", "kid")

    def __init__(self, key: Any, kid: str | None = None, algorithm: str | None = None) -> None:
        """``key`` is a key of cryptography; ``algorithm`` restricts it to the one that its owner named.

        Raises ValueError for a weak key, or one for no supported algorithm.
        """
        family = _family(key)
        if algorithm is not None:
            family &= {algorithm}
        if not family:
            raise ValueError(f"expected a key for signatures, got one for {algorithm}")
        self._key = key
        self.kid = kid
        self.algorithms = family

    def verify(self, algorithm: str, message: bytes, signature: bytes) -> bool:
        """Verifies with cryptography."""
        return bool(_VERIFIERS[algorithm].verify(message, self._key, signature))


def _family(key: object) -> frozenset[str]:
    if isinstance(key, rsa.RSAPublicKey):
        if key.key_size < MIN_RSA_BITS:
            raise ValueError(f"expected RSA of {MIN_RSA_BITS} bits or more, got {key.key_size}")
        return _RSA
    if isinstance(key, ec.EllipticCurvePublicKey) and key.curve.name in _CURVES:
        return frozenset((_CURVES[key.curve.name],))
    if isinstance(key, ed25519.Ed25519PublicKey | ed448.Ed448PublicKey):
        return frozenset(("EdDSA",))
    raise ValueError(f"expected RSA, P-256, P-384, P-521 or EdDSA, got {type(key).__name__}")


def from_pem(text: str) -> PublicKey:
    """Reads a public key, or that of a certificate. Raises ValueError."""
    raw = text.encode()
    if b"-----BEGIN CERTIFICATE-----" in raw:
        return PublicKey(load_pem_x509_certificate(raw).public_key())
    return PublicKey(load_pem_public_key(raw))


class _JsonWebKey(msgspec.Struct):
    kty: str
    use: str = "sig"
    kid: str | None = None
    alg: str | None = None


class _KeySet(msgspec.Struct):
    keys: list[msgspec.Raw]


_read_set: Final = reader(_KeySet)
_read_key: Final = reader(_JsonWebKey)


def from_key_set(raw: bytes) -> tuple[PublicKey, ...]:
    """Reads the keys for signatures of a key set; others are skipped (RFC 7517, section 5).

    Raises ValueError if it is not a key set.
    """
    found = (_maybe_key(bytes(each)) for each in _read_set(raw).keys)
    return tuple(key for key in found if key is not None)


def _maybe_key(raw: bytes) -> PublicKey | None:
    try:
        facts = _read_key(raw)
        # "oct" is a secret, and this one is public.
        if facts.kty == "oct" or facts.use != "sig":
            return None
        return PublicKey(PyJWK(read_object(raw)).key, facts.kid, facts.alg)
    except (ValueError, PyJWTError):
        return None
