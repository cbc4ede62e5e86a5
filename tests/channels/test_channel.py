"""Subscriptions, actions, streams and presence of channels, in a test without a server."""

import contextlib
import json
from typing import Any

import pytest

from catenary import Cable, Channel, Connection
from catenary.channels.errors import (
    InvalidArguments,
    UnknownAction,
)
from catenary.channels.testing import TestCable
from catenary.messages.decisions import Decision
from catenary.messages.environment import Environment
from catenary.messages.names import Identifier
from catenary.messages.replies import Delivery
from tests.channels.direct_calls import (
    decided,
    environment,
)
from tests.channels.room import Room
from tests.parts.heart import in_loop


@in_loop
async def test_params_are_set_in_every_call(cable: TestCable) -> None:
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


@pytest.mark.parametrize(
    "identifier", ["", "{", "[]", '{"channel":"Other"}', '{"channel":1}', '"Room"', "[" * 9999]
)
def test_an_identifier_that_names_no_channel_is_rejected(cable: TestCable, identifier: str) -> None:
    environment = _environment(1)
    decision = cable.cable.application.subscribe(environment, Identifier(identifier))
    assert isinstance(decision, Decision)
    assert [type(each).__name__ for each in decision.replies] == ["Rejected"]
    performed = cable.cable.application.perform(environment, Identifier(identifier), "{}")
    assert isinstance(performed, Decision)
    assert performed.error


def last_message(decision: Decision) -> Any:
    """The last message to the client."""
    answer = decision.replies[-1]
    assert isinstance(answer, Delivery)
    return json.loads(answer.message)


@in_loop
async def test_params_and_arguments_are_read_as_json_parse_reads_them(cable: TestCable) -> None:
    """Half of a surrogate pair and large numbers are accepted; what is nested too deeply is refused."""
    room = Identifier('{"channel":"Room","id":1,"topic":"a\\ud83c"}')
    subscribed = await decided(cable.cable.application.subscribe(_environment(1), room))
    assert last_message(subscribed) == {"hello": "a\ufffd 1"}
    data = '{"action":"anything","first":1,"half":"\\ud83c","large":[1e400]}'
    performed = await decided(cable.cable.application.perform(_environment(1), room, data))
    assert last_message(performed)["rest"] == {"half": "\ufffd", "large": [None]}
    deep = '{"action":"anything","first":1,"deep":' + "[" * 300_000 + "]" * 300_000 + "}"
    refused = await decided(cable.cable.application.perform(_environment(1), room, deep))
    assert "depth" in refused.error


@in_loop
async def test_an_exception_in_subscribed_rejects(cable: TestCable) -> None:
    connection = await cable.connect(user_id=1)
    with pytest.raises(ArithmeticError):
        await connection.subscribe(Room, id=-1)
    assert not connection.subscriptions


@in_loop
async def test_a_rejection_stands_even_if_the_method_catches_its_exception() -> None:
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
    "name", ["secret", "subscribed", "reject", "transmit", "__init__", "", "$every:", "unknown"]
)
def test_only_actions_can_be_called(cable: TestCable, name: str) -> None:
    @in_loop
    async def scenario() -> None:
        room = await (await cable.connect(user_id=1)).subscribe(Room, id=1)
        with pytest.raises(UnknownAction):
            await room.perform(name)
        assert room.messages == [{"hello": "news 1"}]

    scenario()


@in_loop
async def test_data_that_names_no_action_performs_nothing(cable: TestCable) -> None:
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
async def test_an_action_may_take_any_arguments(cable: TestCable) -> None:
    room = await (await cable.connect(user_id=1)).subscribe(Room, id=1)
    await room.perform("anything", first=1, second={"deep": [1]})
    room.assert_transmitted({"first": 1, "rest": {"second": {"deep": [1]}}})
    with pytest.raises(InvalidArguments):
        await room.perform("anything", first="1")


@in_loop
async def test_to_others_excludes_the_caller(cable: TestCable) -> None:
    jack = await (await cable.connect(user_id=1)).subscribe(Room, id=1)
    jill = await (await cable.connect(user_id=2)).subscribe(Room, id=1)
    await jack.perform("say", text="hi")
    jill.assert_transmitted({"text": "hi", "reply_to": None})
    assert jack.messages == [{"hello": "news 1"}]


@in_loop
async def test_plain_methods_run_in_threads(cable: TestCable) -> None:
    room = await (await cable.connect(user_id=1)).subscribe(Room, id=1)
    with cable.assert_broadcast_to(1, {"text": "hi"}):
        await room.perform("say_slowly", text="hi")
    assert any(str(each).startswith("catenary-channel") for each in room.messages)


@in_loop
async def test_streams_start_and_stop(cable: TestCable) -> None:
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
async def test_members_join_and_leave(cable: TestCable) -> None:
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


def _environment(user_id: int) -> Environment:
    return environment(identifiers=f'{{"user_id":{user_id}}}')
