"""Calls of an observer, in the order of the events."""

import json
from typing import Any

import pytest

from catenary.adapters.memory.presence import LocalPresence
from catenary.adapters.memory.sessions import LocalSessions
from catenary.errors import AppUnavailable, PublicationError
from catenary.messages.commands import Command, Perform, Subscribe, Unsubscribe
from catenary.messages.decisions import Decision, Verdict
from catenary.messages.environment import Environment
from catenary.messages.names import Identifier, Sid, Stream
from catenary.messages.presence import PresenceChange
from catenary.messages.publications import Publication, Publishable
from catenary.messages.reasons import Reason
from catenary.messages.replies import Confirmed
from catenary.node.observers import ObserverGroup, together
from catenary.node.session import Traits
from catenary.ports import Observer
from catenary.silent_observer import SilentObserver
from tests.parts.heart import NEVER, Client, Heart, in_loop, room, settle


class Noting:
    """Satisfies :class:`catenary.ports.Observer`."""

    def __init__(self) -> None:
        self.noted: list[tuple[Any, ...]] = []

    def take(self) -> list[tuple[Any, ...]]:
        noted, self.noted = self.noted, []
        return noted

    def connected(self, environment: Environment, *, is_resumed: bool) -> None:
        self.noted.append(("connected", environment.sid, is_resumed))

    def rejected(self, environment: Environment, reason: Reason) -> None:
        self.noted.append(("rejected", environment.sid, reason))

    def received(self, environment: Environment, command: Command) -> None:
        self.noted.append(("received", environment.sid, command))

    def refused(self, environment: Environment, why: str) -> None:
        self.noted.append(("refused", environment.sid, why))

    def subscribed(self, environment: Environment, identifier: Identifier) -> None:
        self.noted.append(("subscribed", environment.sid, identifier))

    def subscription_rejected(self, environment: Environment, identifier: Identifier) -> None:
        self.noted.append(("subscription_rejected", environment.sid, identifier))

    def unsubscribed(self, environment: Environment, identifier: Identifier) -> None:
        self.noted.append(("unsubscribed", environment.sid, identifier))

    def disconnected(self, environment: Environment, reason: Reason | None) -> None:
        self.noted.append(("disconnected", environment.sid, reason))

    def published(self, publications: tuple[Publishable, ...]) -> None:
        self.noted.append(("published", publications))

    def whispered(self, environment: Environment, publication: Publication) -> None:
        self.noted.append(("whispered", environment.sid, publication))

    def found_no_history(self, environment: Environment, stream: Stream) -> None:
        self.noted.append(("found_no_history", environment.sid, stream))

    def presence_changed(self, change: PresenceChange) -> None:
        self.noted.append(("presence_changed", change))

    def delivered(self, stream: Stream, messages: int, clients: int) -> None:
        self.noted.append(("delivered", stream, messages, clients))


def of(noted: list[tuple[Any, ...]], kind: str) -> list[tuple[Any, ...]]:
    return [each for each in noted if each[0] == kind]


def observed(**options: Any) -> tuple[Heart, Noting]:
    observer = Noting()
    return Heart(observer=observer, **options), observer


@in_loop
async def test_the_life_of_a_client() -> None:
    heart, observer = observed()
    client = heart.connect("s")
    client.say("subscribe", room("1"))
    client.say("message", room("1"), data="{}")
    client.say("unsubscribe", room("1"))
    client.leave()
    assert observer.take() == [
        ("connected", "s", False),
        ("received", "s", Subscribe(room("1"))),
        ("subscribed", "s", room("1")),
        ("received", "s", Perform(room("1"), "{}")),
        ("received", "s", Unsubscribe(room("1"))),
        ("unsubscribed", "s", room("1")),
        ("disconnected", "s", None),
    ]


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (Decision(verdict=Verdict.FAILURE), Reason.AUTH_FAILED),
        (AppUnavailable("away"), Reason.AUTH_ERROR),
    ],
    ids=["no", "no answer"],
)
@in_loop
async def test_a_client_that_is_not_let_in(answer: Any, reason: Reason) -> None:
    heart, observer = observed()
    heart.application.prepare("connect", answer)
    client = heart.connect("s")
    client.leave()
    assert observer.take() == [("rejected", "s", reason)], "it was never connected"


@in_loop
async def test_refused_messages_are_reported() -> None:
    heart, observer = observed()
    client = heart.connect("s")
    observer.take()
    heart.application.prepare("subscribe", Decision(verdict=Verdict.FAILURE))
    client.say("subscribe", room("1"))
    assert observer.take()[1:] == [("subscription_rejected", "s", room("1"))]
    client.say_raw("garbage")
    ((what, sid, why),) = observer.take()
    assert (what, sid) == ("refused", "s")
    assert why.startswith("expected a JSON object")


@in_loop
async def test_why_the_server_ended_a_client() -> None:
    heart, observer = observed()
    client = heart.connect("s")
    observer.take()
    client.session.close(Reason.NO_PONG)
    assert observer.take() == []
    client.leave()
    assert observer.take() == [("disconnected", "s", Reason.NO_PONG)]


@in_loop
async def test_a_session_that_is_resumed() -> None:
    heart, observer = observed(sessions=LocalSessions(ttl_s=300, clock=lambda: 0.0))
    traits = Traits(NEVER, is_resumable=True)
    heart.connect("first", traits=traits).leave()
    observer.take()
    heart.connect("second", traits=Traits(NEVER, is_resumable=True, resumes=Sid("first")))
    assert observer.take() == [("connected", "second", True)]


@in_loop
async def test_publications_and_how_many_they_reach() -> None:
    heart, observer = observed()
    members: list[Client] = [heart.member("crowd") for _ in range(3)]
    members.append(heart.member("alone"))
    observer.take()
    heart.node.publications.publish(json.dumps({"stream": "crowd", "data": "1"}))
    heart.node.publications.publish(json.dumps({"stream": "alone", "data": "2"}))
    heart.node.publications.publish(json.dumps({"stream": "nobody", "data": "3"}))
    await settle()
    assert observer.take() == [
        ("published", (Publication(Stream("crowd"), "1"),)),
        ("delivered", "crowd", 1, 3),
        ("published", (Publication(Stream("alone"), "2"),)),
        ("delivered", "alone", 1, 1),
        ("published", (Publication(Stream("nobody"), "3"),)),
    ]
    with pytest.raises(PublicationError):
        heart.node.publications.publish("garbage")
    assert observer.take() == []


@in_loop
async def test_whispers_and_changes_of_presence() -> None:
    now = 0.0
    heart, observer = observed(presence=LocalPresence(ttl_s=10, clock=lambda: now))
    stream = Stream("room")
    heart.application.prepare(
        "subscribe",
        Decision(
            streams=(stream,),
            replies=(Confirmed(room("1")),),
            whisper_stream=stream,
            presence_stream=stream,
        ),
    )
    client = heart.connect("s")
    client.subscribe(room("1"))
    observer.take()
    client.say("whisper", room("1"), data=1)
    whispered = Publication(stream, "1", exclude_socket=Sid("s"), transient=True)
    assert of(observer.take(), "whispered") == [("whispered", "s", whispered)]
    for info in (1, 1, 2):
        client.say("join", room("1"), presence={"id": "jack", "info": info})
    client.leave()
    now = 20.0
    heart.node.tick()
    assert [change for _, change in of(observer.take(), "presence_changed")] == [
        PresenceChange(stream, "join", "jack", "1"),
        PresenceChange(stream, "update", "jack", "2"),
        PresenceChange(stream, "leave", "jack"),
    ]


def test_a_group_notifies_each_of_everything() -> None:
    methods = [name for name in vars(Observer) if not name.startswith("_")]
    assert len(methods) == 13
    calls: list[tuple[str, int, object]] = []

    class Counting(SilentObserver):
        def __init__(self, number: int) -> None:
            for name in methods:
                setattr(self, name, lambda what, name=name: calls.append((name, number, what)))

    group = ObserverGroup([Counting(1), Counting(2)])
    for name in methods:
        getattr(group, name)("it")
        assert calls == [(name, 1, "it"), (name, 2, "it")]
        calls.clear()


def test_one_observer_needs_no_group() -> None:
    observer = SilentObserver()
    assert together([observer]) is observer
    assert together([]) is None
