"""Code that is replaced under its clients: nobody is dropped, nothing is lost, nothing done twice."""

import os
import pty
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from catenary.errors import install_command
from tests.parts.cable_client import CableClient, confirmed, delivered, identifier
from tests.parts.missing import missing
from tests.parts.ports import free_port
from tests.parts.server import OURS, CableServer, cable_server

APPLICATION = '''
import asyncio, os, time
from pathlib import Path

from catenary import Cable, Channel, Connection, action, every

VERSION = %d


def note(*words):
    """One line for everything that is done, whichever process does it."""
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
ACTIONS = ("at_once", "awaiting", "in_a_thread", "publishing")
RELOADS = 20


def until(predicate: Callable[[], bool], timeout_s: float = 10) -> None:
    deadline = time.monotonic() + timeout_s
    while not predicate():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.01)


class World:
    """A directory with an application, and a server of it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.opened = ExitStack()
        self.write(1)

    def write(self, version: int) -> None:
        # Not compiled: files of one length that change within a second look the same to Python.
        self.write_code(APPLICATION % version)

    def write_code(self, code: str) -> None:
        fresh = self.directory / "fresh"
        fresh.write_text(code)
        fresh.replace(self.directory / "app.py")

    def serve(self, *flags: str) -> CableServer:
        serving = cable_server(
            *("--broadcast_adapter=http", *flags),
            command=(*OURS, "app:cable"),
            env={"PYTHONDONTWRITEBYTECODE": "1"},
            directory=self.directory,
        )
        self.server = self.opened.enter_context(serving)
        self.wait_for_code(1)
        return self.server

    def wait_for_code(self, generation: int) -> list[int]:
        """The processes that run it, once they do."""
        output = self.server.wait_for_output(f"Code {generation} runs")
        found = re.search(rf"Code {generation} runs \(pid ([\d, ]+)\)", output)
        assert found is not None
        return [int(pid) for pid in found[1].split(", ")]

    def reload(self) -> None:
        self.server.process.send_signal(signal.SIGHUP)

    def client(self, name: str, channel: str = WORK) -> CableClient:
        client = self.opened.enter_context(CableClient(f"{self.server.cable_url}?name={name}"))
        client.receive_welcome()
        assert client.subscribe(channel) == confirmed(channel)
        return client

    def who(self, client: CableClient) -> tuple[int, int]:
        """The process that answers, and the version of its code."""
        client.perform(WORK, "who")
        pid, version = client.receive()["message"]
        return pid, version

    def done(self) -> list[list[str]]:
        path = self.directory / "done"
        return [line.split() for line in path.read_text().splitlines()] if path.exists() else []


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    world = World(tmp_path)
    with world.opened:
        yield world


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"


class Worker(threading.Thread):
    """A client that has several numbered commands under way all the time."""

    def __init__(self, client: CableClient, stop: threading.Event) -> None:
        super().__init__()
        self.client = client
        self.stop = stop
        self.sent = 0
        self.answers: list[list[int]] = []
        self.failure: BaseException | None = None

    def run(self) -> None:
        try:
            while not self.stop.is_set() or len(self.answers) < self.sent:
                while not self.stop.is_set() and self.sent < len(self.answers) + 4:
                    action = ACTIONS[self.sent % len(ACTIONS)]
                    self.client.perform(WORK, action, number=self.sent)
                    self.sent += 1
                if len(self.answers) < self.sent:
                    self.answers.append(self.client.receive()["message"])
        except BaseException as failure:  # noqa: BLE001
            self.failure = failure


def test_twenty_reloads_under_load(world: World) -> None:
    server = world.serve("--app_workers=2")
    first = world.wait_for_code(1)
    stop = threading.Event()
    clients = [world.client(f"c{number}") for number in range(6)]
    workers = [Worker(client, stop) for client in clients]
    for worker in workers:
        worker.start()
    try:
        for version in range(2, RELOADS + 2):
            world.write(version)
            world.reload()
            world.wait_for_code(version)
    finally:
        stop.set()
        for worker in workers:
            worker.join(20)
    for worker in workers:
        assert worker.failure is None, (worker.failure, server.output())
        assert [number for number, _ in worker.answers] == list(range(worker.sent))
        versions = [version for _, version in worker.answers]
        assert versions == sorted(versions), "the old code has answered behind the new"
        assert len(set(versions)) > RELOADS / 2, "the load was too little to meet the reloads"
    done = Counter(tuple(line) for line in world.done())
    sent = {
        (f"c{index}", str(number))
        for index, worker in enumerate(workers)
        for number in range(worker.sent)
    }
    assert set(done) == sent
    assert set(done.values()) == {1}
    assert world.who(clients[0])[1] == RELOADS + 1
    assert "ERROR" not in server.output()
    until(lambda: not any(map(is_alive, first)))


def test_a_call_under_way_is_finished_by_the_code_that_began_it(world: World) -> None:
    world.serve("--app_workers=1")
    jack, jill = world.client("jack"), world.client("jill")
    jack.perform(WORK, "wait_for", file="go")
    until(lambda: ["waiting", "jack"] in world.done())
    world.write(2)
    world.reload()
    world.wait_for_code(2)
    assert world.who(jill)[1] == 2
    (world.directory / "go").touch()
    assert jack.receive() == delivered(WORK, ["go", 1])
    assert world.who(jack)[1] == 2
    assert world.done() == [["waiting", "jack"]]


def test_calls_that_outlast_the_old_code_s_time_fail(world: World) -> None:
    world.serve("--app_workers=1", "--shutdown_timeout=1")
    (old,) = world.wait_for_code(1)
    jack = world.client("jack")
    jack.perform(WORK, "wait_for", file="never")
    until(lambda: ["waiting", "jack"] in world.done())
    world.reload()
    world.wait_for_code(2)
    assert world.who(jack)[0] != old, "the next command is carried out behind it"
    world.server.wait_for_output("there was no time left to carry it out")
    until(lambda: not is_alive(old))


SLOW = """
import time
from pathlib import Path
Path("begun").touch()
while not Path("go").exists():
    time.sleep(0.01)
"""


def test_reloads_while_one_is_under_way_are_one_more(world: World) -> None:
    world.serve("--app_workers=1")
    world.write_code(SLOW + APPLICATION % 2)
    world.reload()
    until((world.directory / "begun").exists)
    for _ in range(3):
        world.reload()
        time.sleep(0.02)  # signals of one kind are not queued
    world.write(3)
    (world.directory / "go").touch()
    world.wait_for_code(3)
    jack = world.client("jack")
    assert world.who(jack)[1] == 3
    assert world.server.output().count("Loading the code again") == 2


def test_an_end_while_code_is_loaded_leaves_nobody(world: World) -> None:
    server = world.serve("--app_workers=1")
    jack = world.client("jack")
    world.write_code(f"import os\nopen('pid', 'w').write(str(os.getpid()))\n{SLOW}")
    world.reload()
    until((world.directory / "begun").exists)
    assert server.stop() == 0
    assert jack.receive()["type"] == "disconnect"
    assert not is_alive(int((world.directory / "pid").read_text()))
    assert ["disconnected", "jack"] in world.done()


def test_a_worker_that_is_killed_costs_its_calls_and_no_other(world: World) -> None:
    server = world.serve("--app_workers=1", "--rpc_command_timeout=1500", "--metrics_http=/metrics")
    (victim,) = world.wait_for_code(1)
    jack, jill = world.client("jack"), world.client("jill")
    jack.perform(WORK, "wait_for", file="never")
    until(lambda: ["waiting", "jack"] in world.done())
    os.kill(victim, signal.SIGKILL)
    server.wait_for_output(f"(pid {victim}) has died (signal 9)")
    assert world.who(jill)[0] != victim, "it has waited for another worker"
    assert world.who(jack)[0] != victim, "its own call has failed, and the next has not"
    server.wait_for_output("its code worker has died; it may have been carried out")
    assert world.done() == [["waiting", "jack"]], "what may have run is not run once more"
    # Where there is no other, calls wait for their time.
    survivor, _ = world.who(jill)
    world.write_code("1/0")
    os.kill(survivor, signal.SIGKILL)
    server.wait_for_output(f"(pid {survivor}) has died")
    jill.perform(WORK, "who")
    server.wait_for_output("no code worker was free in time")
    # Who has mended it need not wait for the next attempt.
    world.write(2)
    world.reload()
    world.wait_for_code(2)
    assert world.who(jill)[1] == 2
    with urllib.request.urlopen(f"http://127.0.0.1:{server.port}/metrics") as answer:
        figures = dict(
            line.split() for line in answer.read().decode().splitlines() if line[:1] != "#"
        )
    named = {name.partition("app_")[2]: value for name, value in figures.items() if "app_" in name}
    assert (named["workers_num"], named["calls_num"]) == ("1", "0")
    assert (named["worker_deaths_total"], named["reloads_total"]) == ("2", "1")


@pytest.mark.parametrize("broken", ["def f(:", "cable = 1"])
def test_code_that_can_not_be_loaded_changes_nothing(world: World, broken: str) -> None:
    server = world.serve("--app_workers=2")
    jack = world.client("jack")
    world.write_code(broken)
    world.reload()
    output = server.wait_for_output("The new code can't be loaded: the old goes on")
    if broken != "cable = 1":
        assert output.count("Traceback") == 1
    assert world.who(jack)[1] == 1
    world.write(2)
    world.reload()
    server.wait_for_output("Code 3 runs")
    assert world.who(jack)[1] == 2


def test_code_that_can_not_be_loaded_at_first_ends_the_start(world: World) -> None:
    world.write_code("1/0")
    done = subprocess.run(
        [*OURS, "app:cable", "--app_workers=2"],
        capture_output=True,
        text=True,
        timeout=20,
        cwd=world.directory,
    )
    assert done.returncode == 1
    assert done.stderr.count("ZeroDivisionError") == 1
    assert done.stderr.splitlines()[-1].startswith("catenary: app_workers: ")


def test_a_change_of_a_file_is_a_reload(world: World) -> None:
    pytest.importorskip("watchfiles")
    server = world.serve("--reload")
    jack = world.client("jack")
    (world.directory / "notes.txt").write_text("no code")
    world.write(2)
    world.wait_for_code(2)
    assert world.who(jack)[1] == 2
    assert "notes.txt" not in server.output()


def test_watching_needs_a_library(world: World) -> None:
    hidden = "import sys; sys.modules['watchfiles'] = None; from catenary.cli import main; "
    done = subprocess.run(
        [sys.executable, "-c", hidden + "sys.exit(main(['app:cable', '--reload', '--port=0']))"],
        capture_output=True,
        text=True,
        timeout=20,
        cwd=world.directory,
    )
    assert done.returncode == 1
    line = f"catenary: reload needs an optional library: {install_command('reload')}"
    assert done.stderr.splitlines()[-1] == line


def test_an_end_with_clients_tells_of_all_of_them(world: World) -> None:
    server = world.serve("--app_workers=2")
    pids = world.wait_for_code(1)
    names = [f"c{number}" for number in range(30)]
    clients = [world.client(name) for name in names]
    assert server.stop() == 0
    for client in clients:
        assert client.receive()["type"] == "disconnect"
    assert not any(map(is_alive, pids))
    told = sorted(map(tuple, world.done()))
    assert told == sorted((what, name) for what in ("left", "disconnected") for name in names)


def test_who_leaves_is_not_waited_for(world: World) -> None:
    world.serve("--app_workers=2")
    jack = world.client("jack")
    jack.perform(WORK, "wait_for", file="never")
    until(lambda: ["waiting", "jack"] in world.done())
    jack.close()
    until(lambda: ["disconnected", "jack"] in world.done())
    assert [line[0] for line in world.done()] == ["waiting", "cancelled", "left", "disconnected"]


def test_timers_go_on_in_new_code(world: World) -> None:
    world.serve("--app_workers=2")
    jack = world.client("jack", CLOCK)
    assert jack.receive() == delivered(CLOCK, [1, 1])
    world.write(2)
    world.reload()
    ticks = [jack.receive()["message"]]
    while ticks[-1][1] == 1:
        ticks.append(jack.receive()["message"])
    ticks += [jack.receive()["message"] for _ in range(2)]
    assert [tick for tick, _ in ticks] == list(range(2, len(ticks) + 2))


def test_code_workers_end_when_their_parent_is_killed(world: World) -> None:
    server = world.serve("--app_workers=2")
    pids = world.wait_for_code(1)
    server.process.kill()
    server.process.wait()
    until(lambda: not any(map(is_alive, pids)))


def test_signals_to_the_whole_group_are_for_the_parent(world: World) -> None:
    world.serve("--app_workers=1")
    (pid,) = world.wait_for_code(1)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        os.kill(pid, number)
    assert world.who(world.client("jack"))[0] == pid


def test_a_terminal_that_is_closed_ends_the_server(world: World) -> None:
    if shutil.which("setsid") is None:
        missing("setsid", "install util-linux")
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        ["setsid", "--ctty", *OURS, "app:cable", "--app_workers=1", f"--port={free_port()}"],
        stdin=theirs,
        stderr=subprocess.PIPE,
        cwd=world.directory,
    )
    os.close(theirs)
    assert process.stderr is not None
    with process.stderr as output:
        while b"Code 1 runs" not in (line := output.readline()):
            assert line, "it has ended before"
        os.close(ours)
        assert process.wait(10) == 0


def test_each_serving_process_has_code_workers(world: World) -> None:
    server = world.serve("--workers=2", "--app_workers=1")
    until(lambda: server.output().count("Code 1 runs") == 2)
    until(lambda: server.output().count(" serves (pid") == 2)
    world.write(2)
    world.reload()
    until(lambda: server.output().count("Code 2 runs") == 2)
    clients = [world.client(f"c{number}") for number in range(8)]
    found = [world.who(client) for client in clients]
    assert {version for _, version in found} == {2}
    assert server.stop() == 0
    ends = [line[1] for line in world.done() if line[0] == "disconnected"]
    assert sorted(ends) == [f"c{number}" for number in range(8)]
