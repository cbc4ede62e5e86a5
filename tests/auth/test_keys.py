"""Derived keys, against what ``openssl dgst -sha256 -hmac`` prints."""

import pytest

from catenary.auth.keys import API_PHRASE, BROADCAST_PHRASE, RPC_PHRASE, derived_key


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
