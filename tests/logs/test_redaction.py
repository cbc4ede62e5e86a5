"""Secrets that can be told by their form, or by the name of their field, are hidden in every line."""

import json
import logging
import time

import pytest

from catenary.logs.fields import fields
from catenary.logs.formats import JsonFormatter, TextFormatter
from catenary.logs.redaction import SHOWN, redacted

JWT = "eyJhbGciOiJIUzI1NiJ9.eyJleHQiOiJ7fSJ9.c2lnbmF0dXJl-X_Y"
SIGNED = "ImNoYXQvNDIi--" + "0f" * 32
IDENTIFIER = json.dumps({"channel": "$pubsub", "signed_stream_name": SIGNED})


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ('{"token":"a b","x":"y"}', f'{{"token":"{SHOWN}","x":"y"}}'),
        ('{"password": "a\\"b", "x": 1}', f'{{"password": "{SHOWN}", "x": 1}}'),
        ("{'api_key': 'abc'}", f"{{'api_key': '{SHOWN}'}}"),
        ('{"accessToken":"unfinished and cut', f'{{"accessToken":"{SHOWN}'),
        (json.dumps(json.dumps({"secret": "a"})), json.dumps(json.dumps({"secret": SHOWN}))),
        ("http://x/cable?jid=abc&a=1", f"http://x/cable?jid={SHOWN}&a=1"),
        ("token=abc", f"token={SHOWN}"),
        ("redis://user:pw@host:6379/1", f"redis://{SHOWN}@host:6379/1"),
        ("nats://tok@host", f"nats://{SHOWN}@host"),
        ("Authorization: Bearer abcdef", f"Authorization: Bearer {SHOWN}"),
        (f"got {JWT}.", f"got {SHOWN}."),
        ('{"password":123456,"x":1}', f'{{"password":{SHOWN},"x":1}}'),
        ('{"tokens":["a",["b"]],"x":1}', f'{{"tokens":{SHOWN}'),
        ('{"secret": {"v":{"w":"a"}}}', f'{{"secret": {SHOWN}'),
        (json.dumps('{"pin":1234}'), json.dumps(f'{{"pin":{SHOWN}}}')),
        ('secret = "a b" x', f'secret = "{SHOWN}" x'),
        ('"token" => "a"', f'"token" => "{SHOWN}"'),
        ("/cable%3fa=b%26jid%3Dabc", f"/cable%3fa=b%26jid%3D{SHOWN}"),
        ("/cable/token=abc", f"/cable/token={SHOWN}"),
        ("redis://user:p/w@host", f"redis://{SHOWN}@host"),
        ("http://user:p/w@host/?a", f"http://{SHOWN}@host/?a"),
        ("Cookie: _session=abc; b=c", f"Cookie: {SHOWN}"),
        ("'anycable-token.abcdef'", f"'anycable-token.{SHOWN}'"),
        (f"stream {SIGNED} x", f"stream {SHOWN} x"),
    ],
)
def test_what_is_hidden(text: str, shown: str) -> None:
    assert redacted(text) == shown


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Serving broadcasts at http://localhost:8090/_broadcast",
        '{"channel":"ChatChannel","id":42}',
        "expected Authorization: Bearer with the key",
        "a token that has expired",
        "user@example.com",
        '{"auth":null,"signed":true}',
        "Tokens (JWT) in ?jid= or x-jid: optional",
        "a signed name: expected one",
        "broadcast_key is set, but not required from publishers",
    ],
)
def test_what_is_shown(text: str) -> None:
    assert redacted(text) == text


def test_every_part_of_a_line_is_redacted() -> None:
    error = ConnectionError(f"no answer of redis://:hunter2@host and {JWT}")
    made = logging.LogRecord(
        "catenary.x", logging.ERROR, "", 1, "from %s", (IDENTIFIER,), (type(error), error, None)
    )
    made.__dict__.update(fields("x", identifier=IDENTIFIER))
    for formatter in (TextFormatter(), JsonFormatter()):
        written = formatter.format(made)
        assert SHOWN in written
        for secret in ("hunter2", JWT, SIGNED, "0f0f"):
            assert secret not in written


@pytest.mark.parametrize(
    "piece",
    [
        *(
            "a",
            '"',
            "token",
            ";token",
            "token.",
            '"token":"',
            '"token":',
            '"token":1,',
            "token= ",
            "'auth",
        ),
        *("eyJ", "--", "a--", "://", "://a:", "x=", "\\", '\\"', "basic ", "cookie:", "%3ftoken"),
    ],
)
def test_hostile_text_takes_no_long_time(piece: str) -> None:
    """A time that grew with the square of the length would let clients stop the event loop by what they make it log."""
    text = (piece * 16_000)[:16_000] + "--" + "0" * 40 + "token@"

    def seconds() -> float:
        began = time.process_time()
        redacted(text)
        return time.process_time() - began

    assert min(seconds() for _ in range(3)) < 0.1
