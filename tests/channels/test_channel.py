"""What channel classes declare and do, served to a test without a server."""

import asyncio
import contextlib
import json
import logging
import threading
from collections.abc import Awaitable, Iterator
from functools import cached_property
from typing import Annotated, Any, ClassVar

import msgspec
import pytest

from catenary import Cable, Channel, Connection, action, callback, rescue_from
from catenary.channels.errors import (
    DeclarationError,
    InvalidArguments,
    NotHosted,
    RateLimited,
    UnknownAction,
)
from catenary.channels.testing import TestCable
from catenary.errors import BackendError
from catenary.messages.decisions import Decision
from catenary.messages.environment import Environment
from catenary.messages.names import Identifier, Sid
from catenary.messages.replies import Delivery
from tests.parts.heart import in_loop
from tests.parts.ports import free_port


class User(Connection):
    identified_by = ("user_id",)
    user_id: int
    seen: int = Connection.state(0)


class Room(Channel[User]):
    id: int
    topic: Annotated[str, msgspec.Meta(max_length=5)] = "news"
    muted: bool = Channel.state(False)
    words: list[str] = Channel.state(default_factory=list[str])

    @cached_property
    def title(self) -> str:
        return f"{self.topic} {self.id}"

    async def subscribed(self) -> None:
        if self.id == 0:
            self.reject()
        if self.id < 0:
            raise ArithmeticError("negative")
        self.stream_for(self.id, whisper=True)
        self.join_presence(id=self.connection.user_id, info={"topic": self.topic})
        self.transmit({"hello": self.title})

    @action
    async def say(self, text: str, reply_to: int | None = None) -> None:
        await self.broadcast_to(self.id, {"text": text, "reply_to": reply_to}, to_others=True)

    @action
    def say_slowly(self, text: str) -> None:
        self.transmit(threading.current_thread().name)
        self.broadcast_to(self.id, {"text": text})

    @action
    async def mute(self, *, on: bool = True) -> None:
        self.muted = on
        self.connection.seen += 1

    @action
    async def add(self, word: str) -> None:
        self.words.append(word)

    @action
    async def tell(self) -> None:
        self.transmit([self.muted, self.words, self.connection.seen, self.connection.user_id])

    @action
    async def anything(self, first: int, **rest: Any) -> None:
        self.transmit({"first": first, "rest": rest})

    @action
    async def receive(self, text: str) -> None:
        self.transmit(f"received {text}")

    @action
    async def follow(self, stream: str) -> None:
        self.stream_from(stream)

    @action
    async def unfollow(self, stream: str) -> None:
        self.stop_stream_from(stream)

    @action
    async def unfollow_all(self) -> None:
        self.stop_all_streams()
        self.stream_from("last")

    @action
    async def hide(self) -> None:
        self.leave_presence()

    @action
    async def bye(self) -> None:
        self.transmit("bye")
        self.connection.close()

    @action
    async def break_down(self) -> None:
        self.muted = True
        self.transmit("never heard")
        raise ZeroDivisionError("on purpose")

    async def secret(self) -> None:
        self.transmit("secret")


@pytest.fixture
def cable() -> Iterator[TestCable]:
    served = TestCable(Cable(connection=User, channels=[Room]))
    yield served
    served.close()


# Subscriptions


@in_loop
async def test_params_are_there_in_every_call(cable: TestCable) -> None:
    room = await (await cable.connect(user_id=1)).subscribe(Room, id=42)
    room.assert_confirmed()
    room.assert_has_stream_for(42)
    assert room.messages == [{"hello": "news 42"}]
    with cable.assert_broadcast_to(42, {"text": "hi", "reply_to": None}):
        await room.perform("say", text="hi")


@pytest.mark.parametrize(
    "params", [{}, {"id": "42"}, {"id": None}, {"id": 1, "topic": "too long"}, {"id": 0}]
)
def test_a_subscription_is_rejected(
    cable: TestCable, params: dict[str, object], caplog: pytest.LogCaptureFixture
) -> None:
    @in_loop
    async def scenario() -> None:
        connection = await cable.connect(user_id=1)
        room = await connection.subscribe(Room, **params)
        room.assert_rejected()
        room.assert_has_no_streams()
        assert (room.messages, cable.members, connection.subscriptions) == ([], {}, {})

    scenario()
    if params != {"id": 0}:
        assert "sid=sid-1 Rejected a subscription to " in caplog.text


@pytest.mark.parametrize(
    "identifier", ["", "{", "[]", '{"channel":"Other"}', '{"channel":1}', '"Room"', "[" * 9999]
)
def test_what_names_no_channel_is_rejected(cable: TestCable, identifier: str) -> None:
    environment = _environment(1)
    decision = cable.cable.application.subscribe(environment, Identifier(identifier))
    assert isinstance(decision, Decision)
    assert [type(each).__name__ for each in decision.replies] == ["Rejected"]
    performed = cable.cable.application.perform(environment, Identifier(identifier), "{}")
    assert isinstance(performed, Decision)
    assert performed.error


@in_loop
async def test_params_and_arguments_are_read_as_json_parse_reads_them(cable: TestCable) -> None:
    """Half of a surrogate pair and large numbers are; what is too deep to be made is told."""
    room = Identifier('{"channel":"Room","id":1,"topic":"a\\ud83c"}')
    subscribed = await decided(cable.cable.application.subscribe(_environment(1), room))
    assert last_message(subscribed) == {"hello": "a\ufffd 1"}
    data = '{"action":"anything","first":1,"half":"\\ud83c","large":[1e400]}'
    performed = await decided(cable.cable.application.perform(_environment(1), room, data))
    assert last_message(performed)["rest"] == {"half": "\ufffd", "large": [None]}
    deep = '{"action":"anything","first":1,"deep":' + "[" * 5_000 + "]" * 5_000 + "}"
    refused = await decided(cable.cable.application.perform(_environment(1), room, deep))
    assert "depth" in refused.error


def last_message(decision: Decision) -> Any:
    """The last message to the client."""
    answer = decision.replies[-1]
    assert isinstance(answer, Delivery)
    return json.loads(answer.message)


async def decided(decision: Decision | Awaitable[Decision]) -> Decision:
    return decision if isinstance(decision, Decision) else await decision


@in_loop
async def test_what_subscribed_raises_rejects_and_is_logged(cable: TestCable) -> None:
    connection = await cable.connect(user_id=1)
    with pytest.raises(ArithmeticError):
        await connection.subscribe(Room, id=-1)
    assert not connection.subscriptions


@in_loop
async def test_a_no_is_a_no_although_the_method_catches_everything() -> None:
    class Hesitant(Connection):
        async def connect(self) -> None:
            with contextlib.suppress(Exception):
                if "no" in self.request.params:
                    self.reject_unauthorized_connection()

    class Door(Channel[Hesitant]):
        async def subscribed(self) -> None:
            with contextlib.suppress(Exception):
                self.reject()
            self.stream_from("door")

    cable = TestCable(Cable(connection=Hesitant, channels=[Door]))
    (await cable.connect("ws://test/cable?no=1")).assert_rejected()
    door = await (await cable.connect()).subscribe(Door)
    door.assert_rejected()
    door.assert_has_no_streams()
    cable.close()


# Actions


@in_loop
async def test_arguments_are_checked_before_the_action_runs(cable: TestCable) -> None:
    room = await (await cable.connect(user_id=1)).subscribe(Room, id=1)
    with cable.assert_no_broadcasts():
        for wrong in ({}, {"text": 1}, {"text": "x", "reply_to": "y"}):
            with pytest.raises(InvalidArguments, match=r"Room\.say"):
                await room.perform("say", **wrong)
    with cable.assert_broadcast_to(1, {"text": "x", "reply_to": 7}):
        await room.perform("say", text="x", reply_to=7, unknown=1)


@pytest.mark.parametrize(
    "name", ["secret", "subscribed", "reject", "transmit", "__init__", "", "$every:", "nobody"]
)
def test_only_what_is_marked_can_be_called(cable: TestCable, name: str) -> None:
    @in_loop
    async def scenario() -> None:
        room = await (await cable.connect(user_id=1)).subscribe(Room, id=1)
        with pytest.raises(UnknownAction):
            await room.perform(name)
        assert room.messages == [{"hello": "news 1"}]

    scenario()


@in_loop
async def test_data_that_is_no_call_performs_nothing(cable: TestCable) -> None:
    room = await (await cable.connect(user_id=1)).subscribe(Room, id=1)
    before = list(room.messages)
    for data in ("", "{", "[]", "null", '{"action":1}', '{"action":null}', "[" * 9999):
        await room.carry_out("?", data)
    assert room.messages == before


@in_loop
async def test_a_client_that_names_no_action_calls_receive(cable: TestCable) -> None:
    room = await (await cable.connect(user_id=1)).subscribe(Room, id=1)
    await room.carry_out("receive", '{"text":"x"}')
    room.assert_transmitted("received x")


@in_loop
async def test_an_action_may_take_whatever_comes(cable: TestCable) -> None:
    room = await (await cable.connect(user_id=1)).subscribe(Room, id=1)
    await room.perform("anything", first=1, second={"deep": [1]})
    room.assert_transmitted({"first": 1, "rest": {"second": {"deep": [1]}}})
    with pytest.raises(InvalidArguments):
        await room.perform("anything", first="1")


@in_loop
async def test_a_broadcast_to_others_leaves_its_author_out(cable: TestCable) -> None:
    jack = await (await cable.connect(user_id=1)).subscribe(Room, id=1)
    jill = await (await cable.connect(user_id=2)).subscribe(Room, id=1)
    await jack.perform("say", text="hi")
    jill.assert_transmitted({"text": "hi", "reply_to": None})
    assert jack.messages == [{"hello": "news 1"}]


@in_loop
async def test_plain_functions_run_in_threads_and_can_do_the_same(cable: TestCable) -> None:
    room = await (await cable.connect(user_id=1)).subscribe(Room, id=1)
    with cable.assert_broadcast_to(1, {"text": "hi"}):
        await room.perform("say_slowly", text="hi")
    assert any(str(each).startswith("catenary-channel") for each in room.messages)


@in_loop
async def test_what_an_action_raises_costs_this_call_alone(
    cable: TestCable,
) -> None:
    room = await (await cable.connect(user_id=1)).subscribe(Room, id=1)
    with pytest.raises(ZeroDivisionError):
        await room.perform("break_down")
    await room.perform("tell")
    assert room.messages == [{"hello": "news 1"}, [False, [], 0, 1]]


def test_what_fails_is_logged_with_sid_name_and_traceback(
    cable: TestCable, caplog: pytest.LogCaptureFixture
) -> None:
    @in_loop
    async def scenario() -> None:
        room = await (await cable.connect(user_id=1)).subscribe(Room, id=1)
        with pytest.raises(ZeroDivisionError):
            await room.perform("break_down")

    scenario()
    (record,) = [each for each in caplog.records if each.levelno == logging.ERROR]
    assert record.getMessage() == "sid=sid-1 Room.break_down failed"
    assert record.exc_info is not None
    assert "on purpose" in caplog.text
    assert cable.cable.application.failed_total == 1


# State


@in_loop
async def test_declared_state_survives_and_can_be_changed_in_place(cable: TestCable) -> None:
    connection = await cable.connect(user_id=7)
    room = await connection.subscribe(Room, id=1)
    other = await connection.subscribe(Room, id=2)
    await room.perform("mute")
    await room.perform("add", word="a")
    await room.perform("add", word="b")
    await other.perform("mute")
    await room.perform("tell")
    await other.perform("tell")
    assert room.messages[-1] == [True, ["a", "b"], 2, 7]
    assert other.messages[-1] == [True, [], 2, 7], "each subscription has a state of its own"


@in_loop
async def test_what_is_as_it_was_in_the_beginning_is_not_kept(cable: TestCable) -> None:
    connection = await cable.connect(user_id=7)
    room = await connection.subscribe(Room, id=1)
    await room.perform("tell")
    assert set(connection.environment.istate_of(room.identifier)) == {"$w", "$p"}
    await room.perform("mute")
    assert connection.environment.istate_of(room.identifier)["muted"] == "true"
    await room.perform("mute", on=False)
    assert set(connection.environment.istate_of(room.identifier)) == {"$w", "$p"}


@in_loop
async def test_other_attributes_can_not_be_set() -> None:
    class Forgetful(Channel):
        id: int

        async def subscribed(self) -> None:
            self.room = 1

        @action
        async def change_param(self) -> None:
            self.id = 2

    cable = TestCable(Cable(channels=[Forgetful]))
    connection = await cable.connect()
    with pytest.raises(AttributeError, match=r"Forgetful\.room would be gone after this call"):
        await connection.subscribe(Forgetful, id=1)
    cable.close()


def test_state_of_another_type_is_an_error_not_a_guess(cable: TestCable) -> None:
    @in_loop
    async def scenario() -> None:
        connection = await cable.connect(user_id=7)
        room = await connection.subscribe(Room, id=1)
        connection.environment.merge_istate(room.identifier, {"muted": '"yes"'})
        with pytest.raises(TypeError, match=r"Room\.muted: what is kept is of another type"):
            await room.perform("tell")

    scenario()


# Streams, presence, the end


@in_loop
async def test_streams_come_and_go(cable: TestCable) -> None:
    room = await (await cable.connect(user_id=1)).subscribe(Room, id=1)
    await room.perform("follow", stream="extra")
    assert room.streams == {"Room:1", "extra"}
    await room.perform("unfollow", stream="Room:1")
    assert room.streams == {"extra"}
    await room.perform("unfollow_all")
    assert room.streams == {"last"}


@in_loop
async def test_whispers_go_to_others_until_the_stream_stops(cable: TestCable) -> None:
    jack = await (await cable.connect(user_id=1)).subscribe(Room, id=1)
    jill = await (await cable.connect(user_id=2)).subscribe(Room, id=1)
    jack.whisper({"typing": True})
    jill.assert_transmitted({"typing": True})
    assert {"typing": True} not in jack.messages
    await jack.perform("unfollow", stream="Room:1")
    await jack.perform("follow", stream="Room:1")
    await jill.perform("unfollow_all")
    for each in (jack, jill):
        each.whisper({"typing": False})
    assert not [each for each in (*jack.messages, *jill.messages) if each == {"typing": False}]


@in_loop
async def test_members_come_and_go(cable: TestCable) -> None:
    first = await cable.connect(user_id=1)
    room = await first.subscribe(Room, id=1)
    other = await (await cable.connect(user_id=2)).subscribe(Room, id=1)
    assert await room.presence() == {"1": {"topic": "news"}, "2": {"topic": "news"}}
    await other.perform("hide")
    assert await room.presence() == {"1": {"topic": "news"}}
    await first.disconnect()
    assert await other.presence() == {}


@in_loop
async def test_an_action_may_end_the_connection(cable: TestCable) -> None:
    connection = await cable.connect(user_id=1)
    room = await connection.subscribe(Room, id=1)
    await room.perform("bye")
    room.assert_transmitted("bye")
    assert not connection.is_open


# Callbacks, and the story of a subscription


class Story(Channel[User]):
    told: list[str] = Channel.state(default_factory=list[str])
    heard: ClassVar[list[str]] = []

    @callback.before_subscribe
    async def check(self) -> None:
        self.heard.append("before")
        if self.params.get("refuse"):
            self.reject()

    async def subscribed(self) -> None:
        self.heard.append("subscribed")

    @callback.after_subscribe
    def note(self) -> None:
        self.heard.append("after")

    async def restored(self) -> None:
        self.heard.append("restored")

    async def unsubscribed(self) -> None:
        await asyncio.sleep(0)
        self.heard.append("unsubscribed")

    @callback.after_unsubscribe
    async def sweep(self) -> None:
        self.heard.append("swept")


class Watched(User):
    log: ClassVar[list[str]] = []

    @callback.before_command
    async def guard(self) -> None:
        self.log.append("command")
        if self.user_id == 13:
            self.close()
            self.reject_unauthorized_connection()

    async def disconnect(self) -> None:
        self.log.append(f"gone {self.user_id}")


@pytest.fixture
def stories() -> Iterator[TestCable]:
    Story.heard.clear()
    Watched.log.clear()
    served = TestCable(Cable(connection=Watched, channels=[Story]))
    yield served
    served.close()


@in_loop
async def test_the_story_of_a_subscription(stories: TestCable) -> None:
    connection = await stories.connect(user_id=1)
    story = await connection.subscribe(Story)
    await connection.drop()
    await connection.resume()
    await story.unsubscribe()
    await connection.disconnect()
    told = ["before", "subscribed", "after", "restored", "unsubscribed", "swept"]
    assert Story.heard == told
    assert story.calls == ["subscribed", "restored", "unsubscribed"]
    assert Watched.log == ["command"] * 2 + ["gone 1"]


@in_loop
async def test_the_end_of_a_session_ends_its_subscriptions_once(stories: TestCable) -> None:
    connection = await stories.connect(user_id=1)
    await connection.subscribe(Story)
    await connection.subscribe(Story, second=True)
    await connection.disconnect()
    assert Story.heard.count("unsubscribed") == 2
    assert Watched.log[-1] == "gone 1"


@in_loop
async def test_who_was_rejected_is_not_told_of_an_end(stories: TestCable) -> None:
    connection = await stories.connect(user_id=1)
    story = await connection.subscribe(Story, refuse=True)
    story.assert_rejected()
    await connection.disconnect()
    assert Story.heard == ["before"]


@in_loop
async def test_a_connection_may_refuse_every_command(stories: TestCable) -> None:
    connection = await stories.connect(user_id=13)
    story = await connection.subscribe(Story)
    story.assert_rejected()
    assert not connection.is_open
    assert Story.heard == []


@in_loop
async def test_nobody_may_refuse_that_something_ends(stories: TestCable) -> None:
    connection = await stories.connect(user_id=1)
    story = await connection.subscribe(Story)
    connection.environment.identifiers = '{"user_id":13}'
    await connection.disconnect()
    assert Story.heard[-2:] == ["unsubscribed", "swept"]
    story.assert_confirmed()


# Errors that are answered for


class Careful(Channel[User]):
    @action
    async def divide(self, by: int) -> None:
        self.transmit(1 // by)

    @action(rate="2/m")
    async def seldom(self) -> None:
        self.transmit("done")

    @action
    async def look_up(self, key: str) -> None:
        raise KeyError(key)

    async def subscribed(self) -> None:
        if self.params.get("zero"):
            self.transmit(1 // 0)

    @rescue_from(Exception)
    async def anything_else(self, error: Exception) -> None:
        self.transmit({"error": type(error).__name__})

    @rescue_from(ZeroDivisionError, RateLimited)
    async def known(self, error: Exception) -> None:
        self.transmit({"known": type(error).__name__})


@in_loop
async def test_the_last_handler_that_fits_answers() -> None:
    cable = TestCable(Cable(connection=User, channels=[Careful]))
    careful = await (await cable.connect(user_id=1)).subscribe(Careful)
    await careful.perform("divide", by=0)
    await careful.perform("look_up", key="x")
    await careful.perform("divide", by="x")
    await careful.perform("nobody")
    for _ in range(3):
        await careful.perform("seldom")
    assert careful.messages == [
        {"known": "ZeroDivisionError"},
        {"error": "KeyError"},
        {"error": "InvalidArguments"},
        {"error": "UnknownAction"},
        "done",
        "done",
        {"known": "RateLimited"},
    ]
    assert cable.cable.application.failed_total == 0
    assert cable.cable.application.limited_total == 1
    cable.close()


@in_loop
async def test_a_subscription_whose_error_was_rescued_is_rejected_all_the_same() -> None:
    cable = TestCable(Cable(connection=User, channels=[Careful]))
    careful = await (await cable.connect(user_id=1)).subscribe(Careful, zero=True)
    careful.assert_rejected()
    careful.assert_transmitted({"known": "ZeroDivisionError"})
    cable.close()


@in_loop
async def test_a_connection_answers_for_its_channels() -> None:
    class Patient(User):
        @rescue_from(LookupError)
        def lookup(self, error: LookupError) -> None:
            heard.append(str(error))

    class Loose(Channel[Patient]):
        @action
        async def look_up(self) -> None:
            raise KeyError("x")

    heard: list[str] = []
    cable = TestCable(Cable(connection=Patient, channels=[Loose]))
    loose = await (await cable.connect(user_id=1)).subscribe(Loose)
    await loose.perform("look_up")
    assert heard == ["'x'"]
    cable.close()


# Rates


@in_loop
async def test_a_rate_of_a_channel_counts_all_its_actions_together() -> None:
    class Busy(Channel[User], rate="3/s"):
        @action
        async def one(self) -> None: ...

        @action(rate="1/s")
        async def other(self) -> None: ...

    now = [100.0]
    cable = TestCable(Cable(connection=User, channels=[Busy], clock=lambda: now[0]))
    connection = await cable.connect(user_id=1)
    busy, second = await connection.subscribe(Busy), await connection.subscribe(Busy, two=2)
    await busy.perform("one")
    await busy.perform("other")
    with pytest.raises(RateLimited, match=r"Busy\.other: expected at most 1 in 1 s, got more"):
        await busy.perform("other")
    with pytest.raises(RateLimited, match=r"Busy: expected at most 3 in 1 s, got more"):
        await busy.perform("one")
    await second.perform("other")
    now[0] += 1
    await busy.perform("other")
    cable.close()


# Declarations that make no sense


def test_classes_that_can_not_be_served_are_refused_when_the_cable_is_built() -> None:
    class Guest(Connection): ...

    class Strange(Channel):
        id: threading.Thread

    class Taken(Channel):
        transmit: int  # type: ignore[assignment]

    class Unreadable(Channel):
        @action
        async def lend(self, thread: threading.Thread) -> None: ...

    class Positional(Channel):
        @action
        async def lend(self, *args: int) -> None: ...

    class TooOften(Channel):
        @action(rate="often")
        async def lend(self) -> None: ...

    class Deaf(Channel):
        @rescue_from(ValueError)
        async def rescue(self) -> None: ...

    for kind in (Strange, Taken, Unreadable, Positional, TooOften, Deaf):
        with pytest.raises(DeclarationError):
            Cable(channels=[kind])
    with pytest.raises(DeclarationError, match="expected connections of User, the cable has Guest"):
        Cable(connection=Guest, channels=[Room])
    with pytest.raises(DeclarationError, match="different names"):
        Cable(connection=User, channels=[Room, Room])
    with pytest.raises(TypeError, match="default_factory=list"):
        Channel.state([])


@in_loop
async def test_a_channel_may_have_another_name_for_clients() -> None:
    class Quiet(Channel, name="quiet"):
        async def subscribed(self) -> None:
            self.stream_for(1)

    cable = TestCable(Cable(channels=[Quiet]))
    quiet = await (await cable.connect()).subscribe("quiet")
    quiet.assert_has_stream("quiet:1")
    cable.close()


def test_nobody_publishes_for_a_cable_that_is_not_served(monkeypatch: pytest.MonkeyPatch) -> None:
    class Lonely(Channel): ...

    with pytest.raises(NotHosted, match="expected a cable that serves Lonely"):
        Lonely.broadcast_to(1, "x")
    cable = Cable(channels=[Lonely])
    monkeypatch.setenv("ANYCABLE_HTTP_BROADCAST_URL", url := f"http://127.0.0.1:{free_port()}/b")
    with pytest.raises(BackendError, match=f"nobody takes broadcasts at {url}"):
        Lonely.broadcast_to(1, "x")
    cable.application.release()
    with pytest.raises(TypeError, match="to_others"):
        cable.broadcast("chat", "x", to_others=True)


def _environment(user_id: int) -> Environment:
    return Environment(Sid("s1"), "", {}, f'{{"user_id":{user_id}}}')
