"""Django sessions and users of a connection, by its cookie."""

from collections.abc import Iterator
from importlib import import_module
from typing import Any

import pytest
from django.conf import settings
from django.contrib.auth import HASH_SESSION_KEY
from django.contrib.auth.models import User
from django.contrib.sessions.models import Session
from django.test import Client, override_settings

from catenary import Cable, Connection
from catenary.channels.django.cable import in_django
from catenary.channels.testing import TestCable, TestConnection
from tests.channels.django.project.cable import Member, PlainMember, RoomChannel
from tests.channels.django.project.models import Room
from tests.parts.heart import in_loop


@pytest.fixture(params=[Member, PlainMember])
def cable(request: pytest.FixtureRequest) -> Iterator[TestCable]:
    kind: type[Connection] = request.param
    served = TestCable(Cable(connection=kind, channels=[RoomChannel], **in_django()))
    yield served
    served.close()


@pytest.fixture(autouse=True)
def ann() -> User:
    Room.objects.create(pk=1, name="den")
    return User.objects.create_user("ann", password="secret")


@pytest.fixture
def cookies() -> dict[str, str]:
    """The cookies of a browser in which Ann has logged in."""
    client = Client()
    assert client.get("/enter/ann").status_code == 200
    return {name: morsel.value for name, morsel in client.cookies.items()}


def come(cable: TestCable, cookies: dict[str, str]) -> TestConnection:
    found: list[TestConnection] = []

    @in_loop
    async def connect() -> None:
        found.append(await cable.connect(cookies=cookies))

    connect()
    return found[0]


def test_a_logged_in_user_is_accepted(cable: TestCable, cookies: dict[str, str], ann: User) -> None:
    assert come(cable, cookies).identifiers == {"user_id": ann.pk}


def test_an_anonymous_user_is_rejected(cable: TestCable, cookies: dict[str, str]) -> None:
    come(cable, {}).assert_rejected()
    come(cable, {"sessionid": ""}).assert_rejected()
    come(cable, {"sessionid": "x" * 32}).assert_rejected()
    come(cable, {"other": cookies["sessionid"]}).assert_rejected()
    Session.objects.all().delete()
    come(cable, cookies).assert_rejected()


def test_a_session_of_an_old_password_is_rejected_and_not_written(
    cable: TestCable, cookies: dict[str, str], ann: User
) -> None:
    ann.set_password("another")
    ann.save()
    come(cable, cookies).assert_rejected()
    assert Session.objects.count() == 1


def test_an_inactive_user_is_rejected(cable: TestCable, cookies: dict[str, str], ann: User) -> None:
    ann.is_active = False
    ann.save()
    come(cable, cookies).assert_rejected()


def test_a_session_signed_with_a_fallback_secret_keeps_its_key(
    cable: TestCable, cookies: dict[str, str]
) -> None:
    fallback = override_settings(SECRET_KEY="a new one", SECRET_KEY_FALLBACKS=["a key of tests"])
    with fallback:
        come(cable, cookies).assert_connected()
    assert [each.pk for each in Session.objects.all()] == [cookies["sessionid"]]


@pytest.mark.parametrize("engine", ["db", "signed_cookies", "file"])
@override_settings()
def test_the_session_is_read_in_plain_methods_and_in_coroutines(
    cable: TestCable, engine: str, tmp_path: Any
) -> None:
    settings.SESSION_ENGINE = f"django.contrib.sessions.backends.{engine}"
    settings.SESSION_FILE_PATH = str(tmp_path)
    client = Client()
    client.get("/enter/ann")
    assert HASH_SESSION_KEY in import_module(settings.SESSION_ENGINE).SessionStore(
        client.cookies["sessionid"].value
    )

    @in_loop
    async def read() -> None:
        connection = await cable.connect(cookies={"sessionid": client.cookies["sessionid"].value})
        room = await connection.subscribe(RoomChannel, id=1)
        for method in ("session", "plain_session"):
            await room.perform(method)
            room.assert_transmitted("of ann")

    read()


@in_loop
async def test_a_client_without_a_session_has_an_empty_one(cable: TestCable) -> None:
    connection = await cable.connect(user_id=7)
    room = await connection.subscribe(RoomChannel, id=1)
    await room.perform("session")
    room.assert_transmitted(None)
