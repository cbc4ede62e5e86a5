"""Connections: requests, identifiers, rejections."""

import logging
from uuid import UUID

import pytest

from catenary import Cable, Channel, Connection, action, rescue_from
from catenary.channels.connection import Request
from catenary.channels.testing import TestCable
from catenary.messages.environment import Environment
from catenary.messages.names import Sid
from tests.parts.heart import in_loop


class User(Connection):
    identified_by = ("user_id", "tab")
    user_id: UUID
    tab: str | None

    def connect(self) -> None:
        if "break" in self.request.params:
            raise OSError("no database")
        if "forget" in self.request.params:
            self.tab = None
            return
        if "user" not in self.request.cookies:
            self.reject_unauthorized_connection()
        self.user_id = UUID(self.request.cookies["user"])
        self.tab = self.request.params.get("tab")


class Whoami(Channel[User]):
    @action
    async def tell(self) -> None:
        assert isinstance(self.connection.user_id, UUID)
        self.transmit([self.connection.user_id, self.connection.tab])

    @action
    async def become(self) -> None:
        self.connection.tab = "other"


WHOAMI = Cable(connection=User, channels=[Whoami])
JACK = str(UUID(int=7))


@in_loop
async def test_identifiers_come_from_the_request_and_keep_their_types() -> None:
    cable = TestCable(WHOAMI)
    connection = await cable.connect("ws://test/cable?tab=a%20b", cookies={"user": JACK})
    connection.assert_connected()
    assert connection.identifiers == {"user_id": JACK, "tab": "a b"}
    channel = await connection.subscribe(Whoami)
    await channel.perform("tell")
    channel.assert_transmitted([JACK, "a b"])
    with pytest.raises(AttributeError, match="identifiers can be set in connect only"):
        await channel.perform("become")
    cable.close()


@in_loop
async def test_a_rejected_client_is_told_not_to_reconnect() -> None:
    cable = TestCable(WHOAMI)
    connection = await cable.connect()
    connection.assert_rejected()
    assert connection.may_reconnect is False
    assert connection.identifiers == {}
    cable.close()


def test_an_exception_in_connect_is_logged_and_rejects(
    caplog: pytest.LogCaptureFixture,
) -> None:
    @in_loop
    async def scenario() -> None:
        cable = TestCable(WHOAMI)
        with pytest.raises(OSError, match="no database"):
            await cable.connect("ws://test/cable?break=1")
        with pytest.raises(TypeError, match=r"User\.connect: expected user_id to be set"):
            await cable.connect("ws://test/cable?forget=1")
        assert cable.connections == []
        cable.close()

    scenario()
    assert [each.levelno for each in caplog.records] == [logging.ERROR] * 2


@in_loop
async def test_a_rescued_exception_in_connect_still_rejects() -> None:
    class Open(Connection):
        async def connect(self) -> None:
            raise LookupError

        @rescue_from(LookupError)
        async def unknown(self, error: LookupError) -> None: ...

    cable = TestCable(Cable(connection=Open, channels=[]))
    (await cable.connect()).assert_rejected()
    cable.close()


@in_loop
async def test_remote_connections_are_those_with_all_identifiers() -> None:
    cable = TestCable(WHOAMI)
    jack = await cable.connect(user_id=JACK, tab=None)
    other = await cable.connect(user_id=JACK, tab="b")
    await WHOAMI.remote_connections(tab=None, user_id=UUID(JACK)).disconnect(reconnect=False)
    assert (jack.is_open, jack.may_reconnect, other.is_open) == (False, False, True)
    with pytest.raises(TypeError, match="expected the identifiers"):
        WHOAMI.remote_connections(user_id=7)
    cable.close()


def test_the_request_of_a_connection() -> None:
    headers = {"Cookie": 'a=1; [b]; c[]="x%20y";d=e=f', "X-Kind": "test", "REMOTE_ADDR": "10.0.0.1"}
    request = Request(Environment(Sid("s1"), "wss://cable.test/ca%20ble?a=1&a=2&b=", headers))
    assert request.url == "wss://cable.test/ca%20ble?a=1&a=2&b="
    assert request.path == "/ca ble"
    assert request.params == {"a": "2", "b": ""}
    assert request.cookies == {"a": "1", "c[]": "x%20y", "d": "e=f"}
    assert (request.headers["x-kind"], request.headers.get("X-KIND")) == ("test", "test")
    assert request.remote_addr == "10.0.0.1"
    bare = Request(Environment(Sid("s1"), "", {"cookie": "=;;=a; b"}))
    assert (bare.params, bare.cookies, bare.remote_addr) == ({}, {}, "")
