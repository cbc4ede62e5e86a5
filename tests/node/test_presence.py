"""Members of streams by their subscriptions, and the messages about their changes."""

import asyncio
from collections.abc import Awaitable
from typing import Any

import pytest

from catenary.adapters.memory.presence import LocalPresence
from catenary.errors import BackendError, BackendRefused, TooLarge
from catenary.messages.decisions import Decision, PresenceCommand
from catenary.messages.names import Sid, Stream
from catenary.messages.presence import Member
from catenary.messages.publications import Publication, Publishable, QueueEntry, RemoteDisconnect
from catenary.messages.replies import Confirmed
from tests.parts.heart import Client, Heart, in_loop, room, settle

TTL_S = 10


class House:
    """A node with members, and its clock. Every room may be present on its stream."""

    def __init__(self, presence: "LocalPresence | None" = None) -> None:
        self.now = 0.0
        self.presence = presence or LocalPresence(ttl_s=TTL_S, clock=lambda: self.now)
        self.heart = Heart(presence=self.presence)

    def member(self, name: str = "s", **decided: Any) -> Client:
        client = self.heart.connect()
        self.allow(name, **decided)
        client.subscribe(room(name))
        return client

    def allow(self, name: str = "s", **decided: Any) -> None:
        stream = Stream(name)
        decision = {"streams": (stream,), "presence_stream": stream, **decided}
        self.heart.application.prepare(
            "subscribe", Decision(replies=(Confirmed(room(name)),), **decision)
        )

    def elapse(self, seconds: float) -> None:
        self.now += seconds
        self.heart.node.tick()


def join(client: Client, member: str, info: object = None) -> None:
    client.say("join", room("s"), presence={"id": member, "info": info})


def events(client: Client) -> list[tuple[object, ...]]:
    """What a client has heard of members since the last time."""
    return [
        tuple(each["message"].values())
        for each in client.outbound.take()
        if each.get("type") == "presence"
    ]


@in_loop
async def test_all_clients_of_a_stream_receive_joins_and_leaves() -> None:
    house = House()
    ann, ben = house.member(), house.member()
    join(ann, "ann", {"n": 1})
    for each in (ann, ben):
        assert events(each) == [("join", "ann", {"n": 1})]
    join(ann, "ann", {"n": 1})
    assert events(ben) == []
    join(ann, "ann", {"n": 2})
    assert events(ben) == [("join", "ann", {"n": 2})]
    ann.say("leave", room("s"))
    assert events(ben) == [("leave", "ann")]


@in_loop
async def test_the_last_session_of_a_member_leaves_for_it() -> None:
    house = House()
    first, second, ben = (house.member() for _ in range(3))
    join(first, "ann")
    join(second, "ann")
    assert events(ben) == [("join", "ann", None)]
    first.say("leave", room("s"))
    assert events(ben) == []
    second.say("leave", room("s"))
    assert events(ben) == [("leave", "ann")]


@in_loop
async def test_a_client_that_unsubscribes_leaves_and_receives_no_message_about_it() -> None:
    house = House()
    ann, ben = house.member(), house.member()
    join(ann, "ann")
    events(ann), events(ben)
    ann.say("unsubscribe", room("s"))
    assert events(ben) == [("leave", "ann")]
    assert ann.heard == []


@in_loop
async def test_a_connected_member_stays_and_a_lost_one_leaves_after_its_time() -> None:
    house = House()
    ann, ben = house.member(), house.member()
    join(ann, "ann")
    join(ben, "ben")
    for _ in range(5):
        house.now += TTL_S / 2
        house.heart.node.touch_members()
        house.elapse(0)
    assert len(house.presence.members(Stream("s"))) == 2
    ann.leave()
    events(ben)
    house.now += TTL_S / 2
    house.heart.node.touch_members()
    house.elapse(0)
    assert events(ben) == []
    house.now += TTL_S * 0.6
    house.heart.node.touch_members()
    house.elapse(0)
    assert events(ben) == [("leave", "ann")]
    assert house.presence.members(Stream("s")) == (Member("ben", "null"),)


@in_loop
async def test_the_time_of_a_lost_member_begins_with_the_loss() -> None:
    house = House()
    ann, ben = house.member(), house.member()
    join(ann, "ann")
    events(ben)
    house.now += TTL_S * 0.9
    ann.leave()
    house.elapse(TTL_S * 0.9)
    assert events(ben) == []


@in_loop
async def test_the_presence_state() -> None:
    house = House()
    ann, ben = house.member(), house.member()
    join(ann, "ann", {"n": 1})
    join(ben, "ben")
    ann.outbound.frames.clear()
    ann.say("presence", room("s"))
    ann.say("presence", room("s"), data={"return_records": False})
    records = [{"id": "ann", "info": {"n": 1}}, {"id": "ben", "info": None}]
    assert [each["message"] for each in ann.heard] == [
        {"type": "info", "total": 2, "records": records},
        {"type": "info", "total": 2},
    ]


@in_loop
async def test_without_a_presence_stream_joins_are_ignored(
    caplog: pytest.LogCaptureFixture,
) -> None:
    house = House()
    ann = house.member(presence_stream=None)
    join(ann, "ann")
    join(ann, "ann")
    (line,) = caplog.messages
    assert "Presence ignored" in line
    assert "--streams_presence" in line
    ann.say("leave", room("s"))
    assert ann.heard == []
    ann.say("presence", room("s"))
    assert ann.heard[-1]["message"] == {"type": "info", "total": 0}


@in_loop
async def test_an_application_lets_join_and_leave() -> None:
    house = House()
    ben = house.member()
    house.allow(presence=PresenceCommand("join", "ann", '{"n":1}'))
    ann = house.heart.connect()
    ann.say("subscribe", room("s"))
    assert events(ben) == [("join", "ann", {"n": 1})]
    house.heart.application.prepare("perform", Decision(presence=PresenceCommand("leave")))
    ann.say("message", room("s"), data="{}")
    assert events(ben) == [("leave", "ann")]


@in_loop
async def test_an_application_names_the_stream_by_its_state() -> None:
    house = House()
    ann = house.member(presence_stream=None, istate={"$p": "other"})
    join(ann, "ann")
    assert house.presence.members(Stream("other")) == (Member("ann", "null"),)


@in_loop
async def test_a_join_within_subscribe_follows_the_confirmation() -> None:
    house = House()
    client = house.heart.connect()
    house.allow()
    client.outbound.frames.clear()
    client.say("subscribe", room("s"), presence={"id": 7})
    assert [each["type"] for each in client.heard] == ["confirm_subscription", "presence"]
    assert house.presence.members(Stream("s")) == (Member("7", "null"),)


class RemotePresence(LocalPresence):
    """Members elsewhere: what is asked for comes when a test says so, or does not."""

    def __init__(self) -> None:
        super().__init__(ttl_s=TTL_S, clock=lambda: 0)
        self.reached: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def join(self, *arguments: Any) -> "Awaitable[Any]":  # type: ignore[override]
        return self._later(lambda: LocalPresence.join(self, *arguments))

    def members(self, stream: Stream) -> "Awaitable[tuple[Member, ...]]":  # type: ignore[override]
        return self._later(lambda: LocalPresence.members(self, stream))

    async def _later(self, read: Any) -> Any:
        await self.reached
        return read()


class StrictPresence(LocalPresence):
    """Refuses members with a long info for good, once ``limit`` is set."""

    limit = 1_000_000

    def join(self, stream: Stream, sid: Sid, member_id: str, info: str) -> Any:
        if len(info) > self.limit:
            return self._refuse()
        return super().join(stream, sid, member_id, info)

    async def _refuse(self) -> None:
        raise TooLarge("over max_payload")


@in_loop
async def test_a_member_that_is_refused_as_all_join_again_costs_the_others_nothing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    now = 0.0
    presence = StrictPresence(ttl_s=TTL_S, clock=lambda: now)
    house = House(presence)
    members = [house.member() for _ in range(3)]
    for number, member in enumerate(members):
        join(member, f"m{number}", "x" * 100 if number == 1 else "")
    now = TTL_S + 1
    presence.expire()
    presence.limit = 50
    house.heart.node.restore()
    await settle()
    assert [each.id for each in presence.members(Stream("s"))] == ["m0", "m2"]
    assert "1 members were refused as they joined again: over max_payload" in caplog.text


class StrictPubSub:
    """Satisfies :class:`catenary.ports.PubSub`: refuses, as a whole, what is for the stream ``bad``."""

    def __init__(self) -> None:
        self.sent: list[Stream] = []

    def send(
        self, publications: tuple[Publishable, ...], entry: QueueEntry | None = None
    ) -> Awaitable[None] | None:
        streams = [each.stream for each in publications if isinstance(each, Publication)]
        if "bad" in streams:
            return self._refuse()
        self.sent += streams
        return None

    def relay(self, command: RemoteDisconnect) -> None:
        raise NotImplementedError

    async def _refuse(self) -> None:
        raise BackendRefused("NOPERM")


@in_loop
async def test_a_change_that_can_not_be_published_costs_the_others_nothing() -> None:
    now = 0.0
    presence = LocalPresence(ttl_s=TTL_S, clock=lambda: now)
    pubsub = StrictPubSub()
    heart = Heart(presence=presence, pubsub=pubsub)
    for sid, stream in (("1", "bad"), ("2", "good"), ("3", "bad"), ("4", "good")):
        presence.join(Stream(stream), Sid(sid), f"m{sid}", "null")
    now = TTL_S + 1
    heart.node.tick()
    await settle()
    assert pubsub.sent == ["good", "good"]


@pytest.mark.parametrize("is_away", [False, True])
@in_loop
async def test_members_elsewhere(is_away: bool) -> None:
    presence = RemotePresence()
    house = House(presence)
    ann = house.member()
    join(ann, "ann")
    ann.say("presence", room("s"))
    await settle()
    assert ann.heard == []
    if is_away:
        presence.reached.set_exception(BackendError("away"))
    else:
        presence.reached.set_result(None)
    await settle()
    messages = [each["message"] for each in ann.heard]
    if is_away:
        assert messages == [{"type": "error", "total": 0}]
    else:
        assert [each["type"] for each in messages] == ["join", "info"]
