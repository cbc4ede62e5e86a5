"""From the history to what is live: whatever goes on meanwhile, nothing is missing or comes twice.

Over the real history in memory, and over one that is elsewhere: its answers come when a test says so.
"""

import asyncio
import json
import logging
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from catenary.adapters.memory.history import LocalHistory
from catenary.adapters.memory.sessions import LocalSessions
from catenary.errors import BackendError, BackendRefused, LostPosition
from catenary.logs.fields import event_of, fields_of
from catenary.messages.names import Identifier, Sid, Stream
from catenary.messages.publications import Publication
from catenary.node import detached, hub, patient_reads
from catenary.node.audience import Audience
from catenary.node.session import Traits
from catenary.ports import History
from tests.parts.heart import NEVER, Client, Heart, confirming, in_loop, room, settle
from tests.parts.slow_history import SlowHistory

EPOCH = "e1"
LIMIT = 1000
Messages = tuple[Publication, ...]


def local_history(limit: int = LIMIT) -> LocalHistory:
    return LocalHistory(limit=limit, ttl_s=300, epoch=EPOCH, clock=lambda: 1_700_000_000.0)


def slow_history() -> SlowHistory:
    return SlowHistory(local_history())


@pytest.fixture(autouse=True)
def short_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two clients are served in one turn, so that an audience of three is served in slices."""
    monkeypatch.setattr(hub, "TURN", 2)


def publish(heart: Heart, stream: str, message: object) -> None:
    heart.node.publications.publish(json.dumps({"stream": stream, "data": json.dumps(message)}))


def after(*offsets: tuple[str, int], since: int | None = None) -> dict[str, Any]:
    """A request for what stands behind offsets of streams."""
    streams = {stream: {"epoch": EPOCH, "offset": offset} for stream, offset in offsets}
    return {"streams": streams} | ({} if since is None else {"since": since})


def offsets(client: Client) -> list[int]:
    return [each["offset"] for each in client.heard if "offset" in each]


def said(client: Client) -> list[object]:
    """Offsets, and the types of everything else, in the order in which they came."""
    return [each.get("offset", each.get("type")) for each in client.heard]


CONFIRMED, HISTORY, REJECTED = "confirm_subscription", "confirm_history", "reject_history"


# The history answers at once


@in_loop
async def test_history_comes_between_its_confirmations() -> None:
    heart = Heart(history=local_history())
    for number in range(3):
        publish(heart, "s", number)
    client = heart.member()
    client.say("subscribe", room("s"), history=after(("s", 1)))
    publish(heart, "s", 3)
    assert said(client) == [CONFIRMED, 2, 3, HISTORY, 4]
    assert client.messages == [1, 2, 3]


@in_loop
async def test_a_local_history_needs_no_task_if_no_message_is_on_its_way() -> None:
    """Ten thousand who come back at once are served one by one, without a task for each."""
    heart = Heart(history=local_history())
    client = heart.member("s")
    client.say("history", room("s"), history={"since": 1})
    assert client.session.inbox is None
    assert said(client) == [HISTORY]


@in_loop
async def test_all_of_an_answer_is_one_write() -> None:
    heart = Heart(history=local_history())
    for number in range(3):
        publish(heart, "s", number)
    client = heart.member("s")
    client.say("history", room("s"), history=after(("s", 1)))
    assert len(client.outbound.frames) == 1
    assert said(client) == [2, 3, HISTORY]


@in_loop
async def test_since_a_moment() -> None:
    heart = Heart(history=local_history())
    publish(heart, "s", "old")
    client = heart.member("s")
    client.say("history", room("s"), history={"since": 1_700_000_001})
    assert said(client) == [HISTORY]
    client.outbound.frames.clear()
    client.say("history", room("s"), history={"since": 1_700_000_000})
    assert said(client) == [1, HISTORY]


@in_loop
async def test_a_position_comes_before_a_moment() -> None:
    heart = Heart(history=local_history())
    heart.application.prepare("subscribe", confirming(room("a"), "a", "b"))
    for stream in ("a", "a", "b", "b"):
        publish(heart, stream, stream)
    client = heart.member()
    client.say("subscribe", room("a"), history=after(("a", 1), since=1_700_000_000))
    assert said(client) == [CONFIRMED, 2, 1, 2, HISTORY]
    assert client.messages == ["a", "b", "b"]


@in_loop
async def test_a_stream_that_was_not_asked_for_sends_nothing() -> None:
    heart = Heart(history=local_history())
    publish(heart, "s", 1)
    client = heart.member("s")
    client.say("history", room("s"), history=after(("other", 0)))
    assert said(client) == [HISTORY]


@pytest.mark.parametrize("position", [("e0", 1), (EPOCH, 99), (EPOCH, 0)])
@in_loop
async def test_a_lost_position_is_rejected(position: tuple[str, int]) -> None:
    epoch, offset = position
    heart = Heart(history=local_history(limit=2))
    heart.application.prepare("subscribe", confirming(room("s"), "kept", "s"))
    for stream in ("kept", "s", "s", "s"):
        publish(heart, stream, stream)
    client = heart.member()
    streams = {"kept": {"epoch": EPOCH, "offset": 0}, "s": {"epoch": epoch, "offset": offset}}
    client.say("subscribe", room("s"), history={"streams": streams})
    publish(heart, "s", "live")
    assert said(client) == [CONFIRMED, REJECTED, 4]


@in_loop
async def test_the_identifier_of_a_lost_history_is_a_field_of_its_log_line(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """In the text of the line, a space and a name in it would pass for another field."""
    caplog.set_level(logging.INFO, "catenary.node")
    heart = Heart(history=local_history(limit=2))
    client = heart.member("s")
    client.say("history", room("s"), history=after(("s", 99)))
    assert said(client) == [REJECTED]
    [line] = [each for each in caplog.records if each.msg == "No history"]
    assert fields_of(line)["identifier"] == room("s")
    assert event_of(line) == "no_history"


# While a delivery is under way


@in_loop
async def test_a_client_that_joins_during_a_delivery_receives_all_of_it_once() -> None:
    heart = Heart(history=local_history())
    crowd = [heart.member("s") for _ in range(5)]
    publish(heart, "s", 1)
    assert not heart.hub.is_quiet(Stream("s"))
    client = heart.member()
    client.say("subscribe", room("s"), history=after(("s", 0)))
    publish(heart, "s", 2)
    await settle()
    assert said(client) == [CONFIRMED, 1, HISTORY, 2] or offsets(client) == [1, 2]
    publish(heart, "s", 3)
    await settle()
    assert offsets(client) == [1, 2, 3]
    assert all(offsets(each) == [1, 2, 3] for each in crowd)


@in_loop
async def test_a_client_that_joins_a_group_served_later_does_not_receive_it_twice() -> None:
    """The delivery under way has not come to its group: it would be served live as well."""
    heart = Heart(history=local_history())
    for _ in range(5):
        heart.member("s")
    late = room("s", group="late")
    heart.connect().subscribe(late)
    publish(heart, "s", 1)
    client = heart.member()
    client.say("subscribe", late, history=after(("s", 0)))
    await settle()
    assert offsets(client) == [1]


@in_loop
async def test_a_listener_of_an_audience_asks_in_the_middle_of_a_delivery() -> None:
    heart = Heart(history=local_history())
    crowd = [heart.member("s") for _ in range(7)]
    publish(heart, "s", 1)
    asking = crowd[-1]
    asking.say("history", room("s"), history=after(("s", 1)))
    publish(heart, "s", 2)
    publish(heart, "s", 3)
    heart.publish("s", "transient", transient=True)
    await settle()
    assert offsets(asking) == [1, 2, 3]
    assert asking.messages[-1] == "transient"
    audience = heart.hub._streams[Stream("s")]
    assert isinstance(audience, Audience)
    assert not audience.detached
    assert HISTORY in said(asking)
    publish(heart, "s", 4)
    await settle()
    assert all(offsets(each) == [1, 2, 3, 4] for each in crowd)


@in_loop
async def test_a_client_that_leaves_while_it_waits_is_forgotten() -> None:
    heart = Heart(history=local_history())
    crowd = [heart.member("s") for _ in range(7)]
    publish(heart, "s", 1)
    crowd[-1].say("history", room("s"), history=after(("s", 0)))
    await asyncio.sleep(0)
    for each in crowd:
        each.leave()
    await settle()
    assert heart.hub.streams_num == 0


@in_loop
async def test_a_single_listener_is_one_entry_again_when_it_was_served() -> None:
    history = slow_history()
    heart = Heart(history=history)
    client = heart.member("s")
    client.say("history", room("s"), history=after(("s", 0)))
    await settle()
    history.release()
    await settle()
    assert said(client) == [HISTORY]
    assert heart.hub._streams[Stream("s")] is client.session.subscriptions[room("s")]


# The history is elsewhere


@in_loop
async def test_messages_published_meanwhile_follow_the_history() -> None:
    history = slow_history()
    heart = Heart(history=history)
    publish(heart, "s", 1)
    client = heart.member()
    client.say("subscribe", room("s"), history=after(("s", 0)))
    publish(heart, "s", 2)
    await settle()
    publish(heart, "s", 3)
    history.release()
    publish(heart, "s", 4)
    await settle()
    publish(heart, "s", 5)
    assert said(client) == [CONFIRMED, 1, 2, 3, HISTORY, 4, 5]


@in_loop
async def test_transient_messages_are_buffered_for_a_client_that_waits() -> None:
    history = slow_history()
    heart = Heart(history=history)
    client = heart.member("s")
    client.say("history", room("s"), history={"since": 1})
    await settle()
    heart.publish("s", "transient", transient=True)
    heart.publish("s", "not for you", exclude_socket=client.session.sid)
    assert client.heard == []
    history.release()
    await settle()
    assert client.messages == ["transient"]


@in_loop
async def test_requests_are_answered_one_after_the_other() -> None:
    history = slow_history()
    heart = Heart(history=history)
    for number in range(2):
        publish(heart, "s", number)
    client = heart.member("s")
    for offset in (1, 2):
        client.say("history", room("s"), history=after(("s", offset)))
    await settle()
    assert len(history.asked) == 1
    publish(heart, "s", 2)
    history.release()
    await settle()
    assert said(client) == [2, 3, HISTORY]
    client.outbound.frames.clear()
    publish(heart, "s", 3)
    history.release()
    await settle()
    assert said(client) == [3, 4, HISTORY]


@in_loop
async def test_a_second_request_while_an_audience_is_busy_is_served_in_order() -> None:
    history = slow_history()
    heart = Heart(history=history)
    for _ in range(9):
        heart.member("s")
    client = heart.member()
    client.say("subscribe", room("s"), history=after(("s", 0)))
    client.say("history", room("s"), history=after(("s", 1)))
    publish(heart, "s", 1)
    await asyncio.sleep(0)
    history.release()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    # The audience is still being served, and the second question is under way.
    assert not heart.hub.is_quiet(Stream("s"))
    assert len(history.asked) == 1
    publish(heart, "s", 2)
    await settle()
    assert offsets(client) == [1]
    history.release()
    await settle()
    assert said(client) == [CONFIRMED, 1, HISTORY, 2, HISTORY]


@pytest.mark.parametrize("error", [LostPosition("gone"), BackendError("away")])
@in_loop
async def test_after_a_failure_the_request_is_rejected_and_buffered_messages_are_sent(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(patient_reads, "AWAY_S", 0)
    history = slow_history()
    heart = Heart(history=history)
    heart.application.prepare("subscribe", confirming(room("s"), "s", "t"))
    publish(heart, "s", "missed")
    client = heart.member()
    client.say("subscribe", room("s"), history=after(("s", 0), ("t", 0)))
    await settle()
    publish(heart, "s", "live")
    publish(heart, "t", "live, too")
    history.release()
    await settle()
    history.release(error)
    await settle()
    assert [each.get("message", each.get("type")) for each in client.heard] == [
        CONFIRMED,
        REJECTED,
        "live",
        "live, too",
    ]
    publish(heart, "s", "later")
    assert client.messages[-1] == "later"


@in_loop
async def test_a_history_that_is_refused_for_good_is_not_asked_again() -> None:
    history = slow_history()
    heart = Heart(history=history)
    client = heart.member()
    client.say("subscribe", room("s"), history=after(("s", 0)))
    await settle()
    history.release(BackendRefused("WRONGTYPE"))
    await settle()
    assert said(client) == [CONFIRMED, REJECTED]
    assert history.asked == []


@in_loop
async def test_a_history_that_is_away_for_a_moment_is_asked_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(patient_reads, "PAUSE_S", 0)
    history = slow_history()
    heart = Heart(history=history)
    publish(heart, "s", 1)
    client = heart.member()
    client.say("subscribe", room("s"), history=after(("s", 0)))
    for _ in range(3):
        await settle()
        history.release(BackendError("away"))
    publish(heart, "s", 2)
    await settle()
    history.release()
    await settle()
    assert said(client) == [CONFIRMED, 1, 2, HISTORY]


@in_loop
async def test_a_client_that_unsubscribes_while_it_waits_receives_only_the_answer() -> None:
    history = slow_history()
    heart = Heart(history=history)
    client = heart.member("s")
    client.say("history", room("s"), history=after(("s", 0)))
    client.say("unsubscribe", room("s"))
    await settle()
    publish(heart, "s", 1)
    history.release()
    await settle()
    publish(heart, "s", 2)
    assert said(client) == [1, HISTORY]
    assert heart.hub.streams_num == 0


@pytest.mark.parametrize("turns", [0, 1, 20])
@in_loop
async def test_nothing_is_kept_of_a_client_that_leaves_while_it_waits(turns: int) -> None:
    history = slow_history()
    heart = Heart(history=history)
    client = heart.member("s")
    client.say("history", room("s"), history=after(("s", 0)))
    await settle(turns)
    client.leave()
    await settle()
    publish(heart, "s", 1)
    history.release()
    await settle()
    assert client.heard == []
    assert heart.hub.streams_num == 0


# Who is restored


def traits(resumes: str | None = None) -> Traits:
    return Traits(NEVER, is_resumable=True, resumes=Sid(resumes) if resumes else None)


def local_sessions() -> LocalSessions:
    return LocalSessions(ttl_s=300, clock=asyncio.get_running_loop().time)


@in_loop
async def test_messages_published_before_a_restored_client_asks_follow_the_missed_ones() -> None:
    heart = Heart(history=local_history(), sessions=local_sessions())
    client = heart.connect("before", traits=traits())
    client.subscribe(room("s"))
    publish(heart, "s", 1)
    client.leave()
    publish(heart, "s", 2)
    again = heart.connect("again", traits=traits("before"))
    publish(heart, "s", 3)
    again.say("history", room("s"), history=after(("s", 1)))
    await settle()
    publish(heart, "s", 4)
    assert said(again) == ["welcome", 2, 3, HISTORY, 4]


@in_loop
async def test_a_resumed_client_is_answered_at_once_by_a_local_history() -> None:
    """Also in the middle of a delivery to others: nothing of that is on its way to a detached listener."""
    heart = Heart(history=local_history(), sessions=local_sessions())
    for _ in range(5):
        heart.member("s")
    client = heart.connect("before", traits=traits())
    client.subscribe(room("s"))
    client.leave()
    again = heart.connect("again", traits=traits("before"))
    publish(heart, "s", 1)
    heart.publish("s", "transient", transient=True)
    assert not heart.hub.is_quiet(Stream("s"))
    again.say("history", room("s"), history=after(("s", 0)))
    assert again.session.inbox is None
    assert said(again) == ["welcome", 1, HISTORY, None]
    publish(heart, "s", 2)
    await settle()
    publish(heart, "s", 3)
    await settle()
    assert offsets(again) == [1, 2, 3]
    audience = heart.hub._streams[Stream("s")]
    assert isinstance(audience, Audience)
    assert not audience.detached


@in_loop
async def test_a_resumed_client_whose_request_is_rejected_receives_the_buffered_messages() -> None:
    heart = Heart(history=local_history(limit=1), sessions=local_sessions())
    client = heart.connect("before", traits=traits())
    client.subscribe(room("s"))
    client.leave()
    publish(heart, "s", 1)
    again = heart.connect("again", traits=traits("before"))
    publish(heart, "s", 2)
    publish(heart, "s", 3)
    again.say("history", room("s"), history=after(("s", 0)))
    assert said(again) == ["welcome", REJECTED, 2, 3]
    assert len(again.outbound.frames) == 3


@in_loop
async def test_a_tick_does_not_reattach_a_client_that_is_being_answered() -> None:
    history = slow_history()
    heart = Heart(history=history, sessions=local_sessions())
    client = heart.connect("before", traits=traits())
    client.subscribe(room("s"))
    client.leave()
    again = heart.connect("again", traits=traits("before"))
    publish(heart, "s", 1)
    again.say("history", room("s"), history=after(("s", 0)))
    await settle()
    for _ in range(3):
        heart.node.tick()
    assert said(again) == ["welcome"]
    history.release()
    await settle()
    assert said(again) == ["welcome", 1, HISTORY]


# Everything at once


@dataclass
class Listener:
    """A client of the property test over all its connections; it heard all up to ``start``."""

    client: Client
    identifier: Identifier
    start: int
    earlier: list[int] = field(default_factory=list)
    is_here: bool = True
    has_asked: bool = True
    position: int = 0
    """What it asks with: where it was when it was cut off, however late the request arrives."""
    was_rejected: bool = False

    @property
    def heard(self) -> list[int]:
        return self.earlier + offsets(self.client)

    def note_rejection(self) -> None:
        self.was_rejected = self.was_rejected or REJECTED in said(self.client)


class World:
    """Listeners of one stream, who come, go, are cut off and come back while it is published to."""

    def __init__(self, history: History) -> None:
        self.history = history
        self.heart = Heart(history=history, sessions=local_sessions())
        self.published = 0
        self.listeners: list[Listener] = []
        self.names = 0

    async def do(self, action: str, number: int) -> None:
        match action:
            case "publish":
                self.published += 1
                publish(self.heart, "s", self.published)
            case "turn":
                await settle(number % 3 + 1)
            case "tick":
                self.heart.node.tick()
            case "enter" | "enter later":
                self.enter(number, is_later=action == "enter later")
            case "release":
                if isinstance(self.history, SlowHistory):
                    self.history.release()
                    self.history.is_early = number % 2 == 0
            case _:
                if self.listeners:
                    self.change(self.listeners[number % len(self.listeners)], action)

    def enter(self, number: int, *, is_later: bool) -> None:
        identifier = room("s", group=number % 3)
        start = max(self.published - number, 0)
        client = self.heart.connect(self.name(), traits=traits())
        if is_later:
            answer = self.heart.application.later("subscribe")
            asyncio.get_running_loop().call_soon(answer.set_result, confirming(identifier))
        client.say("subscribe", identifier, history=after(("s", start)))
        self.listeners.append(Listener(client, identifier, start))

    def change(self, listener: Listener, action: str) -> None:
        client = listener.client
        match action:
            case "cut" if listener.is_here and client.session.subscriptions:
                client.leave()
                listener.is_here = False
            case "resume" if not listener.is_here or client.session.subscriptions:
                # Its old connection may look alive to the server.
                if listener.is_here:
                    client.session.outbound.write = lambda _: None
                again = self.heart.connect(self.name(), traits=traits(client.session.sid))
                if listener.is_here:
                    client.leave()
                listener.note_rejection()
                listener.earlier, listener.client = listener.heard, again
                listener.is_here, listener.has_asked = True, False
                listener.position = [listener.start, *listener.earlier][-1]
            case "answer ping" if listener.is_here:
                client.answer_ping()
            case "ask" if listener.is_here and not listener.has_asked:
                request = after(("s", listener.position))
                client.say("history", listener.identifier, history=request)
                listener.has_asked = True

    def name(self) -> str:
        self.names += 1
        return f"client-{self.names}"

    async def finish(self) -> None:
        for listener in self.listeners:
            self.change(listener, "resume") if not listener.is_here else None
            self.change(listener, "ask")
        for _ in range(2 * len(self.listeners) + 2):
            await settle()
            if isinstance(self.history, SlowHistory):
                self.history.release()
        await settle(200)


ACTIONS = st.lists(
    st.tuples(
        st.sampled_from(
            [
                "publish",
                "publish",
                "turn",
                "enter",
                "enter later",
                "release",
                "cut",
                "resume",
                "ask",
                "tick",
                "answer ping",
            ]
        ),
        st.integers(0, 5),
    ),
    min_size=5,
    max_size=60,
)


@settings(max_examples=300)
@given(ACTIONS, st.booleans(), st.sampled_from([2, 5, 1000]))
def test_every_listener_receives_every_offset_once_in_order(
    actions: list[tuple[str, int]], is_elsewhere: bool, buffer_limit: int
) -> None:
    """Or is told that something is missing: when it asks too late, or more is published than is buffered."""

    async def play() -> None:
        history: History = slow_history() if is_elsewhere else local_history()
        world = World(history)
        for action, number in actions:
            await world.do(action, number)
        await world.finish()
        for listener in world.listeners:
            listener.note_rejection()
            expected = range(listener.start + 1, world.published + 1)
            if listener.was_rejected:
                assert listener.heard == sorted(set(listener.heard) & set(expected))
            else:
                assert listener.heard == list(expected)
        assert world.heart.hub.is_quiet(Stream("s"))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(hub, "TURN", 2)
        patch.setattr(detached, "BUFFER_LIMIT", buffer_limit)
        asyncio.run(play())
