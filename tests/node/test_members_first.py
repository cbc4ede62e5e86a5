"""What is published between a subscription and the answer with the members follows that answer."""

from typing import Any

import pytest

from catenary.adapters.memory.history import LocalHistory
from catenary.adapters.memory.presence import LocalPresence
from catenary.errors import BackendError
from catenary.messages.commands import HistoryRequest, Join, Subscribe
from catenary.messages.decisions import Decision
from catenary.messages.names import Stream
from catenary.messages.publications import Publication
from catenary.node import detached
from tests.parts.heart import Client, Heart, in_loop, room, settle
from tests.parts.slow_history import SlowHistory
from tests.parts.slow_presence import SlowPresence

ROOM = room("s")
S = Stream("s")
LAST = HistoryRequest(since_s=0, newest=1)


class House:
    """A node whose members are elsewhere. All clients are granted the stream of their room."""

    def __init__(self, history: LocalHistory | SlowHistory | None = None) -> None:
        self.presence = SlowPresence(LocalPresence(ttl_s=10, clock=lambda: 0))
        self.heart = Heart(presence=self.presence, history=history)

    def subscribe(self, name: str, history: HistoryRequest | None = None) -> Client:
        client = self.heart.connect()
        client.outbound.take()
        self.heart.application.prepare("subscribe", Decision(streams=(S,), presence_stream=S))
        command = Subscribe(ROOM, history, Join(ROOM, name, "null", True), reads_members=True)
        self.heart.node.execute(client.session, command)
        return client

    async def member(self, name: str) -> Client:
        client = self.subscribe(name)
        await self.presence.release()
        await self.presence.release()
        client.outbound.take()
        return client

    def publish(self, data: str) -> None:
        self.heart.hub.deliver(Publication(S, data))


def local_history() -> LocalHistory:
    return LocalHistory(limit=100, ttl_s=100, epoch="e", clock=lambda: 0)


def heard(client: Client) -> list[Any]:
    """The ids of the members that the client was told, the changes of members, and the other messages."""
    told: list[Any] = []
    for each in client.outbound.take():
        message = each.get("message")
        if each.get("type") != "presence":
            told.append(each.get("type", message))
        elif message["type"] == "error":
            told.append("unknown")
        elif message["type"] == "info":
            told.append([record["id"] for record in message["records"]])
        else:
            told.append((message["type"], message["id"]))
    return told


@in_loop
@pytest.mark.parametrize("others", [0, 1, 2])
async def test_changes_of_members_follow_the_members(others: int) -> None:
    house = House()
    peers = [await house.member(f"peer{number}") for number in range(others)]
    ann = house.subscribe("ann")
    ben = house.subscribe("ben")
    await house.presence.release()  # ann joins
    await house.presence.release()  # ben joins: ann is notified, and does not know the members yet
    house.publish('"hello"')
    assert heard(ann) == heard(ben) == []
    await house.presence.release()
    members = [f"peer{number}" for number in range(others)] + ["ann", "ben"]
    assert heard(ann) == [members, "hello"]
    assert heard(ben) == []
    await house.presence.release()
    assert heard(ben) == [members, "hello"]
    house.publish('"live"')
    for client in (ann, ben):
        assert heard(client) == ["live"]
    for client in peers:
        assert heard(client)[-4:] == [("join", "ann"), ("join", "ben"), "hello", "live"]


@in_loop
async def test_changes_that_the_members_do_not_show_are_sent() -> None:
    """They may have been published before the members were read, or after that."""
    house = House()
    await house.member("ann")
    ben = house.subscribe("ben")
    await house.presence.release()
    answer, read = house.presence.asked.pop()
    members = read()
    for text in (
        '{"type":"join","id":"ann","info":null}',
        '{"type":"leave","id":"gone"}',
        '{"type":"join","id":"ann","info":"other"}',
        '{"type":"leave","id":"ann"}',
        '{"type":"leave","id":"ann"}',
        '{"type":"join","id":"new","info":null}',
    ):
        house.heart.hub.deliver(Publication(S, text, kind="presence", transient=True))
    house.heart.hub.deliver(Publication(S, '"anything"', kind="presence"))
    answer.set_result(members)
    await settle()
    changes = ben.outbound.take()
    assert [each["message"] for each in changes[1:]] == [
        {"type": "join", "id": "ann", "info": "other"},
        {"type": "leave", "id": "ann"},
        {"type": "join", "id": "new", "info": None},
        "anything",
    ]


@in_loop
async def test_messages_are_sent_although_the_members_are_unknown() -> None:
    house = House()
    ann = house.subscribe("ann")
    house.publish('"hello"')
    for _ in "12":
        await house.presence.release(BackendError("away"))
    assert heard(ann) == ["unknown", "hello"]
    house.publish('"live"')
    assert heard(ann) == ["live"]


@in_loop
async def test_more_messages_than_are_buffered_do_not_wait(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(detached, "BUFFER_LIMIT", 3)
    house = House()
    ann = house.subscribe("ann")
    for number in range(3):
        house.publish(f'"{number}"')
    assert heard(ann) == []
    for number in range(3, 5):
        house.publish(f'"{number}"')
    assert heard(ann) == ["0", "1", "2", "3", "4"]
    assert house.heart.counters.replay_overflows_total == 1
    for _ in "12":
        await house.presence.release()
    assert heard(ann) == [["ann"]]
    house.publish('"live"')
    assert heard(ann) == ["live"]


@in_loop
@pytest.mark.parametrize("is_slow", [False, True])
async def test_the_history_follows_the_members_and_precedes_what_is_published(
    is_slow: bool,
) -> None:
    kept = local_history()
    slow = SlowHistory(kept)
    house = House(slow if is_slow else kept)
    house.heart.hub.deliver(kept.append(Publication(S, '"old"')))
    ann = house.subscribe("ann", LAST)
    house.publish('"between"')
    for _ in "12":
        await house.presence.release()
    if is_slow:
        assert heard(ann) == [["ann"]]
        slow.release()
        await settle()
        assert heard(ann) == ["old", "confirm_history", "between"]
    else:
        assert heard(ann) == [["ann"], "old", "confirm_history", "between"]


@in_loop
async def test_a_client_that_leaves_meanwhile_leaves_nothing_behind() -> None:
    house = House()
    ann = house.subscribe("ann")
    house.publish('"hello"')
    ann.leave()
    assert house.heart.hub.streams_num == 0
    house.publish('"later"')
    assert heard(ann) == []


@in_loop
async def test_a_repeated_subscription_sends_the_members_again_and_holds_nothing_back() -> None:
    house = House()
    ann = await house.member("ann")
    command = Subscribe(ROOM, None, Join(ROOM, "ann", "null", True), reads_members=True)
    house.heart.node.execute(ann.session, command)
    house.publish('"hello"')
    assert heard(ann) == ["confirm_subscription", "hello"]
    for _ in "12":
        await house.presence.release()
    assert heard(ann) == [["ann"]]
