"""Tokens and signed stream names, as servers read them, and the HTML tags that contain them."""

import json
import os
from collections.abc import Callable, Iterator
from datetime import timedelta

import jwt
import pytest

from catenary import Cable, Connection
from catenary.auth.jwt import Rules, SecretKey, Verified, check
from catenary.auth.signatures import Signatures
from catenary.channels.html import (
    action_cable_meta_tag,
    action_cable_with_jwt_meta_tag,
    cable_jwt_meta_tag,
    turbo_stream_from,
)
from catenary.channels.tokens import signed_stream_name
from catenary.errors import ConfigError
from tests.parts.cable_client import CableClient, confirmed, identifier, rejected
from tests.parts.server import OURS, CableServer, cable_server
from tests.parts.tokens import SECRET, signed_name

SERVERS: dict[str, tuple[str, ...]] = {"catenary": OURS}
if "ANYCABLE_GO" in os.environ:
    SERVERS["anycable-go"] = (os.environ["ANYCABLE_GO"],)


class User(Connection):
    identified_by = ("user_id",)
    user_id: int


cable = Cable(connection=User, channels=[], secret=SECRET)


@pytest.fixture(scope="module", params=SERVERS)
def server(request: pytest.FixtureRequest) -> Iterator[CableServer]:
    flags = ("--norpc", f"--secret={SECRET}", "--enforce_jwt", "--turbo_streams")
    with cable_server(*flags, "--broadcast_adapter=http", command=SERVERS[request.param]) as server:
        yield server


def test_servers_accept_tokens(server: CableServer) -> None:
    with CableClient(f"{server.cable_url}?jid={cable.token({'user_id': 42})}") as client:
        client.receive_welcome()
    with CableClient(f"{server.cable_url}?jid={cable.token({'user_id': 42}, ttl=-1)}") as late:
        assert late.receive()["reason"] == "token_expired"


def test_servers_accept_signed_stream_names(server: CableServer) -> None:
    with CableClient(f"{server.cable_url}?jid={cable.token({'user_id': 1})}") as client:
        client.receive_welcome()
        right = identifier("$pubsub", signed_stream_name=cable.signed_stream_name("Straße/1"))
        wrong = identifier("$pubsub", signed_stream_name=cable.signed_stream_name("a") + "0")
        assert client.subscribe(right) == confirmed(right)
        assert client.subscribe(wrong) == rejected(wrong)
        tag = cable.turbo_stream_from("room", 7)
        signed = tag.partition('signed-stream-name="')[2].partition('"')[0]
        turbo = identifier("Turbo::StreamsChannel", signed_stream_name=signed)
        assert client.subscribe(turbo) == confirmed(turbo)


def test_the_claims_of_a_token() -> None:
    token = cable.token({"user_id": 42}, ttl=timedelta(minutes=5))
    read = jwt.decode(token, SECRET, algorithms=["HS256"])
    assert json.loads(read["ext"]) == {"user_id": 42}
    assert set(read) == {"ext", "exp"}
    rules = Rules(frozenset(("HS256",)))
    exp = read["exp"]
    assert check(token, [SecretKey(SECRET)], rules, exp - 300) == Verified('{"user_id":42}', exp)


def test_tokens_have_the_issuer_and_audience_of_the_server(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("ANYCABLE_JWT_SECRET", SECRET)
    monkeypatch.setenv("ANYCABLE_JWT_ISSUER", "us")
    token = Cable(channels=[], secret="another").token({})
    assert jwt.decode(token, SECRET, algorithms=["HS256"], issuer="us")["ext"] == "{}"


def test_other_identifiers_than_those_of_the_connection_raise() -> None:
    with pytest.raises(TypeError, match="user_id"):
        cable.token({"id": 1})


def test_names_are_signed_like_those_of_rails() -> None:
    assert cable.signed_stream_name("chat/1") == signed_name("chat/1")
    assert Signatures("k").verified(signed_stream_name("a", 1, secret="k")) == "a:1"


@pytest.mark.parametrize("secret", [None, "", "none"])
def test_without_a_secret_nothing_is_signed(secret: str | None) -> None:
    unable = Cable(channels=[], secret=secret)
    signing: list[Callable[[], str]] = [
        lambda: unable.token({}),
        lambda: unable.signed_stream_name("a"),
        lambda: unable.turbo_stream_from("a"),
    ]
    for sign in signing:
        with pytest.raises(ConfigError, match="nothing to sign with"):
            sign()


# HTML


def test_tags() -> None:
    assert (
        action_cable_meta_tag('ws://h/cable?a="<b>&c')
        == '<meta name="action-cable-url" content="ws://h/cable?a=&quot;&lt;b&gt;&amp;c">'
    )
    assert cable_jwt_meta_tag("t.o.k") == '<meta name="cable-token" content="t.o.k">'
    assert (
        cable_jwt_meta_tag("t", param="jid")
        == '<meta name="cable-token" content="t"><meta name="cable-token-param" content="jid">'
    )
    for url, content in (
        ("ws://h/cable", "ws://h/cable?jid=t.o.k"),
        ("ws://h/cable?x=1", "ws://h/cable?x=1&amp;jid=t.o.k"),
        ("/cable", "/cable?jid=t.o.k"),
    ):
        tag = action_cable_with_jwt_meta_tag(url, "t.o.k")
        assert tag == f'<meta name="action-cable-url" content="{content}">'
    assert turbo_stream_from("room", 7, secret="k", channel='a"b') == (
        '<turbo-cable-stream-source channel="a&quot;b"'
        f' signed-stream-name="{signed_name("room:7", "k")}"></turbo-cable-stream-source>'
    )


def test_templates_do_not_escape_tags() -> None:
    tag = action_cable_meta_tag("/cable")
    assert tag.__html__() == str(tag)
    assert type(tag.__html__()) is str
