"""How the playground's client gets in, and what the server signs for it."""

import json
import time
from typing import Any

import pytest

from catenary.auth.jwt import Rules, SecretKey, Verified, check
from catenary.auth.signatures import Signatures
from catenary.config.effective import effective
from catenary.console.playground import TOKEN_S, Playground
from tests.config.sources import options


def playground(*argv: str) -> Playground:
    return Playground(effective(options(*argv)))


def facts(*argv: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(playground(*argv).facts())
    return found


@pytest.mark.parametrize(
    ("argv", "authentication"),
    [
        (["--public"], "none"),
        (["--public", "--secret=s"], "none"),
        (["--noauth"], "none"),
        (["--secret=s"], "token"),
        (["--jwt_secret=s", "--enforce_jwt", "--noauth"], "token"),
        ([], "application"),
        (["--secret=s", "--jwt_algorithms=RS256"], "application"),
        (["--jwt_public_key=k", "--enforce_jwt"], "unavailable"),
    ],
)
def test_how_its_client_is_authenticated(argv: list[str], authentication: str) -> None:
    assert facts(*argv)["authentication"] == authentication


def test_where_others_connect_and_publish() -> None:
    found = facts(
        "--public", "--port=1", "--http_broadcast_port=2", "--path=/a,/b", "--admin_port=3"
    )
    assert (found["cable_path"], found["cable_port"], found["is_apart"]) == ("/a", 1, True)
    assert (found["broadcast_path"], found["broadcast_port"]) == ("/_broadcast", 2)
    assert found["has_login"] is False
    assert facts("--admin_secret=s")["has_login"] is True


def test_a_token_is_short_lived_and_accepted() -> None:
    made = playground("--secret=s", "--jwt_issuer=i", "--jwt_audience=a")
    now = time.time()
    token = json.loads(made.signed("", '{"user":1}', now))["token"]
    rules = Rules(frozenset({"HS256"}), "i", "a")
    verified = check(token, [SecretKey("s")], rules, now)
    assert verified == Verified('{"user":1}', int(now) + TOKEN_S)
    assert not isinstance(check(token, [SecretKey("s")], rules, now + TOKEN_S + 1), Verified)


def test_a_stream_is_signed_with_the_key_of_streams() -> None:
    made = playground("--secret=s", "--streams_secret=other")
    signed = json.loads(made.signed("chat/1", "", 0))
    assert Signatures("other").verified(signed["signed_stream_name"]) == "chat/1"
    assert "token" not in signed


def test_without_keys_nothing_is_signed() -> None:
    assert json.loads(playground("--public").signed("chat/1", '{"user":1}', 0)) == {}


def test_identifiers_are_an_object() -> None:
    for text in ("x", "[]", '"x"'):
        with pytest.raises(ValueError, match=r"."):
            playground("--secret=s").signed("", text, 0)
