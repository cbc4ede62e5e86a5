"""Derived keys, against what ``openssl dgst -sha256 -hmac`` prints."""

from collections.abc import Callable

import pytest

from catenary.auth.keys import api_key, broadcast_key, derived_key, rpc_key, same_key

SECRET = "qwerty"
BROADCAST = "42923a28b760e667fc92f7c6123bb07a282822b329dd2ef48e7aee7830d98485"
RPC = "57c40610d142fe7d7999be4e23dfba4f42c3c542e1f278063e8e3b6a30b0c2bd"
API = "bdd0244b3664404d03b7d0c2f1b946dc4fc6c13fdcbfa2be62a4a28deb04d096"


def test_keys_are_derived_as_openssl_derives_them() -> None:
    assert derived_key(SECRET, "broadcast-cable") == BROADCAST


@pytest.mark.parametrize(
    ("key_of", "derived"), [(broadcast_key, BROADCAST), (rpc_key, RPC), (api_key, API)]
)
def test_each_component_has_its_own_key(key_of: Callable[[str, str], str], derived: str) -> None:
    assert key_of("", SECRET) == derived
    assert key_of("explicit", SECRET) == "explicit"
    assert key_of("explicit", "") == "explicit"
    assert key_of("", "") == ""


@pytest.mark.parametrize(
    ("given", "expected", "same"),
    [("a", "a", True), ("a", "b", False), ("", "", False), ("a", "", False), ("ü", "ü", True)],
)
def test_keys_are_compared_whole_and_an_empty_one_matches_nothing(
    given: str, expected: str, same: bool
) -> None:
    assert same_key(given, expected) is same
