"""Code is replaced under its clients: no client is disconnected, no call is lost or made twice."""

import functools
import os
import signal
import subprocess
import threading
import urllib.request
from collections import Counter
from pathlib import Path

import pytest

from catenary.codeworkers import generations
from tests.codeworkers import direct_pool
from tests.codeworkers.direct_pool import DirectPool, run
from tests.parts.cable_client import CableClient, delivered
from tests.parts.ports import free_port
from tests.parts.reloadable_server import (
    APPLICATION,
    PATIENCE_S,
    WORK,
    ReloadableServer,
    is_alive,
    until,
)
from tests.parts.server import OURS

ACTIONS = ("at_once", "awaiting", "in_a_thread", "publishing")
RELOADS = 3
SLOW = """
import time
from pathlib import Path
Path("begun").touch()
while not Path("go").exists():
    time.sleep(0.01)
"""


class BusyClient(threading.Thread):
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

    def has_reached(self, version: int) -> bool:
        """Whether the last answer came from this version of the code; True if the client failed."""
        return self.failure is not None or (bool(self.answers) and self.answers[-1][1] == version)


def test_reloads_under_load(reloadable: ReloadableServer) -> None:
    server = reloadable.serve("--app_workers=2")
    first = reloadable.wait_for_generation(1)
    stop = threading.Event()
    clients = [reloadable.client(f"c{number}") for number in range(6)]
    busy = [BusyClient(client, stop) for client in clients]
    for each in busy:
        each.start()
    try:
        for version in range(2, RELOADS + 2):
            reloadable.write(version)
            reloadable.reload()
            reloadable.wait_for_generation(version)
            for each in busy:
                until(functools.partial(each.has_reached, version))
    finally:
        stop.set()
        for each in busy:
            each.join(PATIENCE_S)
    for each in busy:
        assert each.failure is None, (each.failure, server.output())
        assert [number for number, _ in each.answers] == list(range(each.sent))
        versions = [version for _, version in each.answers]
        assert versions == sorted(versions), "previous code answered after new code"
        assert set(versions) >= set(range(2, RELOADS + 2))
    done = Counter(tuple(line) for line in reloadable.done())
    sent = {
        (f"c{index}", str(number)) for index, each in enumerate(busy) for number in range(each.sent)
    }
    assert set(done) == sent
    assert set(done.values()) == {1}
    assert reloadable.who(clients[0])[1] == RELOADS + 1
    assert "ERROR" not in server.output()
    until(lambda: not any(map(is_alive, first)))


def test_a_call_is_finished_by_the_code_that_began_it(reloadable: ReloadableServer) -> None:
    reloadable.serve("--app_workers=1")
    jack, jill = reloadable.client("jack"), reloadable.client("jill")
    jack.perform(WORK, "wait_for", file="go")
    until(lambda: ["waiting", "jack"] in reloadable.done())
    reloadable.write(2)
    reloadable.reload()
    reloadable.wait_for_generation(2)
    assert reloadable.who(jill)[1] == 2
    (reloadable.directory / "go").touch()
    assert jack.receive() == delivered(WORK, ["go", 1])
    assert reloadable.who(jack)[1] == 2
    assert reloadable.done() == [["waiting", "jack"]]


def test_calls_that_outlast_the_time_of_retired_workers_fail(reloadable: ReloadableServer) -> None:
    reloadable.serve("--app_workers=1", "--shutdown_timeout=1")
    (old,) = reloadable.wait_for_generation(1)
    jack = reloadable.client("jack")
    jack.perform(WORK, "wait_for", file="never")
    until(lambda: ["waiting", "jack"] in reloadable.done())
    reloadable.reload()
    reloadable.wait_for_generation(2)
    assert reloadable.who(jack)[0] != old, "the next command is carried out after it"
    reloadable.server.wait_for_output("there was no time left to carry it out")
    until(lambda: not is_alive(old))


def test_requests_during_a_reload_cause_one_more(directory: Path) -> None:
    async def scenario(direct: DirectPool) -> None:
        direct.write_code(SLOW + direct_pool.APPLICATION)
        direct.pool.reload()
        await direct_pool.until((directory / "begun").exists)
        for _ in range(3):
            direct.pool.reload()
        (directory / "go").touch()
        reloading = direct.pool._generations._reloading
        assert reloading is not None
        await reloading
        assert direct.counters.app_reloads_total == 2
        await direct.perform("once")

    run(scenario)


def test_a_request_before_the_start_is_a_reload_after_it(reloadable: ReloadableServer) -> None:
    """SIGHUP while the server loads its code the first time."""
    reloadable.write_code(SLOW + APPLICATION % 1)
    process = subprocess.Popen(
        [*OURS, "app:cable", "--app_workers=1", "--port=0", f"--http_broadcast_port={free_port()}"],
        stderr=subprocess.PIPE,
        cwd=reloadable.directory,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
    )
    try:
        until((reloadable.directory / "begun").exists)
        process.send_signal(signal.SIGHUP)
        (reloadable.directory / "go").touch()
        assert process.stderr is not None
        while b"loaded: generation 2" not in (line := process.stderr.readline()):
            assert line, "it has ended before"
    finally:
        process.terminate()
        process.communicate()


def test_a_shutdown_while_code_is_loaded_leaves_no_process(reloadable: ReloadableServer) -> None:
    server = reloadable.serve("--app_workers=1")
    jack = reloadable.client("jack")
    reloadable.write_code(f"import os\nopen('pid', 'w').write(str(os.getpid()))\n{SLOW}")
    reloadable.reload()
    until((reloadable.directory / "begun").exists)
    assert server.stop() == 0
    assert jack.receive()["type"] == "disconnect"
    assert not is_alive(int((reloadable.directory / "pid").read_text()))
    assert ["disconnected", "jack"] in reloadable.done()


def test_a_worker_that_is_killed_costs_its_calls_and_no_other(reloadable: ReloadableServer) -> None:
    server = reloadable.serve(
        "--app_workers=1", "--rpc_command_timeout=1500", "--metrics_http=/metrics"
    )
    (victim,) = reloadable.wait_for_generation(1)
    jack, jill = reloadable.client("jack"), reloadable.client("jill")
    jack.perform(WORK, "wait_for", file="never")
    until(lambda: ["waiting", "jack"] in reloadable.done())
    os.kill(victim, signal.SIGKILL)
    server.wait_for_output(f"(pid {victim}) has died (signal 9)")
    server.wait_for_output("A code worker was started in its place", PATIENCE_S)
    assert reloadable.who(jill)[0] != victim, "another worker has answered"
    assert reloadable.who(jack)[0] != victim, "only the call under way has failed"
    server.wait_for_output("its code worker has died; it may have been carried out")
    assert reloadable.done() == [["waiting", "jack"]], "a call that may have run is not repeated"
    # Without any worker, calls wait for rpc_command_timeout.
    survivor, _ = reloadable.who(jill)
    reloadable.write_code("1/0")
    os.kill(survivor, signal.SIGKILL)
    server.wait_for_output(f"(pid {survivor}) has died")
    jill.perform(WORK, "who")
    server.wait_for_output("no code worker was free in time")
    # A reload does not wait for the next attempt to restart.
    reloadable.write(2)
    reloadable.reload()
    reloadable.wait_for_generation(2)
    assert reloadable.who(jill)[1] == 2
    with urllib.request.urlopen(f"http://127.0.0.1:{server.port}/metrics") as answer:
        figures = dict(
            line.split() for line in answer.read().decode().splitlines() if line[:1] != "#"
        )
    named = {name.partition("app_")[2]: value for name, value in figures.items() if "app_" in name}
    assert (named["workers_num"], named["calls_num"]) == ("1", "0")
    assert (named["worker_deaths_total"], named["reloads_total"]) == ("2", "1")


@pytest.mark.parametrize("broken", ["def f(:", "cable = 1"])
def test_code_that_can_not_be_loaded_changes_nothing(
    reloadable: ReloadableServer, broken: str
) -> None:
    server = reloadable.serve("--app_workers=2")
    jack = reloadable.client("jack")
    reloadable.write_code(broken)
    reloadable.reload()
    output = server.wait_for_output("Reload failed: the previous code keeps running", PATIENCE_S)
    if broken != "cable = 1":
        assert output.count("Traceback") == 1
    assert reloadable.who(jack)[1] == 1
    reloadable.write(2)
    reloadable.reload()
    reloadable.wait_for_generation(3)
    assert reloadable.who(jack)[1] == 2


def test_code_that_can_not_be_loaded_at_first_ends_the_start(reloadable: ReloadableServer) -> None:
    reloadable.write_code("1/0")
    done = subprocess.run(
        [*OURS, "app:cable", "--app_workers=2", "--port=0", f"--http_broadcast_port={free_port()}"],
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        cwd=reloadable.directory,
    )
    assert done.returncode == 1
    assert done.stderr.count("ZeroDivisionError") == 1
    assert done.stderr.splitlines()[-1].startswith("catenary: app_workers: ")


def test_code_that_never_finishes_loading_is_given_up(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario(direct: DirectPool) -> None:
        monkeypatch.setattr(generations, "START_S", 0.3)
        direct.write_code(SLOW)
        direct.pool.reload()
        reloading = direct.pool._generations._reloading
        assert reloading is not None
        await reloading
        assert direct.counters.app_failed_reloads_total == 1
        await direct.perform("once")

    run(scenario)


def test_each_serving_process_has_its_own_code_workers(reloadable: ReloadableServer) -> None:
    server = reloadable.serve("--workers=2", "--app_workers=1")
    server.wait_for_output("Application code loaded: generation 1", PATIENCE_S, times=2)
    server.wait_for_output(" serves (pid", PATIENCE_S, times=2)
    reloadable.write(2)
    reloadable.reload()
    server.wait_for_output("Application code loaded: generation 2", PATIENCE_S, times=2)
    clients = [reloadable.client(f"c{number}") for number in range(8)]
    found = [reloadable.who(client) for client in clients]
    assert {version for _, version in found} == {2}
    assert server.stop() == 0
    ends = [line[1] for line in reloadable.done() if line[0] == "disconnected"]
    assert sorted(ends) == [f"c{number}" for number in range(8)]
