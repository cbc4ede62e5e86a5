"""Listening: against servers of our own, and once through a network that breaks."""

import json
import os
import pty
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.parts.cable_client import CableClient, confirmed, identifier
from tests.parts.certificates import Authority
from tests.parts.ports import free_port, wait_until_listening
from tests.parts.server import OURS, CableServer, cable_server
from tests.parts.tcp_relay import tcp_relay
from tests.terminal.shell import PROGRAM, SECRET, beside, catenary, environment, lines

STREAM = identifier("$pubsub", stream_name="chat")
PUBLIC = ("--public", "--norpc", "--broadcast_adapter=http", "--broker=memory")


@pytest.fixture(scope="module")
def public() -> Iterator[CableServer]:
    with cable_server(*PUBLIC) as server:
        yield server


@pytest.fixture(scope="module")
def application() -> Iterator[CableServer]:
    flags = ("--broadcast_adapter=http", "--broker=memory")
    with cable_server(*flags, command=(*OURS, "tests.channels.served:cable")) as server:
        yield server


class Listening:
    """A tool under way."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process

    def next(self) -> Any:
        """The next line of its output."""
        assert self.process.stdout is not None
        return json.loads(self.process.stdout.readline())

    def wait_for_note(self, text: str) -> None:
        """Returns when a note has this text."""
        assert self.process.stderr is not None
        for line in self.process.stderr:
            if text in line:
                return
        raise AssertionError(f"ended without {text!r}")


@contextmanager
def listening(*words: str, **variables: str) -> Iterator[Listening]:
    process = subprocess.Popen(
        [str(PROGRAM), "subscribe", *words],
        env=environment(**variables),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        try:
            yield Listening(process)
        finally:
            process.terminate()
            assert process.wait(30) == 0


def publish(server: CableServer, stream: str, *data: object) -> None:
    given = "".join(f"{json.dumps(each)}\n" for each in data)
    done = catenary("publish", stream, "--lines", given=given, **beside(server))
    assert done.returncode == 0, done.stderr


def test_the_history_of_a_stream_and_where_it_stands(public: CableServer) -> None:
    publish(public, "kept", {"n": 1}, "two", "more than is asked for")
    words = ("subscribe", "--stream=kept", "--history=all", "--count=2")
    first, second = lines(catenary(*words, **beside(public)))
    assert (first["message"], first["stream_id"], first["offset"]) == ({"n": 1}, "kept", 1)
    assert (second["message"], second["offset"]) == ("two", 2)
    assert lines(catenary(*words, "--bare", **beside(public))) == [{"n": 1}, "two"]


def test_what_comes_while_it_listens(public: CableServer) -> None:
    with listening("--stream=chat", **beside(public)) as listener:
        listener.wait_for_note("subscribed")
        publish(public, "chat", *range(3))
        assert [listener.next()["message"] for _ in range(3)] == [0, 1, 2]


def test_nothing_is_lost_and_nothing_twice_when_the_network_breaks(public: CableServer) -> None:
    with tcp_relay(public.port) as relay:
        url = f"--url=ws://127.0.0.1:{relay.port}/cable"
        with listening("--stream=rough", "--bare", url) as listener:
            listener.wait_for_note("subscribed")
            publish(public, "rough", 0, 1)
            assert [listener.next(), listener.next()] == [0, 1]
            assert relay.cut() == 1
            publish(public, "rough", 2, 3)
            listener.wait_for_note("session resumed")
            publish(public, "rough", 4)
            assert [listener.next() for _ in range(3)] == [2, 3, 4]


def test_a_server_that_was_started_again_is_found_again() -> None:
    with (
        cable_server(*PUBLIC) as server,
        listening("--stream=chat", "--bare", **beside(server)) as listener,
    ):
        listener.wait_for_note("subscribed")
        server.stop()
        listener.wait_for_note("away")
        server.restart()
        listener.wait_for_note("subscribed")
        publish(server, "chat", "back again")
        assert listener.next() == "back again"


def test_presence(public: CableServer) -> None:
    words = ("--stream=chat", "--presence", "--join", "ann", "name=Ann")
    with (
        listening(*words, **beside(public)) as listener,
        CableClient(public.cable_url) as other,
    ):
        events = [listener.next(), listener.next()]
        assert all(event["type"] == "presence" for event in events)
        assert {event["message"]["type"] for event in events} == {"join", "info"}
        other.receive_welcome()
        assert other.subscribe(STREAM) == confirmed(STREAM)
        other.send("join", identifier=STREAM, presence={"id": "ben", "info": {"name": "Ben"}})
        message = {"type": "join", "id": "ben", "info": {"name": "Ben"}}
        assert listener.next() == {"type": "presence", "message": message}


def test_a_channel_with_params_and_an_action(application: CableServer) -> None:
    url = f"--url={application.cable_url}?name=ann"
    words = ("subscribe", "RoomChannel", "id=1", "quiet=true", url)
    (hello,) = lines(catenary(*words, "--count=1"))
    assert hello == {"message": {"hello": "ann"}}
    whole = ("subscribe", '{"channel": "RoomChannel", "id": 1}', "quiet=true", url, "--count=1")
    assert lines(catenary(*whole)) == [hello]


@pytest.mark.parametrize(
    ("words", "status", "note"),
    [
        (("NoChannel",), 1, "rejected: "),
        (("--stream=empty", "--count=1", "--timeout=5"), 1, "subscribed"),
        (("--stream=empty", "--timeout=5"), 0, "subscribed"),
        (("--signed=forged--0",), 1, "rejected: "),
    ],
)
def test_how_it_ends(public: CableServer, words: tuple[str, ...], status: int, note: str) -> None:
    done = catenary("subscribe", *words, **beside(public))
    assert done.returncode == status, done.stderr
    assert note in done.stderr
    assert done.stdout == ""


def test_a_server_that_does_not_answer_in_time() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"--url=ws://127.0.0.1:{silent.getsockname()[1]}/cable"
        done = catenary("subscribe", "--stream=s", "--plain", "--timeout=0.2", url)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "not subscribed in time\n"


def test_who_is_not_let_in() -> None:
    flags = (f"--secret={SECRET}", "--enforce_jwt", "--norpc", "--broadcast_adapter=http")
    with cable_server(*flags, "--http_broadcast_port=0") as server:
        around = beside(server, SECRET)
        done = catenary("subscribe", "--stream=chat", **around)
        assert (done.returncode, done.stderr) == (1, "disconnected: unauthorized\n")
        token = catenary("token", "user=1", **around).stdout.strip()
        for authentication in (f"--jwt={token}", f"--header=X-JID: {token}"):
            with listening("--stream=chat", authentication, **around) as listener:
                listener.wait_for_note("subscribed")
        # This server requires signed names.
        done = catenary("subscribe", "--stream=chat", f"--jwt={token}", "--plain", **around)
        assert done.returncode == 1
        done = catenary("subscribe", "A", f"--url=http://127.0.0.1:{server.port}/elsewhere")
        assert done.returncode == 1
        assert "404" in done.stderr
    done = catenary("subscribe", "A", **around)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    url = around["ANYCABLE_HOST"] + ":" + around["ANYCABLE_PORT"]
    assert f"no server answers at ws://{url}/cable" in done.stderr


def test_over_tls_the_certificate_counts(tmp_path: Path) -> None:
    authority = Authority()
    (tmp_path / "ca.pem").write_bytes(authority.pem)
    issued = authority.issue("127.0.0.1")
    (tmp_path / "cert.pem").write_bytes(issued.certificate)
    (tmp_path / "key.pem").write_bytes(issued.key)
    port = free_port()
    tls = (f"--ssl_cert={tmp_path}/cert.pem", f"--ssl_key={tmp_path}/key.pem")
    flags = ("--host=127.0.0.1", f"--port={port}", f"--secret={SECRET}", "--http_broadcast_port=0")
    server = subprocess.Popen([*OURS, *PUBLIC, *tls, *flags], stderr=subprocess.DEVNULL)
    try:
        wait_until_listening(port)
        url = f"wss://127.0.0.1:{port}/cable"
        words = ("--stream=s", "--plain", f"--url={url}")
        with listening(*words, SSL_CERT_FILE=str(tmp_path / "ca.pem")) as listener:
            listener.wait_for_note("subscribed")
        done = catenary("subscribe", *words)
        assert done.returncode == 1
        assert "certificate verify failed" in done.stderr
    finally:
        server.terminate()
        assert server.wait(30) == 0


def test_a_reader_that_has_had_enough_is_no_failure(public: CableServer) -> None:
    words = ("subscribe", "--stream=long", "--history=all", "--bare")
    process = subprocess.Popen(
        [str(PROGRAM), *words],
        env=environment(**beside(public)),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stderr.readline()
        publish(public, "long", 0)
        assert process.stdout.readline() == "0\n"
        process.stdout.close()
        publish(public, "long", 1)
        assert process.wait(30) == 0
        assert process.stderr.read() == ""


@pytest.mark.parametrize("no_color", ["", "1"])
def test_people_see_colours_and_no_foreign_commands(public: CableServer, no_color: str) -> None:
    publish(public, f"seen{no_color}", {"text": "red\x1b[31m\u202e"})
    ours, theirs = pty.openpty()
    done = subprocess.run(
        [str(PROGRAM), "subscribe", f"--stream=seen{no_color}", "--history=all", "--count=1"],
        env=environment(**beside(public), NO_COLOR=no_color, TERM="xterm"),
        stdin=subprocess.DEVNULL,
        stdout=theirs,
        stderr=subprocess.DEVNULL,
        timeout=20,
    )
    os.close(theirs)
    shown = os.read(ours, 4096).decode()
    os.close(ours)
    assert done.returncode == 0
    assert ("\x1b[36m" in shown) is (not no_color)
    assert "\u202e" not in shown
    assert "\x1b[31m" not in shown
    assert "#1" in shown
