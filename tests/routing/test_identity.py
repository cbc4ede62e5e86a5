"""Connections that are decided without the application: all clients, or those with tokens."""

import asyncio
from collections.abc import Awaitable, Callable
from urllib.parse import quote

import pytest

from catenary.auth.jwt import HMAC_ALGORITHMS, Rules, SecretKey, VerifyingKey
from catenary.errors import AppFailed
from catenary.messages.decisions import Decision, Verdict
from catenary.messages.environment import Environment
from catenary.messages.names import Sid
from catenary.messages.reasons import Reason
from catenary.messages.replies import Disconnected, Welcome
from catenary.routing.identity import TokenIdentity, everybody
from tests.parts.heart import in_loop
from tests.parts.tokens import SECRET, forged, token

NOW = 1_700_000_000
SID = Sid("s")
GOOD = token({"ext": '{"user":1}', "exp": NOW + 60})
EXPIRED = token({"ext": '{"user":1}', "exp": NOW - 60})
LET_IN = Decision(
    identifiers='{"user":1}', replies=(Welcome(SID),), disconnect_wanted=False, expires_at=NOW + 60
)


def refused(reason: Reason, why: str) -> Decision:
    return Decision(
        verdict=Verdict.FAILURE, replies=(Disconnected(reason, reconnect=False),), error=why
    )


def identity(
    *,
    param: str = "jid",
    required: bool = False,
    keys: Callable[[], list[VerifyingKey]] = lambda: [SecretKey(SECRET)],
    refresh_keys: Callable[[], Awaitable[None]] | None = None,
) -> TokenIdentity:
    return TokenIdentity(
        param,
        required=required,
        keys=keys,
        refresh_keys=refresh_keys,
        rules=Rules(frozenset(HMAC_ALGORITHMS)),
        now=lambda: NOW,
    )


def client(query: str = "", **headers: str) -> Environment:
    url = f"ws://test/cable{'?' + query if query else ''}"
    return Environment(SID, url, {name.replace("_", "-"): headers[name] for name in headers})


def test_every_client_is_accepted_under_its_session_id() -> None:
    sid = Sid('quo"ted')
    assert everybody(Environment(sid, "ws://test/", {})) == Decision(
        identifiers='{"sid":"quo\\"ted"}', replies=(Welcome(sid),), disconnect_wanted=False
    )


@pytest.mark.parametrize(
    "environment",
    [
        client(x_jid=GOOD),
        client(f"jid={GOOD}"),
        client(f"a=1&jid={GOOD}&b=2"),
        client(f"%6aid={quote(GOOD)}"),
        client(f"jid={GOOD}&jid=other"),
        client(f"a=%zz;b&jid={GOOD}"),
        client("jid=other", x_jid=GOOD),
    ],
)
def test_a_token_names_the_client(environment: Environment) -> None:
    assert identity()(environment) == LET_IN
    assert identity(required=True)(environment) == LET_IN


@pytest.mark.parametrize(
    "environment",
    [
        client(),
        client("jid="),
        client(f"jid=&jid={GOOD}"),
        client(f"token={GOOD}"),
        client(f"a?jid={GOOD}"),
        client(x_jid=""),
        client(x_token=GOOD),
    ],
)
def test_without_a_token_others_decide_unless_it_is_required(environment: Environment) -> None:
    assert identity()(environment) is None
    assert identity(required=True)(environment) == refused(Reason.UNAUTHORIZED, "no token")


def test_param_is_the_name_of_both_places() -> None:
    assert identity(param="Token")(client(f"Token={GOOD}")) == LET_IN
    assert identity(param="Token")(client(x_token=GOOD)) == LET_IN
    assert identity(param="Token")(client(f"token={GOOD}")) is None


@pytest.mark.parametrize(
    ("text", "reason", "why"),
    [
        (EXPIRED, Reason.TOKEN_EXPIRED, "that has expired"),
        (token({"ext": "{}", "nbf": NOW + 1}), Reason.UNAUTHORIZED, "that is not valid yet"),
        (token({"ext": "{}"}, key=SECRET[1:]), Reason.UNAUTHORIZED, "with an invalid signature"),
        (
            forged({"alg": "none"}, {"ext": "{}"}),
            Reason.UNAUTHORIZED,
            "with an algorithm that is not accepted",
        ),
        ("garbage", Reason.UNAUTHORIZED, "that is malformed"),
    ],
)
def test_a_bad_token_is_refused_even_where_none_is_required(
    text: str, reason: Reason, why: str
) -> None:
    assert identity()(client(x_jid=text)) == refused(reason, f"a token {why}")
    assert identity()(client(f"jid={GOOD}", x_jid=text)) == refused(reason, f"a token {why}")


def test_a_valid_token_without_identifiers_is_an_error() -> None:
    with pytest.raises(AppFailed, match="claim ext"):
        identity()(client(x_jid=token({"exp": NOW + 60})))


@in_loop
async def test_an_unknown_key_is_looked_for_once() -> None:
    keys: list[VerifyingKey] = []
    looks: list[int] = []

    async def refresh_keys() -> None:
        looks.append(1)
        await asyncio.sleep(0)
        keys.append(SecretKey(SECRET))

    subject = identity(keys=lambda: keys, refresh_keys=refresh_keys)
    answer = subject(client(x_jid=GOOD))
    assert isinstance(answer, Awaitable)
    assert await answer == LET_IN
    assert subject(client(x_jid=GOOD)) == LET_IN, "at once, now that it is known"
    assert subject(client(x_jid=EXPIRED)) == refused(
        Reason.TOKEN_EXPIRED, "a token that has expired"
    )
    assert looks == [1]


@in_loop
async def test_a_key_that_is_not_found_is_refused() -> None:
    async def refresh_keys() -> None:
        pass

    answer = identity(keys=list, refresh_keys=refresh_keys)(client(x_jid=GOOD))
    assert isinstance(answer, Awaitable)
    assert await answer == refused(Reason.UNAUTHORIZED, "a token with an unknown key")
