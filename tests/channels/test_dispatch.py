"""The order in which the methods of a call run, and which of them answers an exception."""

import asyncio
from collections.abc import Iterator
from typing import ClassVar

import pytest

from catenary import Cable, Channel, action, callback, rescue_from
from catenary.channels.errors import (
    RateLimited,
)
from catenary.channels.testing import TestCable
from tests.channels.room import User
from tests.parts.heart import in_loop


class Story(Channel[User]):
    unused: list[str] = Channel.state(default_factory=list[str])
    noted: ClassVar[list[str]] = []

    @callback.before_subscribe
    async def check(self) -> None:
        self.noted.append("before")
        if self.params.get("refuse"):
            self.reject()

    async def subscribed(self) -> None:
        self.noted.append("subscribed")

    @callback.after_subscribe
    def note(self) -> None:
        self.noted.append("after")

    async def restored(self) -> None:
        self.noted.append("restored")

    async def unsubscribed(self) -> None:
        await asyncio.sleep(0)
        self.noted.append("unsubscribed")

    @callback.after_unsubscribe
    async def sweep(self) -> None:
        self.noted.append("swept")


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
    Story.noted.clear()
    Watched.log.clear()
    served = TestCable(Cable(connection=Watched, channels=[Story]))
    yield served
    served.close()


@in_loop
async def test_the_order_of_callbacks_in_the_life_of_a_subscription(stories: TestCable) -> None:
    connection = await stories.connect(user_id=1)
    story = await connection.subscribe(Story)
    await connection.drop()
    await connection.resume()
    await story.unsubscribe()
    await connection.disconnect()
    expected = ["before", "subscribed", "after", "restored", "unsubscribed", "swept"]
    assert Story.noted == expected
    assert story.calls == ["subscribed", "restored", "unsubscribed"]
    assert Watched.log == ["command"] * 2 + ["gone 1"]


@in_loop
async def test_the_end_of_a_session_ends_its_subscriptions_once(stories: TestCable) -> None:
    connection = await stories.connect(user_id=1)
    await connection.subscribe(Story)
    await connection.subscribe(Story, second=True)
    await connection.disconnect()
    assert Story.noted.count("unsubscribed") == 2
    assert Watched.log[-1] == "gone 1"


@in_loop
async def test_a_rejected_subscription_has_no_end(stories: TestCable) -> None:
    connection = await stories.connect(user_id=1)
    story = await connection.subscribe(Story, refuse=True)
    story.assert_rejected()
    await connection.disconnect()
    assert Story.noted == ["before"]


@in_loop
async def test_before_command_may_refuse_every_command(stories: TestCable) -> None:
    connection = await stories.connect(user_id=13)
    story = await connection.subscribe(Story)
    story.assert_rejected()
    assert not connection.is_open
    assert Story.noted == []


@in_loop
async def test_before_command_does_not_run_before_ends(stories: TestCable) -> None:
    connection = await stories.connect(user_id=1)
    story = await connection.subscribe(Story)
    connection.environment.identifiers = '{"user_id":13}'
    await connection.disconnect()
    assert Story.noted[-2:] == ["unsubscribed", "swept"]
    story.assert_confirmed()


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
async def test_the_last_matching_rescuer_runs() -> None:
    cable = TestCable(Cable(connection=User, channels=[Careful]))
    careful = await (await cable.connect(user_id=1)).subscribe(Careful)
    await careful.perform("divide", by=0)
    await careful.perform("look_up", key="x")
    await careful.perform("divide", by="x")
    await careful.perform("unknown")
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
async def test_a_rescued_error_in_subscribed_still_rejects() -> None:
    cable = TestCable(Cable(connection=User, channels=[Careful]))
    careful = await (await cable.connect(user_id=1)).subscribe(Careful, zero=True)
    careful.assert_rejected()
    careful.assert_transmitted({"known": "ZeroDivisionError"})
    cable.close()


@in_loop
async def test_a_rescuer_of_the_connection_serves_its_channels() -> None:
    class Patient(User):
        @rescue_from(LookupError)
        def lookup(self, error: LookupError) -> None:
            noted.append(str(error))

    class Loose(Channel[Patient]):
        @action
        async def look_up(self) -> None:
            raise KeyError("x")

    noted: list[str] = []
    cable = TestCable(Cable(connection=Patient, channels=[Loose]))
    loose = await (await cable.connect(user_id=1)).subscribe(Loose)
    await loose.perform("look_up")
    assert noted == ["'x'"]
    cable.close()
