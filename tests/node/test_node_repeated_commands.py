"""A subscribe command for a subscription that exists: confirmed again, and the application is not asked.

``@rails/actioncable`` repeats the command until it is confirmed; ``@anycable/core`` repeats it once while
it waits, and unsubscribes when it is confirmed twice.
"""

import time

import pytest

from catenary.adapters.memory.history import LocalHistory
from catenary.adapters.memory.sessions import LocalSessions
from catenary.messages.decisions import Decision, Verdict
from catenary.messages.names import Sid
from catenary.messages.replies import Rejected
from catenary.node.inboxes import INBOX_LIMIT
from catenary.node.session import Traits
from tests.node.test_node_slow_streams import SlowInterest
from tests.parts.heart import NEVER, Client, Heart, confirming, in_loop, room, settle

CONFIRMED = {"type": "confirm_subscription", "identifier": room("1")}
REFUSED = {"type": "reject_subscription", "identifier": room("1")}
REFUSAL = Decision(verdict=Verdict.FAILURE, replies=(Rejected(room("1")),))


def asked(heart: Heart) -> int:
    """How often the application was asked for a subscription."""
    return [call[0] for call in heart.application.calls].count("subscribe")


def repeat(client: Client, times: int = 1) -> None:
    for _ in range(times):
        client.say("subscribe", room("1"))


@in_loop
async def test_a_repeated_command_is_confirmed_and_the_application_asked_once() -> None:
    heart = Heart()
    client = heart.member("1")
    for _ in range(3):
        repeat(client)
        assert client.outbound.take() == [CONFIRMED]
    assert asked(heart) == 1
    assert heart.counters.failed_client_msg_total == 0
    assert heart.counters.server_msg_total == 5  # the welcome, too
    heart.publish("1", "once")
    assert client.messages == ["once"]


@in_loop
async def test_one_confirmation_answers_all_that_waited_for_it() -> None:
    heart = Heart()
    client = heart.member()
    later = heart.application.later("subscribe")
    repeat(client, 4)
    client.say("ping")
    later.set_result(confirming(room("1")))
    await settle()
    assert client.outbound.take() == [CONFIRMED, {"type": "pong"}]
    assert asked(heart) == 1
    repeat(client)
    assert client.outbound.take() == [CONFIRMED]


@in_loop
async def test_so_it_does_where_streams_take_time_to_be_live() -> None:
    interest = SlowInterest()
    heart = Heart(interest=interest)
    client = heart.member()
    repeat(client, 3)
    await settle()
    assert client.heard == []
    await interest.be_live()
    assert client.outbound.take() == [CONFIRMED]
    repeat(client)
    await settle()
    assert client.outbound.take() == [CONFIRMED]
    assert asked(heart) == 1


@in_loop
async def test_repeats_that_wait_for_another_command_are_answered_once() -> None:
    heart = Heart()
    client = heart.member("1")
    later = heart.application.later("perform")
    client.say("message", room("1"), data="{}")
    repeat(client, 3)
    later.set_result(Decision())
    await settle()
    assert client.outbound.take() == [CONFIRMED]
    assert asked(heart) == 1


@in_loop
async def test_one_that_was_rejected_is_asked_again() -> None:
    heart = Heart()
    client = heart.member()
    heart.application.prepare("subscribe", REFUSAL)
    repeat(client, 2)
    assert client.outbound.take() == [REFUSED, CONFIRMED]
    assert asked(heart) == 2


@in_loop
async def test_a_repeat_that_waited_for_the_first_command_is_answered_once() -> None:
    heart = Heart()
    client = heart.member()
    first = heart.application.later("subscribe")
    repeat(client, 3)
    first.set_result(REFUSAL)
    await settle()
    assert client.outbound.take() == [REFUSED, CONFIRMED]
    assert asked(heart) == 2


@in_loop
async def test_one_that_was_given_back_meanwhile_is_asked_again() -> None:
    heart = Heart()
    client = heart.member()
    first = heart.application.later("subscribe")
    repeat(client, 2)
    client.say("unsubscribe", room("1"))
    repeat(client, 1)
    first.set_result(confirming(room("1")))
    await settle()
    assert client.outbound.take() == [CONFIRMED, CONFIRMED]
    assert asked(heart) == 2


@in_loop
async def test_a_client_that_is_not_read_for_its_repeats_is_read_again() -> None:
    heart = Heart()
    client = heart.member()
    first = heart.application.later("subscribe")
    repeat(client, INBOX_LIMIT + 1)
    assert client.outbound.held == [True]
    first.set_result(confirming(room("1")))
    await settle()
    assert client.outbound.held == [True, False]
    assert client.outbound.take() == [CONFIRMED]
    assert client.session.inbox is None


@in_loop
async def test_a_resumed_session_is_confirmed_too() -> None:
    heart = Heart(sessions=LocalSessions(ttl_s=10, clock=time.monotonic))
    traits = Traits(NEVER, is_resumable=True)
    client = heart.connect("a", traits=traits)
    client.subscribe(room("1"))
    client.leave()
    again = heart.connect("b", traits=Traits(NEVER, is_resumable=True, resumes=Sid("a")))
    assert again.outbound.take()[0]["restored"]
    repeat(again)
    assert again.outbound.take() == [CONFIRMED]
    assert asked(heart) == 1


@pytest.mark.parametrize("since", [1, None])
@in_loop
async def test_the_history_that_it_asks_for_follows(since: int | None) -> None:
    history = LocalHistory(limit=10, ttl_s=300, epoch="e", clock=time.time)
    heart = Heart(history=history)
    client = heart.member("1")
    heart.node.publications.publish(b'{"stream":"1","data":"1"}')
    client.outbound.take()
    wanted = {} if since is None else {"history": {"since": since}}
    client.say("subscribe", room("1"), **wanted)
    types = [each.get("type", "message") for each in client.outbound.take()]
    expected = ["confirm_subscription"]
    assert types == (expected if since is None else [*expected, "message", "confirm_history"])
