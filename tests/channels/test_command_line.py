"""``catenary app:cable`` and ``catenary rpc app:cable``, as they are typed."""

import json
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.parts.cable_client import CableClient, confirmed, identifier
from tests.parts.ports import free_port, wait_until_listening
from tests.parts.server import OURS, cable_server

CABLE = "tests.channels.served:cable"
ROOM = identifier("RoomChannel", id=1, quiet=True)


@contextmanager
def answering(port: int) -> Iterator[None]:
    process = subprocess.Popen([*OURS, "rpc", CABLE, f"--rpc_host=127.0.0.1:{port}"])
    try:
        wait_until_listening(port)
        yield
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0


def says_hello(url: str) -> None:
    with CableClient(f"{url}?name=ann") as client:
        client.receive_welcome()
        client.send("subscribe", identifier=ROOM)
        received = [client.receive(), client.receive()]
        assert confirmed(ROOM) in received
        assert {"identifier": ROOM, "message": {"hello": "ann"}} in received


@pytest.mark.parametrize("workers", [1, 2])
def test_the_application_in_the_server_s_processes(workers: int) -> None:
    flags = ("--broadcast_adapter=http", f"--workers={workers}")
    with cable_server(*flags, command=(*OURS, CABLE)) as server:
        says_hello(server.cable_url)
        server.wait_for_output("The application runs in this process")


def test_the_application_behind_grpc() -> None:
    port = free_port()
    with (
        answering(port),
        cable_server("--broadcast_adapter=http", f"--rpc_host=127.0.0.1:{port}") as server,
    ):
        says_hello(server.cable_url)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("no_such_module:cable",), "no module 'no_such_module'"),
        (("tests.channels.served:nothing",), "expected a Cable, got nothing"),
        (("json:dumps",), "expected a Cable, got function"),
        (("rpc",), "rpc: expected a cable, as in: catenary rpc app:cable"),
        (("--app_workers=2",), "expected a cable to run, as in: catenary app:cable"),
        (("--reload",), "app_workers, reload: expected a cable"),
        (("rpc", CABLE, "--reload"), "app_workers, reload: expected a server's sockets"),
        (("serve",), "unknown command 'serve'; a server needs no command: catenary app:cable"),
        (("app",), "unknown command 'app'; did you mean app:cable?"),
        (("tests/channels/served.py",), "did you mean tests.channels.served:cable?"),
        (("pblish", "s", "x"), "unknown command 'pblish'; did you mean publish?"),
        (("version",), "unknown command 'version'; did you mean --version?"),
        (("help", "pblish"), "unknown command 'pblish'; did you mean publish?"),
        (("--norpc", CABLE), f"a cable comes first, as in: catenary {CABLE} --port=8080"),
        (("--norpc", "publish"), "a command comes first: catenary publish"),
        (("--secret", "s", "s3cret"), "got the word one (not shown)"),
        (("tests.channels.served:cabel",), "did you mean tests.channels.served:cable?"),
        (("tests.channels.unimportable:cable",), "unimportable.py, line 3: ZeroDivisionError"),
        (
            ("rpc", "tests.channels.unimportable:cable"),
            "unimportable.py, line 3: ZeroDivisionError",
        ),
    ],
)
def test_an_application_that_can_not_be_run_is_reported_in_one_line(
    words: tuple[str, ...], expected: str
) -> None:
    done = subprocess.run([*OURS, *words], capture_output=True, text=True, timeout=20)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1), json.dumps(done.stderr)
    assert expected in done.stderr


def test_debug_shows_where_a_module_fails() -> None:
    words = ("tests.channels.unimportable:cable", "--debug")
    done = subprocess.run([*OURS, *words], capture_output=True, text=True, timeout=20)
    assert done.returncode == 1
    assert "Traceback" in done.stderr
    assert done.stderr.splitlines()[-1].startswith("catenary: tests.channels.unimportable:cable: ")
