"""The configuration as the console shows it: every value with its source, and no secret."""

import json
from typing import Any

from catenary.config.effective import effective
from catenary.config.options import TABLE
from catenary.console.configuration import configuration
from tests.config.sources import request


def shown(*argv: str, **environ: str) -> dict[str, dict[str, Any]]:
    """The shown options by name."""
    asked = request(*argv, environ=environ)
    found = json.loads(configuration(effective(asked.options), asked.sources))
    return {each["name"]: each for group in found["groups"] for each in group["options"]}


def test_values_and_where_they_come_from() -> None:
    options = shown("--port=9000", "--presets=broker", "--public", ANYCABLE_HOST="a.example")
    assert [(options[name]["value"], options[name]["source"]) for name in (
        *("port", "host", "broker", "admin", "noauth", "ping_interval"),
    )] == [
        ("9000", "--port"),
        ("a.example", "ANYCABLE_HOST"),
        ("memory", "presets: broker"),
        ("true", "public mode"),
        ("true", "other options"),
        ("3", "default"),
    ]  # fmt: skip
    assert options["port"]["default"] == "8080"


def test_no_secret_is_shown() -> None:
    flags = [
        f"--{entry.option.flag}=hidden"
        for entry in TABLE
        if entry.option.secret
        and entry.kind == "str"
        and entry.option.flag
        and entry.place != "redis.url"
    ]
    assert len(flags) > 8
    options = shown(*flags, "--nats_servers=nats://user:hidden@a:1,nats://hidden@b:2")
    assert "hidden" not in json.dumps(list(options.values()))
    assert options["secret"]["value"] == "•••"
    assert options["nats_servers"]["value"] == "nats://•••@a:1, nats://•••@b:2"
    assert shown()["secret"]["value"] == ""


def test_passwords_in_addresses_are_not_shown() -> None:
    options = shown(
        "--redis_url=rediss://:hidden@redis.example:6380/1?password=hidden",
        "--rpc_host=https://user:hidden@app.example/rpc?key=hidden",
        "--redis_sentinels=:hidden@a:1",
        "--jwt_jwks_url=https://user:hidden@a.example/keys?key=hidden",
        "--otel_endpoint=https://a.example/traces?api-key=hidden",
    )
    assert options["redis_url"]["value"] == "rediss://•••@redis.example:6380/1?•••"
    assert options["rpc_host"]["value"] == "https://•••@app.example/rpc?•••"
    assert "hidden" not in json.dumps(list(options.values()))
    assert options["jwt_jwks_url"]["value"] == "https://•••@a.example/keys?•••"
    assert shown("--redis_url=:hidden@a:1")["redis_url"]["value"] == "•••@a:1"
