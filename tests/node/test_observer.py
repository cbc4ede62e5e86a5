"""Calls of an observer, in the order of the events."""

import json
from typing import Any

import pytest

from catenary.adapters.memory.presence import LocalPresence
from catenary.adapters.memory.sessions import LocalSessions
from catenary.channels.observer import GuardedObserver
from catenary.channels.observer import Observer as AuthorObserver
from catenary.errors import AppUnavailable, PublicationError
from catenary.messages.commands import Command, Perform, Subscribe, Unsubscribe
from catenary.messages.decisions import Decision, Verdict
from catenary.messages.environment import Environment, Requester
from catenary.messages.names import Identifier, Sid, Stream
from catenary.messages.presence import PresenceChange
from catenary.messages.publications import Publication, Publishable
from catenary.messages.reasons import Reason
from catenary.messages.replies import Confirmed, Disconnected, Reply, Welcome
from catenary.node.observers import ObserverGroup
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

    def request_refused(self, requester: Requester, status: int, why: str) -> None:
        self.noted.append(("request_refused", requester, status, why))

    def opened(self, environment: Environment) -> None:
        self.noted.append(("opened", environment.sid))

    def connected(self, environment: Environment, *, is_resumed: bool) -> None:
        self.noted.append(("connected", environment.sid, is_resumed))

    def rejected(self, environment: Environment, reason: Reason, why: str) -> None:
        self.noted.append(("rejected", environment.sid, reason, why))

    def received(self, environment: Environment, command: Command) -> None:
        self.noted.append(("received", environment.sid, command))

    def refused(self, environment: Environment, why: str) -> None:
        self.noted.append(("refused", environment.sid, why))

    def subscribed(self, environment: Environment, identifier: Identifier) -> None:
        self.noted.append(("subscribed", environment.sid, identifier))

    def subscription_rejected(
        self, environment: Environment, identifier: Identifier, why: str
    ) -> None:
        self.noted.append(("subscription_rejected", environment.sid, identifier, why))

    def unsubscribed(self, environment: Environment, identifier: Identifier) -> None:
        self.noted.append(("unsubscribed", environment.sid, identifier))

    def performed(
        self, environment: Environment, identifier: Identifier, decision: Decision
    ) -> None:
        self.noted.append(("performed", environment.sid, identifier, decision.verdict))

    def failed(self, environment: Environment, identifier: Identifier | None, why: str) -> None:
        self.noted.append(("failed", environment.sid, identifier, why))

    def transmitted(self, environment: Environment, message: Reply | str) -> None:
        self.noted.append(("transmitted", environment.sid, message))

    def disconnected(self, environment: Environment, reason: Reason | None) -> None:
        self.noted.append(("disconnected", environment.sid, reason))

    def closed(self, environment: Environment, reason: Reason | None, how: str) -> None:
        self.noted.append(("closed", environment.sid, reason, how))

    def publication_refused(self, raw: bytes | str, why: str) -> None:
        self.noted.append(("publication_refused", raw, why))

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
    client.leave("1001")
    assert observer.take() == [
        ("opened", "s"),
        ("connected", "s", False),
        ("transmitted", "s", Welcome(Sid("s"))),
        ("received", "s", Subscribe(room("1"))),
        ("subscribed", "s", room("1")),
        ("transmitted", "s", Confirmed(room("1"))),
        ("received", "s", Perform(room("1"), "{}")),
        ("performed", "s", room("1"), Verdict.SUCCESS),
        ("received", "s", Unsubscribe(room("1"))),
        ("unsubscribed", "s", room("1")),
        ("disconnected", "s", None),
        ("closed", "s", None, "1001"),
    ]


@pytest.mark.parametrize(
    ("answer", "reason", "why", "failures"),
    [
        (Decision(verdict=Verdict.FAILURE, error="banned"), Reason.AUTH_FAILED, "banned", []),
        (AppUnavailable("away"), Reason.AUTH_ERROR, "away", [("failed", "s", None, "away")]),
    ],
    ids=["no", "no answer"],
)
@in_loop
async def test_a_client_that_is_not_let_in(
    answer: Any, reason: Reason, why: str, failures: list[Any]
) -> None:
    heart, observer = observed()
    heart.application.prepare("connect", answer)
    client = heart.connect("s")
    client.leave()
    assert observer.take() == [
        ("opened", "s"),
        *failures,
        ("rejected", "s", reason, why),
        ("closed", "s", reason, ""),
    ], "it was never connected, and the protocol has no message from the server for this"


@in_loop
async def test_refused_messages_are_reported() -> None:
    heart, observer = observed()
    client = heart.connect("s")
    observer.take()
    heart.application.prepare("subscribe", Decision(verdict=Verdict.FAILURE, error="private"))
    client.say("subscribe", room("1"))
    assert observer.take()[1:] == [("subscription_rejected", "s", room("1"), "private")]
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
    assert observer.take() == [("transmitted", "s", Disconnected(Reason.NO_PONG, reconnect=True))]
    client.leave()
    assert observer.take() == [
        ("disconnected", "s", Reason.NO_PONG),
        ("closed", "s", Reason.NO_PONG, ""),
    ]


@in_loop
async def test_a_session_that_is_resumed() -> None:
    heart, observer = observed(sessions=LocalSessions(ttl_s=300, clock=lambda: 0.0))
    traits = Traits(NEVER, is_resumable=True)
    heart.connect("first", traits=traits).leave()
    observer.take()
    heart.connect("second", traits=Traits(NEVER, is_resumable=True, resumes=Sid("first")))
    assert observer.take()[1:] == [
        ("transmitted", "second", Welcome(Sid("second"), ())),
        ("connected", "second", True),
    ]


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
    ((what, raw, why),) = observer.take()
    assert (what, raw) == ("publication_refused", "garbage")
    assert why.startswith("expected")


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
    assert len(methods) == 20
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


def test_an_event_that_nobody_wants_costs_no_call() -> None:
    methods = [name for name in vars(Observer) if not name.startswith("_")]

    class Connections(SilentObserver):
        def opened(self, environment: Environment) -> None:
            """Wants this event only."""

    wanting = Connections()
    group = ObserverGroup([SilentObserver(), GuardedObserver(AuthorObserver())])
    assert [name for name in methods if getattr(group, name) is not None] == []
    group.attach(wanting)
    assert [name for name in methods if getattr(group, name) is not None] == ["opened"]
    assert group.opened == wanting.opened, "one method is called without a detour"
    group.detach(wanting)
    assert group.opened is None
    with pytest.raises(ValueError, match="not in"):
        group.detach(wanting)
