"""A failure of the application is logged exactly once by each process."""

import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.parts.cable_client import CableClient, confirmed, identifier
from tests.parts.ports import free_port, wait_until_listening
from tests.parts.redis import redis_server
from tests.parts.server import OURS, CableServer, cable_server

APPLICATION = """
import asyncio

from catenary import Cable, Channel, Connection, action, every


class User(Connection):
    async def connect(self):
        if self.request.params.get("fails"):
            raise RuntimeError("on purpose")

    async def disconnect(self):
        if self.request.params.get("name"):
            raise RuntimeError("on purpose")


class Careful(Channel[User]):
    async def subscribed(self):
        if self.params.get("fails"):
            raise RuntimeError("on purpose")

    async def unsubscribed(self):
        if self.params.get("leaves"):
            raise RuntimeError("on purpose")

    @action
    async def at_once(self):
        raise RuntimeError("on purpose")

    @action
    async def later(self):
        await asyncio.sleep(0)
        raise RuntimeError("on purpose")

    @action
    def in_a_thread(self):
        raise RuntimeError("on purpose")

    @action(rate="1/10s")
    async def seldom(self): ...

    @action
    async def needs(self, number: int): ...

    @action
    async def publish(self):
        self.broadcast_to("news", 1)

    @action
    async def publish_and_wait(self):
        await self.broadcast_to("news", 1)

    @action
    def publish_in_a_thread(self):
        self.broadcast_to("news", 1)

    @action
    async def ping(self):
        self.transmit("pong")


class Clock(Channel[User]):
    @every(0.2)
    async def tick(self):
        self.transmit("tick")
        raise RuntimeError("on purpose")


cable = Cable(connection=User, channels=[Careful, Clock])
"""
CHANNEL = identifier("Careful")
WITHIN = ("in the server's process", "in code workers")
FLAGS = {WITHIN[0]: (), WITHIN[1]: ("--app_workers=1",)}


@pytest.fixture
def application(tmp_path: Path) -> Path:
    (tmp_path / "app.py").write_text(APPLICATION)
    return tmp_path


@contextmanager
def serving(directory: Path, where: str, *flags: str) -> Iterator[CableServer]:
    command = (*OURS, "app:cable")
    with cable_server(*FLAGS[where], *flags, command=command, directory=directory) as server:
        yield server


def troubles(output: str) -> list[str]:
    """The lines of warnings and errors, without tracebacks."""
    return [line for line in output.splitlines() if " WARNING " in line or " ERROR " in line]


def settle(client: CableClient, channel: str = CHANNEL) -> None:
    """Waits until the client's earlier commands were carried out."""
    client.perform(channel, "ping")
    while client.receive().get("message") != "pong":
        pass


@pytest.mark.parametrize("where", WITHIN)
@pytest.mark.parametrize(
    "action", ["at_once", "later", "in_a_thread", "needs", "nothing_like_that", "seldom"]
)
def test_an_action(application: Path, where: str, action: str) -> None:
    with serving(application, where) as server, CableClient(server.cable_url) as client:
        client.receive_welcome()
        assert client.subscribe(CHANNEL) == confirmed(CHANNEL)
        for _ in range(2 if action == "seldom" else 1):
            client.perform(CHANNEL, action)
        settle(client)
        assert len(troubles(server.output())) == 1, server.output()


@pytest.mark.parametrize("where", WITHIN)
def test_connecting_subscribing_and_leaving(application: Path, where: str) -> None:
    leaves = identifier("Careful", leaves=True)
    with serving(application, where) as server:
        with CableClient(f"{server.cable_url}?fails=1") as client:
            client.wait_for_close()
        assert len(troubles(server.output())) == 1
        with CableClient(server.cable_url) as client:
            client.receive_welcome()
            refused = identifier("Careful", fails=True)
            assert client.subscribe(refused)["type"] == "reject_subscription"
            assert len(troubles(server.output())) == 2
            assert client.subscribe(leaves) == confirmed(leaves)
            client.send("unsubscribe", identifier=leaves)
            assert client.subscribe(CHANNEL) == confirmed(CHANNEL)
            settle(client)
            assert len(troubles(server.output())) == 3
        with CableClient(f"{server.cable_url}?name=ann") as client:
            client.receive_welcome()
        server.wait_for_output("disconnect failed")
        assert server.stop() == 0
        assert len(troubles(server.output())) == 4, server.output()


@pytest.mark.parametrize("where", WITHIN)
def test_a_timer(application: Path, where: str) -> None:
    clock = identifier("Clock")
    with serving(application, where) as server, CableClient(server.cable_url) as client:
        client.receive_welcome()
        assert client.subscribe(clock) == confirmed(clock)
        server.wait_for_output("Clock.tick failed", times=3)
        client.close()
        assert server.stop() == 0
        lines = troubles(server.output())
        assert all("Clock.tick failed" in line for line in lines), server.output()


@pytest.mark.parametrize("where", WITHIN)
@pytest.mark.parametrize(
    ("action", "line"),
    [
        ("publish", "A publication was not accepted"),
        ("publish_and_wait", "Careful.publish_and_wait failed"),
        ("publish_in_a_thread", "Careful.publish_in_a_thread failed"),
    ],
)
def test_a_publication_that_is_not_accepted(
    application: Path, where: str, action: str, line: str
) -> None:
    with redis_server() as redis:
        flags = ("--pubsub=redis", "--broadcast_adapter=http", f"--redis_url={redis.url}")
        with (
            serving(application, where, *flags) as server,
            CableClient(server.cable_url, deadline_s=30) as client,
        ):
            client.receive_welcome()
            assert client.subscribe(CHANNEL) == confirmed(CHANNEL)
            redis.stop()
            server.wait_for_output("Publications do not arrive")
            client.perform(CHANNEL, action)
            server.wait_for_output(line)
            settle(client)
            lines = troubles(server.output())
            lines_of_publication = [
                each for each in lines if " redis: " not in each and " pubsub: " not in each
            ]
            assert len(lines_of_publication) == 1, server.output()


def test_an_action_behind_grpc(application: Path) -> None:
    """Both processes log it, each once."""
    port = free_port()
    process = subprocess.Popen(
        [*OURS, "rpc", "app:cable", f"--rpc_host=127.0.0.1:{port}"],
        cwd=application,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    with process.stderr as log:
        wait_until_listening(port)
        with (
            cable_server(f"--rpc_host=127.0.0.1:{port}", "--broadcast_adapter=http") as server,
            CableClient(server.cable_url) as client,
        ):
            client.receive_welcome()
            assert client.subscribe(CHANNEL) == confirmed(CHANNEL)
            client.perform(CHANNEL, "later")
            settle(client)
            (line,) = troubles(server.output())
            assert (
                'Perform failed reason="the application answered with an error: RuntimeError'
                in line
            )
        process.send_signal(signal.SIGTERM)
        (line,) = troubles(log.read())
        assert "Careful.later failed" in line
        process.wait(10)
