"""What an operator does to single clients: as if the client had done it, in the order of its commands."""

import asyncio

import pytest

from catenary.messages.decisions import Decision, Verdict
from catenary.messages.names import Sid
from catenary.messages.replies import Rejected
from catenary.node import administration as administration_module
from catenary.node.administration import Administration
from catenary.node.inboxes import INBOX_LIMIT
from tests.parts.heart import Client, Heart, confirming, in_loop, room
from tests.parts.nats_node import until

NOBODY = Sid("nobody")
R = room("r")


def administered() -> tuple[Heart, Administration, Client]:
    heart = Heart()
    client = heart.connect("a")
    client.outbound.frames.clear()
    return heart, Administration(heart.node, heart.hub), client


@in_loop
async def test_a_client_is_disconnected() -> None:
    _, administration, client = administered()
    assert administration.disconnect(NOBODY, reconnect=True) is None
    assert administration.disconnect(Sid("a"), reconnect=False) == "done"
    assert client.heard == [{"type": "disconnect", "reason": "remote", "reconnect": False}]
    assert administration.disconnect(Sid("a"), reconnect=False) is None


@in_loop
async def test_a_client_is_subscribed_and_unsubscribed() -> None:
    heart, administration, client = administered()
    assert await administration.subscribe(NOBODY, R) is None
    assert await administration.subscribe(Sid("a"), R) == "done"
    assert client.heard == [{"type": "confirm_subscription", "identifier": R}]
    assert await administration.subscribe(Sid("a"), R) == "unchanged"
    assert heart.application.calls.count(("subscribe", R)) == 1
    assert await administration.unsubscribe(Sid("a"), R) == "done"
    assert ("unsubscribe", R) in heart.application.calls
    assert await administration.unsubscribe(Sid("a"), R) == "unchanged"
    assert await administration.unsubscribe(NOBODY, R) is None


@in_loop
async def test_the_application_rejects() -> None:
    heart, administration, client = administered()
    heart.application.prepare(
        "subscribe", Decision(verdict=Verdict.FAILURE, replies=(Rejected(R),))
    )
    assert await administration.subscribe(Sid("a"), R) == "rejected"
    assert client.heard == [{"type": "reject_subscription", "identifier": R}]


@in_loop
async def test_it_waits_for_the_commands_of_the_client_and_for_the_application() -> None:
    heart, administration, client = administered()
    first, second = heart.application.later("subscribe"), heart.application.later("subscribe")
    client.say("subscribe", room("first"))
    subscribing = asyncio.ensure_future(administration.subscribe(Sid("a"), R))
    await asyncio.sleep(0)
    second.set_result(confirming(R))
    await asyncio.sleep(0)
    assert not subscribing.done()
    first.set_result(confirming(room("first")))
    assert await subscribing == "done"
    assert [each["identifier"] for each in client.heard] == [room("first"), R]


@in_loop
async def test_the_client_leaves_meanwhile(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(administration_module, "RECHECK_S", 0.001)
    heart, administration, client = administered()
    heart.application.later("subscribe")
    subscribing = asyncio.ensure_future(administration.subscribe(Sid("a"), R))
    await asyncio.sleep(0)
    client.leave()
    assert await subscribing is None


@in_loop
async def test_the_application_does_not_decide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(administration_module, "DECISION_S", 0)
    heart, administration, client = administered()
    decision = heart.application.later("subscribe")
    assert await administration.subscribe(Sid("a"), R) == "late"
    for _ in range(INBOX_LIMIT):
        client.say("subscribe", R)
    assert await administration.subscribe(Sid("a"), room("other")) == "busy"
    decision.set_result(confirming(R))
    await until(lambda: bool(client.heard))
    assert client.heard[0] == {"type": "confirm_subscription", "identifier": R}
