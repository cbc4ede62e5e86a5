"""How many connections a user has, and how many commands a client sends per second."""

import pytest

from catenary.adapters.memory.sessions import LocalSessions
from catenary.messages.commands import Identify
from catenary.messages.decisions import Decision
from catenary.messages.names import Sid
from catenary.messages.reasons import Reason
from catenary.messages.replies import Welcome
from catenary.node.limits import ClientLimits
from catenary.node.session import Traits
from tests.parts.heart import NEVER, Client, Heart, in_loop, room, settle

USER = '{"user":1}'


def connect(heart: Heart, identifiers: str, traits: Traits | None = None) -> Client:
    welcome = Decision(
        identifiers=identifiers, replies=(Welcome(Sid(f"sid-{heart._admitted + 1}")),)
    )
    heart.application.prepare("connect", welcome)
    return heart.connect(traits=traits or Traits(NEVER))


def kinds(client: Client) -> list[str]:
    return [each["type"] for each in client.heard]


@in_loop
async def test_a_user_has_so_many_connections() -> None:
    heart = Heart(limits=ClientLimits(max_user_connections=2))
    first, second = connect(heart, USER), connect(heart, USER)
    third = connect(heart, USER)
    assert kinds(first) == kinds(second) == ["welcome"]
    assert third.session.ended_for is Reason.TOO_MANY_CONNECTIONS
    assert third.heard == [
        {"type": "disconnect", "reason": "too_many_connections", "reconnect": True}
    ]
    assert kinds(connect(heart, '{"user":2}')) == ["welcome"]
    assert heart.counters.limited_users_total == 1
    third.leave()
    await settle()
    assert [each.sid for each, _ in heart.application.ended] == ["sid-3"], "it was admitted"
    first.leave()
    assert kinds(connect(heart, USER)) == ["welcome"]


@in_loop
async def test_clients_without_identifiers_are_no_user() -> None:
    heart = Heart(limits=ClientLimits(max_user_connections=1))
    assert [kinds(connect(heart, "")) for _ in range(3)] == [["welcome"]] * 3


@in_loop
async def test_a_session_that_is_resumed_counts_and_can_be_resumed_later() -> None:
    heart = Heart(
        sessions=LocalSessions(ttl_s=60, clock=lambda: 0),
        limits=ClientLimits(max_user_connections=1),
    )

    def resumed(sid: str) -> Client:
        return heart.connect(traits=Traits(NEVER, is_resumable=True, resumes=Sid(sid)))

    first = connect(heart, USER, Traits(NEVER, is_resumable=True))
    first.leave()
    second = connect(heart, USER)
    for refused in (resumed("sid-1"), resumed("sid-1")):
        assert refused.session.ended_for is Reason.TOO_MANY_CONNECTIONS
        refused.leave()
    second.leave()
    back = resumed("sid-1")
    assert kinds(back) == ["welcome"]
    assert back.heard[0]["restored"]
    again = resumed(back.session.sid)
    assert again.heard[0]["restored"], "its earlier connection is not counted"
    assert heart.counters.limited_users_total == 2
    await settle()
    assert [each.sid for each, _ in heart.application.ended] == ["sid-2"]


@in_loop
async def test_a_client_that_signs_in_later_counts() -> None:
    heart = Heart(limits=ClientLimits(max_user_connections=1))
    first, second = connect(heart, "x"), connect(heart, "y")
    for client in (first, first, second):
        heart.node.execute(client.session, Identify(USER))
    assert first.session.ended_for is None
    assert second.session.ended_for is Reason.TOO_MANY_CONNECTIONS


@pytest.mark.parametrize("limit", [0, 3])
@in_loop
async def test_the_number_of_connections_may_change(limit: int) -> None:
    heart = Heart()
    for _ in range(3):
        connect(heart, USER)
    heart.node.replace_limits(ClientLimits(max_user_connections=limit))
    assert kinds(connect(heart, USER)) == ["disconnect" if limit else "welcome"]


@in_loop
async def test_a_client_sends_so_many_commands_per_second(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = 5.0
    monkeypatch.setattr("catenary.node.node.time.monotonic", lambda: now)
    heart = Heart(limits=ClientLimits(max_command_rate=3))
    client, other = heart.member("1"), heart.member("1")
    for _ in range(2):
        client.say("message", room("1"), data="{}")
    now = 6.0
    for _ in range(3):
        client.say("message", room("1"), data="{}")
    assert client.session.ended_for is None
    client.say("message", room("1"), data="{}")
    assert client.session.ended_for is Reason.TOO_MANY_COMMANDS
    assert client.heard == [
        {"type": "disconnect", "reason": "too_many_commands", "reconnect": True}
    ]
    performed = [each for each in heart.application.calls if each[0] == "perform"]
    assert len(performed) == 5
    assert heart.counters.limited_clients_total == 1
    other.say("message", room("1"), data="{}")
    assert other.session.ended_for is None
