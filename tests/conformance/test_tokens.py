"""Clients that present a JSON Web Token: which are admitted, and how the others are refused."""

import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.conformance.conftest import StartServer
from tests.parts.cable_client import V1, CableClient, confirmed, delivered, identifier, rejected
from tests.parts.conformance_app import ChannelAnswer, ConformanceApp
from tests.parts.server import CableServer
from tests.parts.tokens import SECRET, base64url, forged, signed_name, token

UNAUTHORIZED = {"type": "disconnect", "reason": "unauthorized", "reconnect": False}
EXPIRED = {"type": "disconnect", "reason": "token_expired", "reconnect": False}

NOW = int(time.time())
USER = '{"user":"ann"}'
CLAIMS: dict[str, Any] = {"ext": USER, "exp": NOW + 3600}
GOOD = token(CLAIMS)
HS256 = {"alg": "HS256", "typ": "JWT"}


@pytest.fixture(scope="module")
def standalone(start_server: StartServer) -> Iterator[CableServer]:
    """A server with a secret and no application: without a token no client is admitted."""
    with start_server(f"--secret={SECRET}", "--norpc") as server:
        yield server


def is_let_in(url: str, **options: Any) -> bool:
    """Whether a client is welcomed; a client that is not must be refused in the usual way."""
    with CableClient(url, **options) as client:
        message = client.receive()
        if message["type"] == "welcome":
            return True
        assert message == UNAUTHORIZED
        assert client.wait_for_close() == (1000, "Auth Failed")
        return False


def with_token(server: CableServer, text: str) -> str:
    return f"{server.cable_url}?jid={text}"


# Good and bad tokens


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(GOOD, id="HS256"),
        pytest.param(token(CLAIMS, algorithm="HS384"), id="HS384"),
        pytest.param(token(CLAIMS, algorithm="HS512"), id="HS512"),
        pytest.param(token({"ext": USER}), id="for ever"),
        pytest.param(token({**CLAIMS, "exp": NOW + 3600.5}), id="fraction"),
        pytest.param(token({**CLAIMS, "nbf": NOW - 1}), id="nbf"),
        pytest.param(token({**CLAIMS, "iat": NOW + 999}), id="iat"),
        pytest.param(token({**CLAIMS, "iss": "us", "aud": ["a"], "sub": 5}), id="other claims"),
        pytest.param(token({**CLAIMS, "iss": 5, "aud": 5}), id="odd claims"),
        pytest.param(token({**CLAIMS, "ext": ""}), id="empty ext"),
        pytest.param(token({**CLAIMS, "ext": "ann"}), id="ext is no JSON"),
        pytest.param(token(CLAIMS, kid="k"), id="kid"),
        pytest.param(forged({"alg": "HS256", "kid": 5}, CLAIMS), id="odd kid"),
        pytest.param(forged({"alg": "HS256"}, CLAIMS), id="no typ"),
    ],
)
def test_good_token_lets_in(standalone: CableServer, text: str) -> None:
    assert is_let_in(with_token(standalone, text))


def _parts(text: str) -> list[str]:
    return text.split(".")


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(token(CLAIMS, key=SECRET + "!"), id="wrong key"),
        pytest.param(token({**CLAIMS, "exp": 1}, key=SECRET + "!"), id="wrong key, expired"),
        pytest.param(forged({"alg": "none"}, CLAIMS), id="none"),
        pytest.param(
            ".".join([*_parts(forged({"alg": "none"}, CLAIMS))[:2], ""]), id="none, unsigned"
        ),
        pytest.param(forged({"alg": "NONE"}, CLAIMS), id="NONE"),
        pytest.param(forged({"alg": "RS256"}, CLAIMS), id="RS256"),
        pytest.param(forged({"alg": "hs256"}, CLAIMS), id="hs256"),
        pytest.param(forged({"alg": "HS512"}, CLAIMS), id="another HMAC"),
        pytest.param(forged({"typ": "JWT"}, CLAIMS), id="no alg"),
        pytest.param(
            forged({**HS256, "crit": ["exp"]}, CLAIMS),
            id="crit",
            marks=pytest.mark.reference_fault("it does not read crit (RFC 7515, section 4.1.11)"),
        ),
        pytest.param(GOOD[:-4] + "AAAA", id="altered signature"),
        pytest.param(GOOD[:-4], id="cut"),
        pytest.param(GOOD + "=", id="padded"),
        pytest.param(
            ".".join([_parts(GOOD)[0], base64url(b'{"ext":"{}"}'), _parts(GOOD)[2]]),
            id="altered claims",
        ),
        pytest.param(token({**CLAIMS, "nbf": NOW + 3600}), id="not valid yet"),
        pytest.param(token({**CLAIMS, "nbf": "soon"}), id="nbf is text"),
        pytest.param(token({**CLAIMS, "exp": "late"}), id="exp is text"),
        pytest.param(token({**CLAIMS, "exp": None}), id="exp is null"),
        pytest.param(token({**CLAIMS, "exp": True}), id="exp is true"),
        pytest.param("garbage", id="garbage"),
        pytest.param("a.b.c", id="garbage in three parts"),
        pytest.param(GOOD + ".x", id="four parts"),
        pytest.param("", id="empty"),
    ],
)
def test_bad_token_is_refused(standalone: CableServer, text: str) -> None:
    assert not is_let_in(with_token(standalone, text))
    assert not is_let_in(standalone.cable_url, headers={"x-jid": text})


@pytest.mark.parametrize(
    "claims",
    [
        pytest.param({"exp": NOW - 1}, id="a second ago"),
        pytest.param({"exp": NOW}, id="now"),
        pytest.param({"exp": 1}, id="long ago"),
        pytest.param(
            {"exp": 0},
            id="at the epoch",
            marks=pytest.mark.reference_fault("zero counts as no exp, and the token is good"),
        ),
        pytest.param({"exp": 1, "nbf": NOW + 3600}, id="never valid"),
    ],
)
def test_expired_token_is_told_from_a_bad_one(
    standalone: CableServer, claims: dict[str, Any]
) -> None:
    with CableClient(with_token(standalone, token({**CLAIMS, **claims}))) as client:
        assert client.receive() == EXPIRED
        assert client.wait_for_close() == (1000, "Auth Failed")


@pytest.mark.parametrize("claims", [{}, {"ext": {"user": "ann"}}, {"ext": None}, {"ext": 5}])
def test_token_that_names_nobody_is_an_error(
    standalone: CableServer, claims: dict[str, Any]
) -> None:
    with CableClient(with_token(standalone, token({"exp": NOW + 3600, **claims}))) as client:
        assert client.wait_for_close() == (1011, "Auth Error")


# Where a token may be


@pytest.mark.parametrize(
    ("query", "options"),
    [
        pytest.param(f"a=1&jid={GOOD}", {}, id="query"),
        pytest.param(f"%6aid={GOOD}", {}, id="escaped name"),
        pytest.param(f"jid={GOOD}&jid=bad", {}, id="first of two"),
        pytest.param("", {"headers": {"x-jid": GOOD}}, id="header"),
        pytest.param("", {"headers": {"X-JID": GOOD}}, id="header in capitals"),
        pytest.param("jid=bad", {"headers": {"x-jid": GOOD}}, id="header before query"),
        pytest.param("", {"subprotocols": (*V1, f"anycable-token.{GOOD}")}, id="subprotocol"),
        pytest.param("", {"subprotocols": (f"anycable-token.{GOOD}", *V1)}, id="subprotocol first"),
        pytest.param("", {"subprotocols": (f"anycable-token.{GOOD}",)}, id="subprotocol alone"),
        pytest.param(
            "",
            {"subprotocols": (*V1, "anycable-token.bad"), "headers": {"x-jid": GOOD}},
            id="header before subprotocol",
        ),
        pytest.param(
            f"a=%zz&jid={GOOD}",
            {},
            id="beside a broken escape",
            marks=pytest.mark.reference_fault("the connection ends as an error, with 1011"),
        ),
    ],
)
def test_places_of_a_token(standalone: CableServer, query: str, options: dict[str, Any]) -> None:
    assert is_let_in(f"{standalone.cable_url}?{query}", **options)


@pytest.mark.parametrize(
    ("query", "options"),
    [
        pytest.param("", {}, id="none"),
        pytest.param(f"token={GOOD}", {}, id="another name"),
        pytest.param(f"jid=&jid={GOOD}", {}, id="second of two"),
        pytest.param(f"jid={GOOD}", {"headers": {"x-jid": "bad"}}, id="bad header"),
        pytest.param(
            f"jid={GOOD}", {"subprotocols": (*V1, "anycable-token.bad")}, id="bad subprotocol"
        ),
        pytest.param("", {"subprotocols": (*V1, "anycable-token.")}, id="empty subprotocol"),
        pytest.param("", {"headers": {"Authorization": f"Bearer {GOOD}"}}, id="authorization"),
        pytest.param("", {"headers": {"Cookie": f"jid={GOOD}"}}, id="cookie"),
    ],
)
def test_no_places_of_a_token(standalone: CableServer, query: str, options: dict[str, Any]) -> None:
    assert not is_let_in(f"{standalone.cable_url}?{query}", **options)


def test_subprotocol_with_a_token_is_not_chosen(standalone: CableServer) -> None:
    offered = (f"anycable-token.{GOOD}", *V1)
    with CableClient(standalone.cable_url, subprotocols=offered) as client:
        client.receive_welcome()
        assert client.connection.subprotocol == V1[0]


def test_param_has_the_name_of_the_option(start_server: StartServer) -> None:
    with start_server(f"--jwt_secret={SECRET}", "--jwt_param=token", "--norpc") as server:
        assert is_let_in(f"{server.cable_url}?token={GOOD}")
        assert is_let_in(server.cable_url, headers={"x-token": GOOD})
        assert is_let_in(server.cable_url, subprotocols=(*V1, f"anycable-token.{GOOD}"))
        assert not is_let_in(f"{server.cable_url}?jid={GOOD}")


# Clients that need a token


@pytest.mark.parametrize(
    ("flags", "without", "bad"),
    [
        pytest.param(["--norpc"], False, False, id="norpc"),
        pytest.param(["--noauth", "--norpc"], True, False, id="noauth"),
        pytest.param(["--public", "--norpc"], True, False, id="public"),
        pytest.param(["--enforce_jwt", "--norpc"], False, False, id="enforced"),
        pytest.param(["--enforce_jwt", "--noauth", "--norpc"], False, False, id="enforced noauth"),
        pytest.param(["--enforce_jwt", "--public", "--norpc"], False, False, id="enforced public"),
        pytest.param(["--jwt_secret=none", "--noauth", "--norpc"], True, True, id="no key"),
        pytest.param(["--secret=none", "--public", "--norpc"], True, True, id="no secret"),
    ],
)
def test_who_is_let_in(
    start_server: StartServer, flags: list[str], *, without: bool, bad: bool
) -> None:
    with start_server(f"--secret={SECRET}", *flags) as server:
        assert is_let_in(server.cable_url) is without
        assert is_let_in(with_token(server, "bad")) is bad
        if not bad:
            assert is_let_in(with_token(server, GOOD))


def test_old_names_of_the_options_work(start_server: StartServer) -> None:
    with start_server(f"--jwt_id_key={SECRET}", "--jwt_id_enforce", "--noauth") as server:
        assert is_let_in(with_token(server, GOOD))
        assert not is_let_in(server.cable_url)


# With an application


def test_application_decides_without_a_token_and_knows_who_has_one(
    start_server: StartServer, app: ConformanceApp, sid: str
) -> None:
    """It gets no Connect call for clients that have one, and sees the token as it was sent."""

    def act(answer: ChannelAnswer) -> None:
        answer.transmit(answer.call.identifiers)

    channel = identifier(app.define(act=act))
    with start_server(f"--rpc_host={app.host}", f"--jwt_secret={SECRET}") as server:
        assert not is_let_in(with_token(server, "bad"))
        with CableClient(server.cable_url) as client:
            stranger = client.receive_welcome()["sid"]
            assert len(app.calls.of(stranger, "connect")) == 1
        offered = (*V1, f"anycable-token.{GOOD}")
        headers = {"X-Request-ID": sid}
        with CableClient(server.cable_url, subprotocols=offered, headers=headers) as client:
            client.receive_welcome()
            assert app.calls.of(sid, "connect") == []
            assert client.subscribe(channel) == confirmed(channel)
            client.perform(channel, "act")
            assert client.receive() == delivered(channel, USER)
        (call,) = app.calls.of(sid, "message")
        assert (call.identifiers, call.cstate) == (USER, {})
        assert call.headers["x-jid"] == GOOD


def test_application_does_not_hear_of_the_end_of_who_never_asked_it(
    start_server: StartServer, app: ConformanceApp, sid: str
) -> None:
    channel = identifier("$pubsub", signed_stream_name=signed_name("chat"))
    with start_server(f"--rpc_host={app.host}", f"--secret={SECRET}") as server:
        with CableClient(with_token(server, GOOD), headers={"X-Request-ID": sid}) as client:
            client.receive_welcome()
            assert client.subscribe(channel) == confirmed(channel)
        with CableClient(server.cable_url) as client:
            other = client.receive_welcome()["sid"]
        app.calls.wait_for(other, "disconnect")
        server.stop()
        assert app.calls.of(sid, "disconnect") == []


# Nothing else


def test_tokens_are_not_read_without_a_key(start_server: StartServer, app: ConformanceApp) -> None:
    with start_server(f"--rpc_host={app.host}") as server:
        with CableClient(with_token(server, "bad"), headers={"x-jid": "bad"}) as client:
            sid = client.receive_welcome()["sid"]
        (call,) = app.calls.of(sid, "connect")
        assert "x-jid" not in call.headers


@pytest.mark.reference_fault("its debug lines show environments")
def test_no_token_is_logged(start_server: StartServer) -> None:
    bad = token({**CLAIMS, "exp": 1})
    with start_server(f"--secret={SECRET}", "--norpc", "--debug") as server:
        with CableClient(with_token(server, GOOD)) as client:
            client.receive_welcome()
            client.send("nonsense")
            channel = identifier("$pubsub", stream_name="x")
            assert client.subscribe(channel) == rejected(channel)
        for options in (
            {"headers": {"x-jid": bad}},
            {"subprotocols": (*V1, f"anycable-token.{bad}")},
        ):
            with CableClient(server.cable_url, **options) as client:
                assert client.receive() == EXPIRED
        server.stop()
        output = server.output()
        for text in (GOOD, bad):
            assert text.rpartition(".")[0] not in output
            assert text.rpartition(".")[2] not in output
