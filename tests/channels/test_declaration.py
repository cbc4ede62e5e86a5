"""Classes that can be served, and those that are refused."""

import threading

import pytest

from catenary import Cable, Channel, Connection, action, rescue_from
from catenary.channels.errors import (
    DeclarationError,
)
from catenary.channels.testing import TestCable
from tests.channels.room import Room, User
from tests.parts.heart import in_loop


def test_classes_that_can_not_be_served_are_refused_when_the_cable_is_built() -> None:
    class Guest(Connection): ...

    class Strange(Channel):
        id: threading.Thread

    class Reserved(Channel):
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

    for kind in (Strange, Reserved, Unreadable, Positional, TooOften, Deaf):
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
