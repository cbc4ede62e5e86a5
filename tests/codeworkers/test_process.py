"""Processes of code workers: how they end, and what they ignore."""

import os
import pty
import shutil
import signal
import subprocess

import pytest

from catenary.errors import AppUnavailable
from tests.codeworkers.direct_pool import DirectPool, run
from tests.parts.missing import missing
from tests.parts.ports import free_port
from tests.parts.reloadable_server import ReloadableServer, is_alive, until
from tests.parts.server import OURS


def test_code_workers_end_when_their_parent_is_killed(reloadable: ReloadableServer) -> None:
    server = reloadable.serve("--app_workers=2")
    pids = reloadable.wait_for_generation(1)
    server.process.kill()
    server.process.wait()
    until(lambda: not any(map(is_alive, pids)))


@pytest.mark.usefixtures("directory")
def test_a_death_is_noticed_although_a_forked_process_holds_the_socket() -> None:
    async def scenario(direct: DirectPool) -> None:
        with pytest.raises(AppUnavailable, match="has died"):
            await direct.perform("fork_and_die")
        await direct.perform("once")
        assert direct.counters.app_worker_deaths_total == 1
        os.kill(int((direct.directory / "forked").read_text()), signal.SIGKILL)

    run(scenario)


def test_signals_to_the_process_group_are_for_the_parent(reloadable: ReloadableServer) -> None:
    reloadable.serve("--app_workers=1")
    (pid,) = reloadable.wait_for_generation(1)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        os.kill(pid, number)
    assert reloadable.who(reloadable.client("jack"))[0] == pid


def test_a_closed_terminal_ends_the_server_and_its_workers(reloadable: ReloadableServer) -> None:
    if shutil.which("setsid") is None:
        missing("setsid", "install util-linux")
    ours, theirs = pty.openpty()
    ports = (f"--port={free_port()}", f"--http_broadcast_port={free_port()}")
    process = subprocess.Popen(
        ["setsid", "--ctty", *OURS, "app:cable", "--app_workers=1", *ports],
        stdin=theirs,
        stderr=subprocess.PIPE,
        cwd=reloadable.directory,
    )
    os.close(theirs)
    assert process.stderr is not None
    with process.stderr as output:
        while b"loaded: generation 1" not in (line := output.readline()):
            assert line, "it has ended before"
        os.close(ours)
        assert process.wait(60) == 0
