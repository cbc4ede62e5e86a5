"""Sessions that lost their connection: how they are resumed, and how each ends once."""

import asyncio
import json
from collections.abc import Awaitable

import pytest

from catenary.adapters.memory.sessions import LocalSessions
from catenary.errors import BackendError
from catenary.messages.decisions import Decision
from catenary.messages.names import Sid, Stream
from catenary.messages.reasons import Reason
from catenary.messages.replies import Confirmed
from catenary.node import takeover
from catenary.node.session import Traits
from tests.parts.heart import NEVER, Client, Heart, confirming, in_loop, room, settle

TTL_S = 10


class House:
    """A node that keeps sessions, and its clock."""

    def __init__(self, *, sessions: "LocalSessions | None" = None) -> None:
        self.now = 0.0
        self.sessions = sessions or LocalSessions(ttl_s=TTL_S, clock=lambda: self.now)
        self.heart = Heart(sessions=self.sessions)

    def connect(self, sid: str, resumes: str | None = None) -> Client:
        wanted = None if resumes is None else Sid(resumes)
        return self.heart.connect(sid, traits=Traits(NEVER, is_resumable=True, resumes=wanted))

    async def ended(self) -> list[tuple[str, tuple[str, ...]]]:
        """The sessions whose end was reported to the application, with their subscriptions."""
        await self.heart.disconnector.drain(1)
        return [(each.sid, names) for each, names in self.heart.application.ended]

    def elapse(self, seconds: float) -> None:
        self.now += seconds
        self.heart.node.tick()


def welcome(sid: str, *names: str) -> dict[str, object]:
    return {"type": "welcome", "sid": sid, "restored": True, "restored_ids": list(names)}


def is_restored(client: Client) -> bool:
    return "restored" in client.heard[0]


def speak(client: Client) -> None:
    """Anything: now it is known that it knows how it is called."""
    client.say("unsubscribe", room("nothing"))


@in_loop
async def test_a_resumed_client_receives_its_subscriptions_without_the_application() -> None:
    house = House()
    client = house.connect("a")
    for name in ("1", "2"):
        client.subscribe(room(name))
    client.leave()
    calls = len(house.heart.application.calls)
    again = house.connect("b", resumes="a")
    assert again.heard == [welcome("b", room("1"), room("2"))]
    assert len(house.heart.application.calls) == calls
    for name in ("1", "2"):
        house.heart.publish(name, name)
    house.elapse(0)
    again.answer_ping()
    for _ in range(2):
        house.elapse(0)
    assert again.messages == ["1", "2"]


@in_loop
async def test_identifiers_and_state_come_back() -> None:
    house = House()
    client = house.connect("a")
    replies = (Confirmed(room("1")),)
    house.heart.application.prepare(
        "subscribe", Decision(replies=replies, cstate={"c": "1"}, istate={"i": "2", "$w": "w"})
    )
    client.subscribe(room("1"))
    identifiers = client.session.environment.identifiers
    client.leave()
    session = house.connect("b", resumes="a").session
    assert session.sid == "b"
    assert session.environment.identifiers == identifiers
    assert session.environment.cstate == {"c": "1"}
    assert session.environment.istate == {room("1"): {"i": "2", "$w": "w"}}
    assert house.heart.hub.sessions.identifiers_num == 1


@in_loop
async def test_the_streams_to_whisper_to_and_to_be_seen_on_come_back() -> None:
    house = House()
    client = house.connect("a")
    decision = Decision(
        replies=(Confirmed(room("1")),), whisper_stream=Stream("w"), presence_stream=Stream("p")
    )
    house.heart.application.prepare("subscribe", decision)
    client.subscribe(room("1"))
    client.leave()
    subscription = house.connect("b", resumes="a").session.subscriptions[room("1")]
    assert (subscription.whisper_stream, subscription.presence_stream) == ("w", "p")


@in_loop
async def test_one_end_is_reported_when_the_time_is_over() -> None:
    house = House()
    client = house.connect("a")
    client.subscribe(room("1"))
    for old, new in (("a", "b"), ("b", "c")):
        client.leave()
        house.elapse(TTL_S - 1)
        client = house.connect(new, resumes=old)
    house.elapse(10 * TTL_S)
    assert await house.ended() == []
    client.leave()
    house.elapse(TTL_S - 1)
    assert await house.ended() == []
    for _ in range(3):
        house.elapse(TTL_S)
    assert await house.ended() == [("c", (room("1"),))]
    assert "restored" not in house.connect("d", resumes="c").heard[0]


@in_loop
async def test_only_one_of_two_gets_a_session() -> None:
    house = House()
    house.connect("a").leave()
    first = house.connect("b", resumes="a")
    assert is_restored(first)
    speak(first)
    assert not is_restored(house.connect("c", resumes="a"))


# Who gives up before it has heard how it is called now


@pytest.mark.parametrize("has_left", [True, False])
@in_loop
async def test_a_client_that_did_not_receive_its_new_sid_resumes_by_the_previous_one(
    has_left: bool,
) -> None:
    house = House()
    client = house.connect("a")
    client.subscribe(room("1"))
    client.leave()
    given_up = house.connect("b", resumes="a")
    if has_left:
        given_up.leave()
    again = house.connect("c", resumes="a")
    assert again.heard == [welcome("c", room("1"))]
    if not has_left:
        assert given_up.outbound.ended_for is Reason.RESUMED
        given_up.leave()
    assert not is_restored(house.connect("d", resumes="b"))
    again.leave()
    house.elapse(2 * TTL_S)
    assert await house.ended() == [("c", (room("1"),))]


@in_loop
async def test_a_client_that_received_its_new_sid_resumes_by_it() -> None:
    house = House()
    house.connect("a").leave()
    house.connect("b", resumes="a").leave()
    assert is_restored(house.connect("c", resumes="b"))
    assert not is_restored(house.connect("d", resumes="a"))


@in_loop
async def test_a_client_that_has_sent_something_resumes_only_by_its_new_sid() -> None:
    house = House()
    house.connect("a").leave()
    client = house.connect("b", resumes="a")
    speak(client)
    client.leave()
    assert not is_restored(house.connect("c", resumes="a"))
    assert is_restored(house.connect("d", resumes="b"))


@in_loop
async def test_there_is_no_third_name() -> None:
    """Whoever comes back by a name knows it: the ones before are nobody's."""
    house = House()
    house.connect("a").leave()
    house.connect("b", resumes="a").leave()
    house.connect("c", resumes="b").leave()
    assert not is_restored(house.connect("d", resumes="a"))
    assert is_restored(house.connect("e", resumes="b"))


@in_loop
async def test_names_last_as_long_as_sessions_and_end_nothing() -> None:
    house = House()
    house.connect("a").leave()
    house.connect("b", resumes="a").leave()
    assert house.sessions.sessions == 2
    house.elapse(2 * TTL_S)
    assert house.sessions.sessions == 0
    assert await house.ended() == [("b", ())]


@in_loop
async def test_an_unreadable_alias_finds_no_session(caplog: pytest.LogCaptureFixture) -> None:
    house = House()
    house.sessions.save(Sid("a~"), b'"')
    assert house.connect("b", resumes="a").heard == [{"type": "welcome", "sid": "b"}]
    assert "can't be read" in caplog.text


@in_loop
async def test_ends_are_not_reported_if_the_application_does_not_want_them() -> None:
    house = House()
    house.heart.application.prepare("connect", Decision(disconnect_wanted=False))
    house.connect("a").leave()
    house.elapse(2 * TTL_S)
    assert await house.ended() == []


@in_loop
async def test_a_connection_that_looks_open_is_closed_and_ends_nothing() -> None:
    house = House()
    client = house.connect("a")
    client.subscribe(room("1"))
    again = house.connect("b", resumes="a")
    assert again.heard == [welcome("b", room("1"))]
    assert client.outbound.ended_for is Reason.RESUMED
    client.leave()
    house.elapse(2 * TTL_S)
    assert await house.ended() == []
    again.leave()
    house.elapse(2 * TTL_S)
    assert await house.ended() == [("b", (room("1"),))]


@in_loop
async def test_a_decision_that_comes_when_the_session_was_taken_over_is_not_applied() -> None:
    house = House()
    client = house.connect("a")
    answer = house.heart.application.later("subscribe")
    client.say("subscribe", room("1"))
    again = house.connect("b", resumes="a")
    answer.set_result(confirming(room("1")))
    await settle()
    assert again.session.subscriptions == client.session.subscriptions == {}
    client.leave()
    assert house.heart.hub.streams_num == 0


@pytest.mark.parametrize("may_return", [True, False])
@in_loop
async def test_a_session_closed_by_the_application_is_not_resumed(may_return: bool) -> None:
    """It may come back as a new client: then the application is asked again."""
    house = House()
    client = house.connect("a")
    client.session.close(Reason.REMOTE, reconnect=may_return)
    # The old connection lasts until its transport is gone, and must not be a way round either.
    early = house.connect("b", resumes="a")
    assert "restored" not in early.heard[0]
    client.leave()
    assert "restored" not in house.connect("c", resumes="a").heard[0]
    assert await house.ended() == [("a", ())]


@in_loop
async def test_a_session_of_the_plain_protocol_ends_at_once_and_is_not_resumed() -> None:
    house = House()
    house.connect("a").leave()
    plain = house.heart.connect("b", traits=Traits(NEVER, resumes=Sid("a")))
    assert plain.heard == [{"type": "welcome", "sid": "b"}]
    plain.leave()
    assert await house.ended() == [("b", ())]


@in_loop
async def test_at_the_end_of_the_node_all_stored_sessions_have_ended() -> None:
    house = House()
    for sid in ("a", "b"):
        house.connect(sid).leave()
    await house.heart.node.settle(1)
    assert [sid for sid, _ in await house.ended()] == ["a", "b"]


class RemoteSessions(LocalSessions):
    """A cache that nodes share, whose answers to :meth:`take` a test gives."""

    is_shared = True

    def __init__(self) -> None:
        super().__init__(ttl_s=TTL_S, clock=lambda: 0)
        self.answer: asyncio.Future[bytes | None] = asyncio.get_running_loop().create_future()

    def take(self, sid: Sid) -> "Awaitable[bytes | None]":  # type: ignore[override]
        return self.answer


@pytest.mark.parametrize("outcome", ["found", "unknown", "away"])
@in_loop
async def test_commands_wait_until_the_session_was_found(
    outcome: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(takeover, "PATIENCE_S", 0)
    sessions = RemoteSessions()
    house = House(sessions=sessions)
    client = house.connect("a")
    client.subscribe(room("1"))
    client.leave()
    await settle()
    kept = LocalSessions.take(sessions, Sid("a"))
    again = house.connect("b", resumes="a")
    again.say("message", room("1"), data="{}")
    await settle()
    assert again.heard == []
    if outcome == "away":
        sessions.answer.set_exception(BackendError("away"))
    else:
        sessions.answer.set_result(kept if outcome == "found" else None)
    await settle()
    performed = [call for call in house.heart.application.calls if call[0] == "perform"]
    if outcome == "found":
        assert again.heard == [welcome("b", room("1"))]
        assert performed == [("perform", room("1"), "{}")]
    else:
        assert again.heard == [{"type": "welcome", "sid": "b"}]
        assert performed == []


@in_loop
async def test_a_session_is_json_and_names_no_stream_that_it_has_not() -> None:
    house = House()
    client = house.connect("a")
    client.subscribe(room("1"))
    client.leave()
    kept = house.sessions.take(Sid("a"))
    assert kept is not None
    assert json.loads(kept)["subscriptions"] == {room("1"): {"streams": ["1"]}}
