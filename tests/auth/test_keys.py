"""Derived keys, against what ``openssl dgst -sha256 -hmac`` prints; keys in headers."""

import hashlib
import hmac
import os

import pytest

from catenary.auth.keys import (
    API_PHRASE,
    BROADCAST_PHRASE,
    RPC_PHRASE,
    BearerKey,
    bearer,
    derived_key,
)
from catenary.wire.http1 import header_text


@pytest.mark.parametrize(
    ("phrase", "key"),
    [
        (BROADCAST_PHRASE, "42923a28b760e667fc92f7c6123bb07a282822b329dd2ef48e7aee7830d98485"),
        (RPC_PHRASE, "57c40610d142fe7d7999be4e23dfba4f42c3c542e1f278063e8e3b6a30b0c2bd"),
        (API_PHRASE, "bdd0244b3664404d03b7d0c2f1b946dc4fc6c13fdcbfa2be62a4a28deb04d096"),
    ],
)
def test_keys_are_derived_as_openssl_derives_them(phrase: str, key: str) -> None:
    assert derived_key("qwerty", phrase) == key


def test_a_secret_that_is_not_utf_8_is_used_as_its_original_bytes() -> None:
    secret = os.fsdecode(b"schl\xfcssel")
    expected = hmac.new(b"schl\xfcssel", RPC_PHRASE.encode(), hashlib.sha256).hexdigest()
    assert derived_key(secret, RPC_PHRASE) == expected


@pytest.mark.parametrize(
    ("key", "sent"),
    [
        ("k", b"k"),
        ("schl\u00fcssel", "schl\u00fcssel".encode()),
        ("schl\u00fcssel", b"schl\xfcssel"),
        ("\u043a\u043b\u044e\u0447", "\u043a\u043b\u044e\u0447".encode()),
        (
            "\u043a\u043b\u044e\u0447\u00fc \U0001f511",
            "\u043a\u043b\u044e\u0447\u00fc \U0001f511".encode(),
        ),
        # Latin-1 that is also UTF-8 of another text.
        ("\u00c3\u00bc", b"\xc3\xbc"),
        ("\u00c3\u00bc", "\u00c3\u00bc".encode()),
        (os.fsdecode(b"schl\xfcssel"), b"schl\xfcssel"),
        (os.fsdecode(b"\xff\xfe"), b"\xff\xfe"),
    ],
)
def test_a_key_matches_as_clients_send_it(key: str, sent: bytes) -> None:
    expected = BearerKey(key)
    assert expected.matches(header_text(b"Bearer " + sent))
    assert expected.matches(header_text(bearer(key)))
    for other in (sent, b"Bearer " + sent + b"x", b"Bearer ", b"", b"Bearer \xff", b"Bearer k\xc3"):
        assert not expected.matches(header_text(other))


def test_without_a_key_every_header_matches() -> None:
    for header in ("", "Bearer ", "Bearer \u043a\u043b\u044e\u0447"):
        assert BearerKey("").matches(header)
