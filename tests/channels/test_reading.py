"""Reading presence and histories, in the server's process and from another one."""

import asyncio
import os
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from catenary import Cable, Channel, action
from catenary.channels import reading
from catenary.channels.publishers.http import HttpPublisher
from catenary.channels.publishing import publication
from catenary.channels.reading import PresentMember, StoredMessage
from catenary.channels.testing import TestCable
from catenary.errors import BackendError, ConfigError, LostPosition, NotKept
from tests.parts.cable_client import CableClient, identifier
from tests.parts.ports import free_port
from tests.parts.server import OURS, CableServer, cable_server

SERVERS: dict[str, tuple[str, ...]] = {"catenary": OURS}
if "ANYCABLE_GO" in os.environ:
    SERVERS["anycable-go"] = (os.environ["ANYCABLE_GO"],)

FLAGS = ("--norpc", "--noauth", "--public_streams", "--secret=s3cret", "--broadcast_adapter=http")
LOBBY = identifier("$pubsub", stream_name="lobby")


@pytest.fixture(scope="module")
def server() -> Iterator[CableServer]:
    with cable_server(*FLAGS, "--broker=memory") as server:
        yield server


def elsewhere(server: CableServer, secret: str = "s3cret") -> Cable:
    return Cable(channels=[], secret=secret, api_url=f"http://127.0.0.1:{server.port}/api")


def history(cable: Cable, stream: str, **where: Any) -> list[StoredMessage]:
    async def read() -> list[StoredMessage]:
        return [each async for each in cable.history(stream, **where)]

    return asyncio.run(read())


@pytest.fixture
def publishing(server: CableServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cable]:
    monkeypatch.setenv("ANYCABLE_HTTP_BROADCAST_URL", server.broadcast_url)
    cable = elsewhere(server)
    yield cable
    cable.application.release()


def test_the_history_from_another_process(
    publishing: Cable, monkeypatch: pytest.MonkeyPatch
) -> None:
    # In pages, as one too long for a single answer is.
    monkeypatch.setattr(reading, "PAGE", 2)
    before = time.time()
    for number in range(5):
        publishing.broadcast("a/b?", {"n": number})
    everything = history(publishing, "a/b?")
    assert [each.data for each in everything] == [{"n": number} for number in range(5)]
    assert history(publishing, "a/b?", after=everything[1].position, limit=2) == everything[2:4]
    # Of one page, and of several
    for limit in (1, 2, 3, 4, 9):
        newest = everything[-limit:]
        assert history(publishing, "a/b?", limit=limit) == newest
        assert history(publishing, "a/b?", since=before, limit=limit) == newest
    moment = datetime.now(UTC) - timedelta(seconds=5)
    assert history(publishing, "a/b?", since=moment) == everything
    assert history(publishing, "a/b?", limit=0) == history(publishing, "empty") == []
    with pytest.raises(LostPosition):
        history(publishing, "a/b?", after="1:another")
    with pytest.raises(TypeError, match="both"):
        history(publishing, "a/b?", after="1:e", since=1)


@pytest.mark.parametrize("command", SERVERS.values(), ids=SERVERS)
def test_presence_from_another_process(command: tuple[str, ...]) -> None:
    with cable_server(*FLAGS, "--broker=memory", command=command) as server:
        cable = elsewhere(server)
        assert asyncio.run(cable.presence("lobby")) == []
        with CableClient(server.cable_url, subprotocols=("actioncable-v1-ext-json",)) as ann:
            ann.receive_welcome()
            ann.subscribe(LOBBY)
            ann.send("join", identifier=LOBBY, presence={"id": "ann", "info": {"name": "Ann"}})
            assert ann.receive()["type"] == "presence"
            assert asyncio.run(cable.presence("lobby")) == [PresentMember("ann", {"name": "Ann"})]


@pytest.mark.parametrize("command", SERVERS.values(), ids=SERVERS)
def test_without_a_broker_nothing_is_stored(command: tuple[str, ...]) -> None:
    with cable_server(*FLAGS, command=command) as server:
        with pytest.raises(NotKept, match="broker"):
            asyncio.run(elsewhere(server).presence("lobby"))
        with pytest.raises(BackendError, match="HTTP 401"):
            asyncio.run(elsewhere(server, "wrong").presence("lobby"))
        nowhere = Cable(channels=[], api_url=f"http://127.0.0.1:{server.port}/nowhere")
        with pytest.raises(BackendError, match=r"api_path.*404"):
            asyncio.run(nowhere.presence("lobby"))


def test_an_unreachable_api_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANYCABLE_API_URL", url := f"http://127.0.0.1:{free_port()}/api")
    with pytest.raises(BackendError, match=f"no answer from {url}: "):
        asyncio.run(Cable(channels=[]).presence("lobby"))
    with pytest.raises(ConfigError, match="URL of the API"):
        asyncio.run(Cable(channels=[], api_url="localhost").presence("lobby"))


@pytest.mark.parametrize("place", [(), ("--app_workers=1",)], ids=["in process", "code worker"])
def test_reading_in_the_process_of_the_server(place: tuple[str, ...]) -> None:
    flags = ("--noauth", "--broker=memory", "--broadcast_adapter=http", *place)
    room = identifier("RoomChannel", id=1)
    command = (*OURS, "tests.channels.reading_app:cable")
    with cable_server(*flags, command=command) as server, CableClient(server.cable_url) as ann:
        ann.receive_welcome()
        ann.subscribe(room)
        assert ann.receive()["type"] == "presence"
        sending = HttpPublisher(server.broadcast_url)
        for number in range(3):
            sending.publish(publication("RoomChannel:1", number, "", transient=False))
            assert ann.receive()["message"] == number
        sending.close()
        for way in ("read", "read_in_a_thread"):
            ann.send("message", identifier=room, data=f'{{"action":"{way}"}}')
            assert ann.receive()["message"] == [[["ann", {"name": "Ann"}]], [1, 2]]


def test_a_code_worker_gets_the_error_of_a_read() -> None:
    flags = ("--noauth", "--app_workers=1")
    command = (*OURS, "tests.channels.reading_app:cable")
    with cable_server(*flags, command=command) as server, CableClient(server.cable_url) as ann:
        ann.receive_welcome()
        ann.subscribe(room := identifier("RoomChannel", id=1))
        ann.send("message", identifier=room, data='{"action":"read"}')
        assert "NotKept" in server.wait_for_output("presence is not kept")


def test_a_process_without_a_reader_uses_the_api(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("ANYCABLE_API_URL", f"http://127.0.0.1:{free_port()}/api")

    async def scenario() -> None:
        class Publisher:
            def publish(self, raw: bytes) -> None: ...

        cable = Cable(channels=[])
        await cable.application.start(Publisher())
        with pytest.raises(BackendError, match="no answer from"):
            await cable.presence("lobby")
        cable.application.release()

    asyncio.run(scenario())


def test_reading_in_a_test_without_a_server() -> None:
    class Room(Channel):
        async def subscribed(self) -> None:
            self.stream_from("room", presence=True)
            self.join_presence(id="ann", info={"name": "Ann"})

        @action
        async def read(self) -> None:
            said = [each.data async for each in application.history("room", limit=2)]
            present = await application.presence("room")
            self.transmit([[[each.id, each.info] for each in present], said])

    application = Cable(channels=[Room])

    async def scenario() -> None:
        testing = TestCable(application)
        room = await (await testing.connect()).subscribe(Room)
        for number in range(3):
            await application.broadcast("room", number)
        await room.perform("read")
        room.assert_transmitted([[["ann", {"name": "Ann"}]], [1, 2]])
        (first, *_) = [each async for each in application.history("room")]
        later = [each.data async for each in application.history("room", after=first.position)]
        assert later == [1, 2]
        testing.close()

    asyncio.run(scenario())
