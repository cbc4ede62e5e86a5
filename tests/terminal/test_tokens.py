"""``catenary token``."""

import json
import time
from typing import Any

import jwt
import pytest

from tests.parts.cable_client import CableClient, confirmed
from tests.parts.server import cable_server
from tests.parts.tokens import SECRET
from tests.terminal.shell import catenary


def claims(*words: str, **variables: str) -> dict[str, Any]:
    """The claims of a token, verified by PyJWT."""
    done = catenary("token", *words, **variables)
    assert done.returncode == 0, done.stderr
    said: dict[str, Any] = jwt.decode(done.stdout.strip(), SECRET, algorithms=["HS256"])
    return said


@pytest.mark.parametrize(
    ("words", "identifiers"),
    [
        (("user_id=42", "name=Änn"), {"user_id": 42, "name": "Änn"}),
        (('--identifiers={"user": {"id": 1}}',), {"user": {"id": 1}}),
        (('--identifiers={"a": 1}', "b=[2]"), {"a": 1, "b": [2]}),
        ((), {}),
    ],
)
def test_a_token_says_who_it_is(words: tuple[str, ...], identifiers: object) -> None:
    said = claims(*words, "--ttl=5m", ANYCABLE_SECRET=SECRET)
    assert json.loads(said["ext"]) == identifiers
    assert 270 < said["exp"] - time.time() <= 300


def test_where_the_secret_comes_from() -> None:
    assert claims("a=1", f"--secret={SECRET}", ANYCABLE_SECRET="other")
    assert claims("a=1", f"--key={SECRET}", ANYCABLE_SECRET="other")
    assert claims("a=1", ANYCABLE_SECRET="other", ANYCABLE_JWT_SECRET=SECRET)


def test_a_server_believes_both() -> None:
    flags = (f"--secret={SECRET}", "--enforce_jwt", "--norpc", "--broadcast_adapter=http")
    token = catenary("token", "user=1", ANYCABLE_SECRET=SECRET).stdout.strip()
    name = catenary("sign", "chat", "--identifier", ANYCABLE_SECRET=SECRET).stdout.strip()
    with (
        cable_server(*flags) as server,
        CableClient(f"{server.cable_url}?jid={token}") as client,
    ):
        client.receive_welcome()
        assert client.subscribe(name) == confirmed(name)
