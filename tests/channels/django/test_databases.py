"""Database connections around methods: opened on use, closed when they are old."""

import asyncio
from collections.abc import Iterator

import pytest
from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.signals import connection_created

from catenary import Cable
from catenary.channels.django.cable import in_django
from catenary.channels.django.connection import DjangoConnection
from catenary.channels.django.databases import ORM_THREADS
from catenary.channels.testing import TestCable, TestSubscription
from tests.channels.django.project.cable import RoomChannel, Use
from tests.channels.django.project.models import Room
from tests.parts.heart import in_loop

USES = RoomChannel.uses
METHODS = pytest.mark.parametrize("method", ["plainly", "later"])


@pytest.fixture(autouse=True)
def _room() -> Iterator[None]:
    Room.objects.create(pk=1, name="den")
    USES.clear()
    yield
    USES.clear()


@pytest.fixture
def cable() -> Iterator[TestCable]:
    # One thread for plain functions, so that the next call finds what the last one left there.
    served = TestCable(
        Cable(channels=[RoomChannel], connection=DjangoConnection, threads=1, **in_django())
    )
    yield served
    served.close()


@pytest.fixture
def ages(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Keeps connections for ten minutes."""
    monkeypatch.setitem(connections.settings["default"], "CONN_MAX_AGE", 600)
    opened: list[BaseDatabaseWrapper] = []

    def note(*, connection: BaseDatabaseWrapper, **_: object) -> None:
        opened.append(connection)

    connection_created.connect(note)
    yield
    connection_created.disconnect(note)
    for each in opened:
        # In a thread that will never close it, or that finds it too old.
        each.close_at = 0
        if each.connection is not None:
            each.connection.close()


async def in_room(cable: TestCable) -> TestSubscription:
    connection = await cable.connect()
    room = await connection.subscribe(RoomChannel, id=1)
    room.assert_confirmed()
    return room


async def uses(room: TestSubscription, method: str) -> Use:
    await room.perform(method)
    return USES[-1]


async def tidied(use: Use) -> None:
    """Waits until connections are closed, which happens after the call has returned."""
    async with asyncio.timeout(5):
        while use.wrapper.connection is not None:  # noqa: ASYNC110  (a thread closes it)
            await asyncio.sleep(0.001)


@METHODS
@in_loop
async def test_a_connection_is_closed_after_its_method(cable: TestCable, method: str) -> None:
    room = await in_room(cable)
    first = await uses(room, method)
    assert first.opened is not None
    await tidied(first)
    second = await uses(room, method)
    assert second.opened is not first.opened
    await tidied(second)


@METHODS
@pytest.mark.usefixtures("ages")
@in_loop
async def test_a_persistent_connection_is_reused_until_it_is_too_old(
    cable: TestCable, method: str
) -> None:
    room = await in_room(cable)
    first = await uses(room, method)
    second = await uses(room, method)
    assert second.opened is first.opened
    # Ten minutes later
    first.wrapper.close_at = 0
    third = await uses(room, method)
    assert third.wrapper is first.wrapper
    assert third.opened is not first.opened


@in_loop
async def test_coroutines_share_a_bounded_number_of_threads(cable: TestCable) -> None:
    rooms = [await in_room(cable) for _ in range(3 * ORM_THREADS)]
    await asyncio.gather(*(room.perform("later") for room in rooms))
    threads = {use.thread for use in USES}
    assert 1 < len(threads) <= ORM_THREADS
    for use in USES:
        await tidied(use)


@in_loop
async def test_a_coroutine_does_not_close_the_connection_of_another_in_its_thread(
    cable: TestCable,
) -> None:
    await Room.objects.abulk_create(Room(name=f"room {number}") for number in range(3))
    RoomChannel.gate = asyncio.Event()
    rooms = [await in_room(cable) for _ in range(ORM_THREADS)]
    walks = [asyncio.create_task(room.perform("walk")) for room in rooms]
    async with asyncio.timeout(5):
        while len(USES) < ORM_THREADS:  # noqa: ASYNC110  (threads fill it)
            await asyncio.sleep(0.001)
    # Begins and ends while they read.
    await rooms[0].perform("later")
    RoomChannel.gate.set()
    await asyncio.gather(*walks)
    for room in rooms:
        room.assert_transmitted(4)
    for use in USES:
        await tidied(use)
