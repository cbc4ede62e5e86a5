"""Additions to anycable-go: public keys, key sets, rules for tokens; and the announcements."""

import sys
from collections.abc import Awaitable
from pathlib import Path

import pytest

from catenary.config.options import JwtOptions
from catenary.errors import ConfigError, MissingExtra
from catenary.messages.environment import Environment
from catenary.messages.names import Sid
from catenary.server.standalone import maybe_tokens
from tests.parts.cable_client import CableClient
from tests.parts.heart import in_loop
from tests.parts.key_set import EC, ED, RSA, PrivateKey, key_set_server, pem, web_key
from tests.parts.ports import free_port
from tests.parts.server import CableServer, cable_server
from tests.parts.tokens import SECRET, forged, token

CLAIMS = {"ext": '{"user":1}'}
STANDALONE = ("--norpc", "--broadcast_adapter=http")


def is_let_in(server: CableServer, text: str) -> bool:
    with CableClient(server.cable_url, headers={"x-jid": text}) as client:
        message = client.receive()
    assert message["type"] == "welcome" or message["reason"] == "unauthorized"
    return bool(message["type"] == "welcome")


@pytest.mark.parametrize(
    ("key", "algorithm"),
    [(RSA, "RS256"), (EC, "ES256"), (ED, "EdDSA")],
    ids=["RS256", "ES256", "EdDSA"],
)
def test_tokens_with_a_public_key(tmp_path: Path, key: PrivateKey, algorithm: str) -> None:
    path = tmp_path / "key.pem"
    path.write_text(pem(key))
    with cable_server(*STANDALONE, f"--jwt_public_key={path}") as server:
        assert is_let_in(server, token(CLAIMS, key, algorithm))
        assert not is_let_in(server, forged({"alg": "HS256"}, CLAIMS, pem(key).encode()))
        assert not is_let_in(server, forged({"alg": "none"}, CLAIMS))
        assert not is_let_in(server, token(CLAIMS))


def test_a_secret_and_a_public_key_may_be_used_together() -> None:
    env = {"ANYCABLE_JWT_PUBLIC_KEY": pem(EC)}
    with cable_server(*STANDALONE, f"--secret={SECRET}", env=env) as server:
        assert is_let_in(server, token(CLAIMS))
        assert is_let_in(server, token(CLAIMS, EC, "ES256"))
        assert not is_let_in(server, forged({"alg": "HS256"}, CLAIMS, pem(EC).encode()))


def test_algorithms_can_be_restricted() -> None:
    flags = (*STANDALONE, f"--secret={SECRET}", "--jwt_algorithms=HS512,ES256")
    with cable_server(*flags, env={"ANYCABLE_JWT_PUBLIC_KEY": pem(EC)}) as server:
        assert is_let_in(server, token(CLAIMS, algorithm="HS512"))
        assert is_let_in(server, token(CLAIMS, EC, "ES256"))
        assert not is_let_in(server, token(CLAIMS))


def test_issuer_and_audience_can_be_asked_for() -> None:
    flags = (*STANDALONE, f"--secret={SECRET}", "--jwt_issuer=us", "--jwt_audience=cable")
    with cable_server(*flags) as server:
        assert is_let_in(server, token({**CLAIMS, "iss": "us", "aud": ["cable"]}))
        assert not is_let_in(server, token({**CLAIMS, "iss": "us", "aud": "app"}))
        assert not is_let_in(server, token({**CLAIMS, "iss": "them", "aud": "cable"}))
        assert not is_let_in(server, token(CLAIMS))


def test_keys_of_a_set() -> None:
    with (
        key_set_server(web_key(RSA, "r"), web_key(EC, "e")) as issuer,
        cable_server(*STANDALONE, "--enforce_jwt", f"--jwt_jwks_url={issuer.url}") as server,
    ):
        assert is_let_in(server, token(CLAIMS, RSA, "RS256", kid="r"))
        assert is_let_in(server, token(CLAIMS, EC, "ES256", kid="e"))
        assert not is_let_in(server, token(CLAIMS, EC, "ES256", kid="r"))
        assert not is_let_in(server, token(CLAIMS, ED, "EdDSA", kid="x"))
        assert issuer.requests == 1, "not again within seconds"


@in_loop
async def test_a_key_that_is_new_in_the_set_is_found_when_a_token_names_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("catenary.adapters.jwks.MIN_INTERVAL_S", 0.0)
    with key_set_server() as issuer:
        tokens = maybe_tokens(JwtOptions(jwks_url=issuer.url), None)
        assert tokens is not None
        for start in tokens.start:
            await start()
        issuer.keys = [web_key(EC, "new")]
        headers = {tokens.header: token(CLAIMS, EC, "ES256", kid="new")}
        answer = tokens.identity(Environment(Sid("s"), "ws://test/", headers))
        assert isinstance(answer, Awaitable)
        assert (await answer).identifiers == CLAIMS["ext"]
        for finish in tokens.finish:
            await finish(1)


def test_a_key_set_that_is_away_is_told_and_lets_nobody_in() -> None:
    flags = (*STANDALONE, f"--jwt_jwks_url=http://127.0.0.1:{free_port()}/keys")
    with cable_server(*flags) as server:
        assert "Fetching token keys failed" in server.output()
        assert not is_let_in(server, token(CLAIMS, EC, "ES256"))


def test_what_is_on_is_announced() -> None:
    flags = (*STANDALONE, "--noauth", f"--secret={SECRET}", "--turbo_streams", "--enforce_jwt")
    with cable_server(*flags) as server:
        output = server.wait_for_output("Serving cable")
    assert "Tokens (JWT) in ?jid= or x-jid: required" in output
    assert "Connections need no authentication (noauth)" not in output
    assert "Streams without the application: $pubsub, Turbo::StreamsChannel" in output
    assert SECRET not in output


def test_what_is_off_is_not_announced() -> None:
    with cable_server(*STANDALONE, "--noauth", "--turbo_streams") as server:
        output = server.wait_for_output("Serving cable")
    assert "Tokens" not in output
    assert "Connections need no authentication (noauth)" in output
    assert "Streams without" not in output
    assert "turbo_streams has no key (streams_secret): the application authorizes" in output


@pytest.mark.parametrize(
    ("options", "line"),
    [
        (JwtOptions(public_key="/nowhere/key.pem"), "jwt_public_key: expected PEM or a readable"),
        (JwtOptions(public_key="-----BEGIN X"), "jwt_public_key: expected a public key in PEM"),
        (JwtOptions(public_key=pem(EC), algorithms=("RS256",)), r"keys support \(ES256\), got RS"),
    ],
)
def test_keys_that_can_not_be_used(options: JwtOptions, line: str) -> None:
    with pytest.raises(ConfigError, match=line):
        maybe_tokens(options, None)


def test_no_key_no_tokens() -> None:
    assert maybe_tokens(JwtOptions(), None) is None


def test_a_secret_needs_no_library(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("catenary.auth.public_keys", "catenary.adapters.jwks"):
        monkeypatch.delitem(sys.modules, module, raising=False)
    monkeypatch.setitem(sys.modules, "jwt", None)
    assert maybe_tokens(JwtOptions(), SECRET) is not None
    with pytest.raises(MissingExtra, match=r"-m pip install .*\[jwt\]'"):
        maybe_tokens(JwtOptions(public_key=pem(EC)), SECRET)
