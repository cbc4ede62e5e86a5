"""Tokens: that of RFC 7515, those of PyJWT, and malformed ones."""

import hmac
import json
import time
from collections.abc import Sequence
from typing import Any

import jwt as oracle
import pytest
from hypothesis import given
from hypothesis import strategies as st

from catenary.auth.jwt import (
    HMAC_ALGORITHMS,
    Claims,
    Rules,
    SecretKey,
    TokenError,
    Verified,
    VerifyingKey,
    check,
    issued,
)
from tests.parts.tokens import SECRET, base64url, forged, token

NOW = 1_700_000_000
KEYS: tuple[VerifyingKey, ...] = (SecretKey(SECRET),)
ANY = Rules(frozenset(HMAC_ALGORITHMS))
USER = '{"user":1}'
CLAIMS = {"ext": USER, "exp": NOW + 60}
GOOD = Verified(USER)


def judge(
    text: str, rules: Rules = ANY, now_s: float = NOW, keys: Sequence[VerifyingKey] = KEYS
) -> Verified | TokenError:
    """The identifiers in a token, without its expiry."""
    found = check(text, keys, rules, now_s)
    return found if isinstance(found, TokenError) else Verified(found.identifiers)


# {"ext":"{}","exp":4102444800}, signed by openssl dgst -sha256 -hmac qwerty.
FIXED = (
    "eyJhbGciOiJIUzI1NiJ9.eyJleHQiOiJ7fSIsImV4cCI6NDEwMjQ0NDgwMH0"
    ".LFyUb9N5hWodGijWsfSpZBMLhm9sAdJgws9cTHWz39c"
)


def test_a_token_that_openssl_signed() -> None:
    found = check(FIXED, [SecretKey("qwerty")], ANY, NOW)
    assert found == Verified("{}", expires_at=4_102_444_800)


@given(identifiers=st.text(st.characters(exclude_categories=["Cs"])))
def test_issued_tokens_are_accepted_here_and_by_pyjwt(identifiers: str) -> None:
    claims: dict[str, Any] = {"ext": identifiers, "exp": NOW + 60}
    text = issued(Claims(**claims), SECRET)
    assert judge(text) == Verified(identifiers)
    assert oracle.decode(text, SECRET, ["HS256"], {"verify_exp": False}) == claims
    assert judge(issued(Claims(**claims), "another")) is TokenError.SIGNATURE


def test_claims_may_be_any_json() -> None:
    """JSON.stringify escapes unpaired surrogates, and issuers add claims of their own."""
    payload = b'{"ext":"Ann \\ud83c","exp":%d,"more":[1e400]}' % (NOW + 60)
    assert judge(of_payload(payload)) == Verified("Ann \ufffd")
    deep = b'{"ext":"{}","aud":' + b"[" * 300_000 + b"]" * 300_000 + b"}"
    assert judge(of_payload(deep)) is TokenError.MALFORMED


def of_payload(payload: bytes) -> str:
    """A token with any payload."""
    signed = f"{base64url(json.dumps({'alg': 'HS256'}).encode())}.{base64url(payload)}"
    return f"{signed}.{base64url(hmac.digest(SECRET.encode(), signed.encode(), 'sha256'))}"


def test_the_token_of_rfc_7515() -> None:
    """Appendix A.1; its key is not text, so this proves the reading, not the signature."""
    text = (
        "eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9"
        ".eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ"
        ".dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"
    )
    assert judge(text) is TokenError.SIGNATURE


@pytest.mark.parametrize("algorithm", HMAC_ALGORITHMS)
def test_tokens_with_a_secret(algorithm: str) -> None:
    text = token(CLAIMS, algorithm=algorithm)
    assert judge(text) == GOOD
    assert judge(text, Rules(frozenset((algorithm,)))) == GOOD
    assert judge(text, Rules(frozenset(HMAC_ALGORITHMS) - {algorithm})) is TokenError.ALGORITHM
    assert check(text, [SecretKey("another")], ANY, NOW) is TokenError.SIGNATURE
    assert judge(text, keys=[SecretKey("another"), *KEYS]) == GOOD
    assert check(text, [], ANY, NOW) is TokenError.UNKNOWN_KEY


@pytest.mark.parametrize(
    ("claims", "found"),
    [
        pytest.param({"exp": NOW + 1}, GOOD, id="for one second"),
        pytest.param({"exp": NOW + 0.5}, GOOD, id="for half a second"),
        pytest.param({"exp": NOW}, TokenError.EXPIRED, id="at its second"),
        pytest.param({"exp": 0}, TokenError.EXPIRED, id="long ago"),
        pytest.param({"exp": -1}, TokenError.EXPIRED, id="before time"),
        pytest.param({"exp": str(NOW + 9)}, TokenError.MALFORMED, id="exp is text"),
        pytest.param({"exp": None}, TokenError.MALFORMED, id="exp is null"),
        pytest.param({"exp": True}, TokenError.MALFORMED, id="exp is true"),
        pytest.param({"exp": [NOW + 9]}, TokenError.MALFORMED, id="exp is a list"),
        pytest.param({"nbf": NOW}, GOOD, id="begins now"),
        pytest.param({"nbf": NOW + 1}, TokenError.EARLY, id="begins later"),
        pytest.param({"nbf": "soon"}, TokenError.MALFORMED, id="nbf is text"),
        pytest.param({"nbf": NOW + 9, "exp": NOW - 9}, TokenError.EXPIRED, id="never"),
        pytest.param({"iat": NOW + 999}, GOOD, id="made later"),
        pytest.param({"iss": 5, "aud": 5, "sub": 5, "jti": 5}, GOOD, id="odd, and not asked for"),
        pytest.param({"ext": ""}, Verified(""), id="empty"),
        pytest.param({"ext": "bob"}, Verified("bob"), id="no JSON"),
        pytest.param({"ext": {"user": 1}}, Verified(None), id="object"),
        pytest.param({"ext": None}, Verified(None), id="null"),
    ],
)
def test_claims(claims: dict[str, Any], found: Verified | TokenError) -> None:
    assert judge(token({**CLAIMS, **claims})) == found


def test_a_token_without_exp_does_not_expire() -> None:
    assert judge(token({"ext": USER}), now_s=1e12) == GOOD


@pytest.mark.parametrize(
    ("claims", "expires_at"),
    [({"exp": NOW + 9}, NOW + 9), ({"exp": NOW + 0.5}, NOW + 0.5), ({}, None)],
)
def test_when_a_token_expires(claims: dict[str, Any], expires_at: float | None) -> None:
    found = check(token({"ext": USER, **claims}), KEYS, ANY, NOW)
    assert found == Verified(USER, expires_at)


def test_a_token_without_ext_has_no_identifiers() -> None:
    assert judge(token({"exp": NOW + 9})) == Verified(None)


@pytest.mark.parametrize(
    ("claims", "found"),
    [
        ({"iss": "us", "aud": "app"}, GOOD),
        ({"iss": "us", "aud": ["other", "app"]}, GOOD),
        ({"iss": "them", "aud": "app"}, TokenError.ISSUER),
        ({"aud": "app"}, TokenError.ISSUER),
        ({"iss": ["us"], "aud": "app"}, TokenError.ISSUER),
        ({"iss": "us", "aud": "other"}, TokenError.AUDIENCE),
        ({"iss": "us", "aud": "application"}, TokenError.AUDIENCE),
        ({"iss": "us", "aud": []}, TokenError.AUDIENCE),
        ({"iss": "us", "aud": {"app": 1}}, TokenError.AUDIENCE),
        ({"iss": "us"}, TokenError.AUDIENCE),
    ],
)
def test_issuer_and_audience_if_they_are_required(
    claims: dict[str, Any], found: Verified | TokenError
) -> None:
    rules = Rules(ANY.algorithms, issuer="us", audience="app")
    assert judge(token({**CLAIMS, **claims}), rules) == found


@pytest.mark.parametrize(
    ("header", "flaw"),
    [
        ({"alg": "none"}, TokenError.ALGORITHM),
        ({"alg": "None"}, TokenError.ALGORITHM),
        ({"alg": "hs256"}, TokenError.ALGORITHM),
        ({"alg": "RS256"}, TokenError.ALGORITHM),
        ({"alg": ""}, TokenError.ALGORITHM),
        ({"alg": "HS512"}, TokenError.SIGNATURE),
        ({}, TokenError.MALFORMED),
        ({"alg": None}, TokenError.MALFORMED),
        ({"alg": ["HS256"]}, TokenError.MALFORMED),
        ({"alg": "HS256", "crit": ["b64"], "b64": False}, TokenError.MALFORMED),
        ({"alg": "HS256", "crit": None}, TokenError.MALFORMED),
    ],
)
def test_headers_that_are_refused(header: dict[str, Any], flaw: TokenError) -> None:
    assert judge(forged(header, CLAIMS)) is flaw


@pytest.mark.parametrize("header", [{}, {"kid": "k"}, {"kid": 7}, {"typ": 7}, {"more": {}}])
def test_headers_that_are_ignored(header: dict[str, Any]) -> None:
    assert judge(forged({"alg": "HS256", **header}, CLAIMS)) == GOOD


def altered() -> list[str]:
    header, payload, signature = token(CLAIMS).split(".")
    other = base64url(json.dumps({**CLAIMS, "ext": '{"user":2}'}).encode())
    none = base64url(b'{"alg":"none"}')
    return [
        f"{header}.{other}.{signature}",
        f"{header}.{payload}.",
        f"{header}.{payload}.{signature[:-4]}",
        f"{header}.{payload}.{signature}AAAA",
        f"{header}.{payload}.{signature[::-1]}",
        f"{none}.{payload}.",
        f"{none}.{payload}.{signature}",
    ]


@pytest.mark.parametrize("text", altered())
def test_altered_tokens_are_refused(text: str) -> None:
    assert judge(text) in {TokenError.SIGNATURE, TokenError.ALGORITHM, TokenError.MALFORMED}


@pytest.mark.parametrize(
    "text",
    [
        "",
        ".",
        "..",
        "...",
        "garbage",
        "a.b.c",
        "ü.ü.ü",
        "\ud800..",
        token(CLAIMS) + "=",
        token(CLAIMS) + ".x",
        token(CLAIMS) + "\n",
        " " + token(CLAIMS),
        "Bearer " + token(CLAIMS),
        token(CLAIMS).replace(".", ".\n", 1),
        ".".join([base64url(b"[" * 30_000), *token(CLAIMS).split(".")[1:]]),
        ".".join([base64url(b"[]"), *token(CLAIMS).split(".")[1:]]),
        ".".join([base64url(b"\xff"), *token(CLAIMS).split(".")[1:]]),
    ],
    ids=lambda text: ascii(text)[:20],
)
def test_garbage_is_refused(text: str) -> None:
    assert judge(text) is TokenError.MALFORMED


@pytest.mark.parametrize("payload", [b"", b"[1]", b'"text"', b"\xff", b"[" * 30_000])
def test_signed_garbage_is_refused(payload: bytes) -> None:
    signed = oracle.api_jws.PyJWS().encode(payload, SECRET, "HS256")
    assert judge(signed) is TokenError.MALFORMED


def test_claims_without_a_valid_signature_are_not_read() -> None:
    """An invalid signature is reported, not the claims."""
    assert judge(token({**CLAIMS, "exp": 1}, key=SECRET + "!")) is TokenError.SIGNATURE


def test_an_empty_secret_is_refused() -> None:
    with pytest.raises(ValueError, match="expected a secret"):
        SecretKey("")


@given(st.dictionaries(st.sampled_from(["exp", "nbf"]), st.integers(-9, 9)))
def test_pyjwt_agrees_on_the_validity_period(offsets: dict[str, int]) -> None:
    """Its clock is the machine's, so the steps are far apart."""
    now = int(time.time())
    text = token({"ext": USER, **{name: now + 400 * n for name, n in offsets.items()}})
    try:
        oracle.decode(text, SECRET, ["HS256"])
    except oracle.InvalidTokenError:
        is_good = False
    else:
        is_good = True
    assert (judge(text, now_s=now) == GOOD) is is_good


@given(parts=st.lists(st.binary(max_size=20) | st.just(b'{"alg":"HS256"}'), min_size=3, max_size=3))
def test_random_bytes_are_refused(parts: list[bytes]) -> None:
    assert isinstance(judge(".".join(map(base64url, parts))), TokenError)


@given(st.text())
def test_random_text_is_refused(text: str) -> None:
    assert judge(text) is TokenError.MALFORMED


@given(index=st.integers(0), character=st.characters())
def test_a_changed_character_is_noticed(index: int, character: str) -> None:
    good = token(CLAIMS)
    # Some bits of the last character belong to no byte.
    index %= len(good) - 1
    changed = good[:index] + character + good[index + 1 :]
    assert (judge(changed) == GOOD) is (changed == good)
