"""A server with code workers, whose application the test replaces: see :class:`ReloadableServer`."""

import os
import re
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tests.parts.cable_client import CableClient, confirmed, identifier
from tests.parts.server import OURS, CableServer, cable_server

PATIENCE_S = 60
"""For events that must happen. Several interpreters start at once, on machines with other work."""

APPLICATION = '''
import asyncio, os, time
from pathlib import Path

from catenary import Cable, Channel, Connection, action, every

VERSION = %d


def note(*words):
    """Appends a line to the file that all processes share: one write, so lines are not mixed."""
    descriptor = os.open("done", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(descriptor, (" ".join(map(str, words)) + "\\n").encode())
    os.close(descriptor)


class User(Connection):
    identified_by = ("name",)
    name: str

    async def connect(self):
        self.name = self.request.params["name"]

    async def disconnect(self):
        note("disconnected", self.name)


class WorkChannel(Channel[User]):
    async def subscribed(self):
        self.stream_for("news")

    def unsubscribed(self):
        note("left", self.connection.name)

    @action
    async def at_once(self, number: int):
        note(self.connection.name, number)
        self.transmit([number, VERSION])

    @action
    async def awaiting(self, number: int):
        note(self.connection.name, number)
        await asyncio.sleep(0.003)
        self.transmit([number, VERSION])

    @action
    def in_a_thread(self, number: int):
        note(self.connection.name, number)
        time.sleep(0.003)
        self.transmit([number, VERSION])

    @action
    async def publishing(self, number: int):
        note(self.connection.name, number)
        await self.broadcast_to(self.connection.name, number)
        self.transmit([number, VERSION])

    @action
    async def who(self):
        self.transmit([os.getpid(), VERSION])

    @action
    async def wait_for(self, file: str):
        note("waiting", self.connection.name)
        try:
            while not Path(file).exists():
                await asyncio.sleep(0.01)
        except asyncio.CancelledError:
            note("cancelled", self.connection.name)
            raise
        self.transmit([file, VERSION])


class ClockChannel(Channel[User]):
    ticks: int = Channel.state(0)

    @every(0.1)
    async def tick(self):
        self.ticks += 1
        self.transmit([self.ticks, VERSION])


cable = Cable(connection=User, channels=[WorkChannel, ClockChannel])
'''
WORK = identifier("WorkChannel")
CLOCK = identifier("ClockChannel")


def until(predicate: Callable[[], bool], timeout_s: float = PATIENCE_S) -> None:
    """Waits for something that another process does."""
    deadline = time.monotonic() + timeout_s
    while not predicate():
        assert time.monotonic() < deadline, f"it did not happen within {timeout_s} s"
        time.sleep(0.01)


def is_alive(pid: int) -> bool:
    """Whether a process runs; a zombie does not."""
    try:
        os.kill(pid, 0)
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (ProcessLookupError, FileNotFoundError):
        return False
    return state != "Z"


class ReloadableServer:
    """A directory with an application, and a server that runs it after :meth:`serve`."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.opened = ExitStack()
        self.server: CableServer
        self.write(1)

    def write(self, version: int) -> None:
        """Replaces the application; its answers name the version."""
        self.write_code(APPLICATION % version)

    def write_code(self, code: str) -> None:
        """Replaces the module of the application, in one step."""
        fresh = self.directory / "fresh"
        fresh.write_text(code)
        fresh.replace(self.directory / "app.py")

    def serve(self, *flags: str) -> CableServer:
        """Starts the server; returns when it serves and the application is loaded."""
        serving = cable_server(
            *("--broadcast_adapter=http", *flags),
            command=(*OURS, "app:cable"),
            # Python takes files of one length that changed within a second for the same.
            env={"PYTHONDONTWRITEBYTECODE": "1"},
            directory=self.directory,
        )
        self.server = self.opened.enter_context(serving)
        self.wait_for_generation(1)
        return self.server

    def wait_for_generation(self, number: int) -> list[int]:
        """Waits until a generation of code runs; returns the ids of its processes."""
        text = f"Application code loaded: generation {number} (pid "
        output = self.server.wait_for_output(text, PATIENCE_S)
        found = re.search(re.escape(text) + r"([\d, ]+)\)", output)
        assert found is not None
        return [int(pid) for pid in found[1].split(", ")]

    def reload(self) -> None:
        """Sends SIGHUP."""
        self.server.process.send_signal(signal.SIGHUP)

    def client(self, name: str, channel: str = WORK) -> CableClient:
        """A client that is subscribed to a channel."""
        url = f"{self.server.cable_url}?name={name}"
        client = self.opened.enter_context(CableClient(url, deadline_s=PATIENCE_S))
        client.receive_welcome()
        assert client.subscribe(channel) == confirmed(channel)
        return client

    def who(self, client: CableClient) -> tuple[int, int]:
        """The process that answers a client now, and the version of its code."""
        client.perform(WORK, "who")
        pid, version = client.receive()["message"]
        return pid, version

    def done(self) -> list[list[str]]:
        """Lines that the application has written to its file, split into words."""
        path = self.directory / "done"
        return [line.split() for line in path.read_text().splitlines()] if path.exists() else []


@contextmanager
def reloadable_server(directory: Path) -> Iterator[ReloadableServer]:
    """Stops the server and closes the clients at the end of a with block."""
    reloadable = ReloadableServer(directory)
    with reloadable.opened:
        yield reloadable
