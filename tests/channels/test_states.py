"""State of channels and connections: attributes that survive between calls."""

import pytest

from catenary import Cable, Channel, action
from catenary.channels.testing import TestCable
from tests.channels.room import Room
from tests.parts.heart import in_loop


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
async def test_state_that_equals_its_default_is_not_stored(cable: TestCable) -> None:
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


def test_stored_state_of_another_type_is_an_error(cable: TestCable) -> None:
    @in_loop
    async def scenario() -> None:
        connection = await cable.connect(user_id=7)
        room = await connection.subscribe(Room, id=1)
        connection.environment.merge_istate(room.identifier, {"muted": '"yes"'})
        with pytest.raises(TypeError, match=r"Room\.muted: the stored value has another type"):
            await room.perform("tell")

    scenario()
