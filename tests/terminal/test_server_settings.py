"""URLs and keys that tools read from the server's own configuration."""

import json

import pytest

from catenary.auth.keys import API_PHRASE, BROADCAST_PHRASE, derived_key
from catenary.config.effective import effective
from catenary.errors import ConfigError
from catenary.terminal.server_settings import ServerSettings
from tests.config.sources import options
from tests.parts.tokens import SECRET, signed_name


def settings(*argv: str, **environ: str) -> ServerSettings:
    return ServerSettings(effective(options(*argv, environ=environ)))


@pytest.mark.parametrize(
    ("argv", "cable", "broadcasts", "api"),
    [
        ((), "ws://localhost:8080/cable", "http://localhost:8090/_broadcast", "8080/api"),
        (("--secret=s",), "ws://localhost:8080/cable", "http://localhost:8080/_broadcast", "8080/api"),
        (
            ("--host=::", "--port=1", "--http_broadcast_port=2", "--api_port=3", "--path=/a,/b"),
            "ws://localhost:1/a",
            "http://localhost:2/_broadcast",
            "3/api",
        ),
        (
            ("--host=[::1]", "--ssl_cert=c", "--ssl_key=k", "--secret=s"),
            "wss://[::1]:8080/cable",
            "https://[::1]:8080/_broadcast",
            "8080/api",
        ),
    ],
)  # fmt: skip
def test_urls(argv: tuple[str, ...], cable: str, broadcasts: str, api: str) -> None:
    found = settings(*argv)
    assert (found.cable_url, found.broadcast_url) == (cable, broadcasts)
    assert found.api_url.endswith(f":{api}")


def test_keys_are_derived_from_the_secret_unless_they_are_given() -> None:
    found = settings(ANYCABLE_SECRET=SECRET)
    assert found.broadcast_key == derived_key(SECRET, BROADCAST_PHRASE)
    assert found.api_key == derived_key(SECRET, API_PHRASE)
    assert found.token_secret == SECRET
    found = settings(ANYCABLE_SECRET=SECRET, ANYCABLE_BROADCAST_KEY="b", ANYCABLE_API_SECRET="a")
    assert (found.broadcast_key, found.api_key) == ("b", "a")


def test_without_a_secret_nothing_is_signed() -> None:
    found = settings()
    assert (found.broadcast_key, found.api_key) == ("", "")
    with pytest.raises(ConfigError, match="expected a secret from --secret, --key"):
        _ = found.token_secret
    with pytest.raises(ConfigError, match="expected a secret from --secret, --key"):
        found.signed("chat")


def test_the_identifier_of_a_stream_is_signed_if_the_server_requires_that() -> None:
    signed = {"channel": "$pubsub", "signed_stream_name": signed_name("chat")}
    plain = {"channel": "$pubsub", "stream_name": "chat"}
    found = settings(ANYCABLE_SECRET=SECRET)
    assert json.loads(found.identifier("chat")) == signed
    assert json.loads(found.identifier("chat", is_plain=True)) == plain
    assert json.loads(settings().identifier("chat")) == plain
    assert (
        json.loads(settings("--public_streams", f"--secret={SECRET}").identifier("chat")) == plain
    )
