"""Public keys: which key verifies which token. Tokens are made by PyJWT, keys by cryptography."""

import datetime as dt
import json
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed448, rsa, x25519
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from catenary.auth.jwt import Rules, SecretKey, TokenError, Verified, VerifyingKey, check
from catenary.auth.public_keys import ALGORITHMS, PublicKey, from_key_set, from_pem
from tests.parts.key_set import EC, ED, RSA, PrivateKey, pem, web_key
from tests.parts.tokens import SECRET, forged, token

P384 = ec.generate_private_key(ec.SECP384R1())
P521 = ec.generate_private_key(ec.SECP521R1())
WEAK = rsa.generate_private_key(65537, 1024)
EVERYTHING = Rules(frozenset(("HS256", "HS384", "HS512")).union(*ALGORITHMS))
CLAIMS = {"ext": "{}"}
GOOD = Verified("{}")

PAIRS: list[tuple[PrivateKey, str]] = [
    *((RSA, algorithm) for algorithm in ALGORITHMS[0]),
    (EC, "ES256"),
    (P384, "ES384"),
    (P521, "ES512"),
    (ED, "EdDSA"),
]


def judge(text: str, *keys: VerifyingKey, rules: Rules = EVERYTHING) -> Verified | TokenError:
    return check(text, keys, rules, 0)


def key_set(*keys: dict[str, Any]) -> tuple[PublicKey, ...]:
    return from_key_set(json.dumps({"keys": keys}).encode())


@pytest.mark.parametrize(("key", "algorithm"), PAIRS, ids=[name for _, name in PAIRS])
def test_every_algorithm(key: PrivateKey, algorithm: str) -> None:
    text = token(CLAIMS, key, algorithm)
    assert judge(text, from_pem(pem(key))) == GOOD
    assert judge(text, *key_set(web_key(key))) == GOOD
    assert judge(text, *key_set(web_key(key, alg=algorithm, use="sig"))) == GOOD
    assert (
        judge(text, from_pem(pem(key)), rules=Rules(frozenset(("HS256",)))) is TokenError.ALGORITHM
    )
    others = [other for other, _ in PAIRS if other is not key]
    assert judge(text, *(from_pem(pem(other)) for other in others)) is TokenError.UNKNOWN_KEY
    header, payload, _ = text.split(".")
    signature = token({}, key, algorithm).split(".")[2]
    assert judge(f"{header}.{payload}.{signature}", from_pem(pem(key))) is TokenError.SIGNATURE


def test_a_certificate_has_a_key() -> None:
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "issuer")])
    today = dt.datetime.now(dt.UTC)
    certificate = (
        x509.CertificateBuilder(name, name, EC.public_key(), 1, today, today)
        .sign(EC, SHA256())
        .public_bytes(Encoding.PEM)
    )
    assert judge(token(CLAIMS, EC, "ES256"), from_pem(certificate.decode())) == GOOD


@pytest.mark.parametrize("key", [RSA, EC, ED], ids=["RSA", "EC", "Ed25519"])
def test_a_public_key_is_not_used_as_a_secret(key: PrivateKey) -> None:
    """RFC 8725, section 2.1: it is public, so anyone could sign with it."""
    text = forged({"alg": "HS256"}, CLAIMS, pem(key).encode())
    assert judge(text, from_pem(pem(key))) is TokenError.UNKNOWN_KEY
    assert judge(text, from_pem(pem(key)), SecretKey(SECRET)) is TokenError.SIGNATURE


def test_secrets_in_a_key_set_are_ignored() -> None:
    secret = {"kty": "oct", "k": "c2VjcmV0"}
    assert key_set(secret, {**secret, "alg": "HS256"}) == ()


def test_the_id_of_a_key_selects_it() -> None:
    other = ec.generate_private_key(ec.SECP256R1())
    keys = key_set(web_key(EC, "a"), web_key(other, "b"))
    assert [key.kid for key in keys] == ["a", "b"]
    assert judge(token(CLAIMS, EC, "ES256", kid="a"), *keys) == GOOD
    assert judge(token(CLAIMS, EC, "ES256", kid="b"), *keys) is TokenError.SIGNATURE
    assert judge(token(CLAIMS, EC, "ES256", kid="c"), *keys) is TokenError.UNKNOWN_KEY
    assert judge(token(CLAIMS, EC, "ES256"), *keys) == GOOD
    assert judge(token(CLAIMS, other, "ES256"), *keys) == GOOD
    assert judge(token(CLAIMS, EC, "ES256", kid="any"), *key_set(web_key(EC))) == GOOD


def test_a_key_with_an_algorithm_is_used_for_no_other() -> None:
    (key,) = key_set(web_key(RSA, alg="RS512"))
    assert key.algorithms == {"RS512"}
    assert judge(token(CLAIMS, RSA, "RS256"), key) is TokenError.UNKNOWN_KEY


@pytest.mark.parametrize(
    "key",
    [
        web_key(EC, use="enc"),
        web_key(EC, alg="RS256"),
        web_key(EC, alg="ECDH-ES"),
        web_key(RSA, alg="HS256"),
        web_key(WEAK),
        {**web_key(EC), "x": "AA"},
        {**web_key(EC), "crv": "P-999"},
        {"kty": "EC"},
        {"kty": "unheard-of"},
        {"kty": 5},
        {},
    ],
    ids=[
        *("for encryption", "RSA's algorithm", "an exchange", "a secret's algorithm", "weak"),
        *("no point", "odd curve", "no curve", "odd kind", "no kind", "nothing"),
    ],
)
def test_other_keys_of_a_set_are_skipped(key: dict[str, Any]) -> None:
    assert [found.kid for found in key_set(key, web_key(ED, "good"))] == ["good"]


@pytest.mark.parametrize("raw", [b"", b"{}", b"[]", b'{"keys":5}', b"<html>", b"\xff"])
def test_text_that_is_not_a_key_set(raw: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        from_key_set(raw)


def test_an_invalid_member_of_a_set_is_skipped() -> None:
    assert from_key_set(b'{"keys":[5,null,"x",[]]}') == ()


def public_pem(key: Any) -> str:
    raw: bytes = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return raw.decode()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "garbage",
        "-----BEGIN PUBLIC KEY-----\ngarbage\n-----END PUBLIC KEY-----\n",
        public_pem(WEAK),
        public_pem(x25519.X25519PrivateKey.generate()),
        public_pem(ec.generate_private_key(ec.SECP256K1())),
    ],
    ids=["empty", "garbage", "garbage in PEM", "weak", "not for signatures", "odd curve"],
)
def test_pem_without_a_usable_key(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        from_pem(text)


def test_ed448() -> None:
    key = ed448.Ed448PrivateKey.generate()
    assert judge(token(CLAIMS, key, "EdDSA"), from_pem(public_pem(key))) == GOOD
