"""SIGHUP never ends a server, whatever it serves, unless its terminal was closed."""

import os
import pty
import re
import shutil
import signal
import subprocess
from pathlib import Path

import pytest

from tests.parts.missing import missing
from tests.parts.ports import free_port, wait_until_listening
from tests.parts.server import OURS, CableServer, cable_server

PUBLIC = ("--public", "--norpc", "--broadcast_adapter=http")
NOTHING = "Reload: options applied: 0, waiting for a restart: 0"
CABLE = "tests.channels.served:cable"


def hang_up(server: CableServer, pid: int, expected: str) -> None:
    """Twice: nothing may depend on which one it is."""
    for times in (1, 2):
        os.kill(pid, signal.SIGHUP)
        server.wait_for_output(expected, times=times)
    assert server.process.poll() is None
    server.wait_until_ready()


def test_a_server_without_an_application_goes_on() -> None:
    with cable_server(*PUBLIC) as server:
        hang_up(server, server.process.pid, NOTHING)
        assert server.stop() == 0


def test_so_does_one_with_its_application_in_the_same_process() -> None:
    with cable_server(command=(*OURS, CABLE)) as server:
        hang_up(server, server.process.pid, NOTHING)
        assert server.stop() == 0


def test_one_with_code_workers_reloads() -> None:
    with cable_server("--app_workers=1", command=(*OURS, CABLE)) as server:
        server.wait_for_output("Application code loaded: generation 1")
        os.kill(server.process.pid, signal.SIGHUP)
        server.wait_for_output("Application code loaded: generation 2")
        assert server.stop() == 0


def test_several_processes_go_on_whichever_of_them_is_told() -> None:
    with cable_server(*PUBLIC, "--workers=2") as server:
        for number in (1, 2):
            server.wait_for_output(f"Worker {number} serves")
        workers = re.findall(r"serves \(pid (\d+)\)", server.output())
        os.kill(server.process.pid, signal.SIGHUP)
        server.wait_for_output(NOTHING, times=2)
        for times, worker in enumerate(workers, 3):
            os.kill(int(worker), signal.SIGHUP)
            server.wait_for_output(NOTHING, times=times)
        assert "has died" not in server.output()
        assert server.stop() == 0


def test_several_processes_reload_their_code() -> None:
    flags = ("--broadcast_adapter=http", "--workers=2", "--app_workers=1")
    with cable_server(*flags, command=(*OURS, CABLE)) as server:
        server.wait_for_output(" serves (pid", times=2)
        os.kill(server.process.pid, signal.SIGHUP)
        server.wait_for_output("Application code loaded: generation 2", times=2)
        assert server.stop() == 0


def test_the_embedded_nats_server_goes_on() -> None:
    with cable_server(*PUBLIC, "--embed_nats", f"--enats_addr=nats://127.0.0.1:{free_port()}") as (
        server
    ):
        hang_up(server, server.process.pid, NOTHING)
        server.wait_until_it_hears_others()
        assert server.stop() == 0


def test_an_application_behind_grpc_goes_on() -> None:
    port = free_port()
    process = subprocess.Popen(
        [*OURS, "rpc", CABLE, f"--rpc_host=127.0.0.1:{port}"], stderr=subprocess.PIPE
    )
    assert process.stderr is not None
    with process.stderr as output:
        wait_until_listening(port)
        process.send_signal(signal.SIGHUP)
        while b"SIGHUP: nothing to reload: restart it" not in (line := output.readline()):
            assert line, "it has ended before"
        wait_until_listening(port)
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0


def test_one_that_loads_its_code_still_goes_on(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(
        "import os, signal\n"
        "from catenary import Cable\n"
        "os.kill(os.getpid(), signal.SIGHUP)\n"
        "cable = Cable(channels=[])\n"
    )
    with cable_server(command=(*OURS, "app:cable"), directory=tmp_path) as server:
        assert server.stop() == 0


@pytest.mark.parametrize("flags", [PUBLIC, (*PUBLIC, "--workers=2")])
def test_a_terminal_that_is_closed_ends_it_in_order(flags: tuple[str, ...]) -> None:
    if shutil.which("setsid") is None:
        missing("setsid", "install util-linux")
    ours, theirs = pty.openpty()
    port = free_port()
    process = subprocess.Popen(
        ["setsid", "--ctty", *OURS, *flags, f"--port={port}", f"--http_broadcast_port={port}"],
        stdin=theirs,
        stderr=subprocess.PIPE,
    )
    os.close(theirs)
    assert process.stderr is not None
    with process.stderr as output:
        wait_until_listening(port)
        os.close(ours)
        assert process.wait(30) == 0
        told = output.read()
    assert told.count(b"the terminal was closed") == 1
    assert b"has died" not in told
