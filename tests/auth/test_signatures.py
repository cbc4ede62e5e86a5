"""Signed strings in the format of Rails' MessageVerifier, against openssl and Python's hmac."""

import hmac

import pytest
from hypothesis import given
from hypothesis import strategies as st

from catenary.auth.signatures import Signatures
from tests.parts.tokens import signed_name, signed_text

# printf '"chat/2023"' | base64, and of that: openssl dgst -sha256 -hmac s3Krit
CHAT = "ImNoYXQvMjAyMyI=--2b2e054b6413bf3bc7e8bbad2f68962aa2ba19821800ccbd8de6fd7314e8320c"
KEY = "s3Krit"


def test_a_string_that_openssl_signed_is_verified() -> None:
    assert Signatures(KEY).verified(CHAT) == "chat/2023"


@pytest.mark.parametrize(
    "text", ['"chat/1"', ' "chat/1" ', '"\\u0063hat/1"'], ids=["plain", "spaces", "escaped"]
)
def test_any_json_string_is_verified(text: str) -> None:
    assert Signatures(KEY).verified(signed_text(text, KEY)) == "chat/1"


@pytest.mark.parametrize(
    "signed",
    [
        "",
        "--",
        "ImNoYXQvMjAyMyI=",
        CHAT + "--",
        CHAT + "--x",
        "--" + CHAT,
        " " + CHAT,
        CHAT + "\n",
        CHAT[:-1],
        CHAT[:-1] + "d",
        CHAT.upper(),
        CHAT[:18] + CHAT[18:].upper(),
        CHAT.replace("=", "", 1),
        "X" + CHAT[1:],
        CHAT.replace("--", "-"),
        "ImNoYXQvMjAyNCI=--" + CHAT.partition("--")[2],
        signed_name("chat/2023", "another key"),
        signed_name("chat/2023", ""),
        "ü--ü",
        "\ud800--\udfff",
    ],
)
def test_other_signatures_are_refused(signed: str) -> None:
    assert Signatures(KEY).verified(signed) is None


def test_the_signed_text_must_be_base64() -> None:
    encoded = "ImNoYX QvMjAyMyI="
    digest = hmac.new(KEY.encode(), encoded.encode(), "sha256").hexdigest()
    assert Signatures(KEY).verified(f"{encoded}--{digest}") is None


@pytest.mark.parametrize(
    "text",
    ["5", "null", "chat", '"chat" x', "", '["chat"]', '{"_rails":{"message":"x"}}', "[" * 30_000],
    ids=lambda text: str(text)[:20],
)
def test_signed_values_other_than_strings_are_none(text: str) -> None:
    assert Signatures(KEY).verified(signed_text(text, KEY)) is None


def test_an_empty_key_is_refused() -> None:
    with pytest.raises(ValueError, match="expected a key"):
        Signatures("")


names = st.text(st.characters(exclude_categories=["Cs"]))


@given(name=names, key=st.text(st.characters(exclude_categories=["Cs"]), min_size=1))
def test_signed_names_are_verified(name: str, key: str) -> None:
    assert Signatures(key).verified(signed_name(name, key)) == name


@given(name=names, key=st.text(st.characters(exclude_categories=["Cs"]), min_size=1))
def test_names_that_are_signed_here_are_verified(name: str, key: str) -> None:
    assert Signatures(key).verified(Signatures(key).signed(name)) == name


def test_plain_names_are_signed_as_applications_sign_them() -> None:
    assert Signatures(KEY).signed('chat/"1"') == signed_name('chat/"1"', KEY)


@given(text=st.text())
def test_random_text_is_refused(text: str) -> None:
    assert Signatures(KEY).verified(text) is None
    assert Signatures(KEY).verified(f"{text}--{text}") is None


@given(name=names, index=st.integers(0), character=st.characters())
def test_a_changed_character_is_noticed(name: str, index: int, character: str) -> None:
    signed = signed_name(name, KEY)
    index %= len(signed)
    changed = signed[:index] + character + signed[index + 1 :]
    assert (Signatures(KEY).verified(changed) is None) is (changed != signed)
