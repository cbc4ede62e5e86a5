"""The tools that ask the REST API of a cluster: two workers, clients in this process, a pty for the tables."""

import json
import os
import pty
import re
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest

from tests.parts.cable_client import CableClient, identifier
from tests.parts.server import CableServer, cable_server
from tests.parts.tokens import SECRET, token
from tests.terminal.shell import PROGRAM, beside, called, environment, lines, paged_api

_STYLE = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
CHAT = identifier("$pubsub", stream_name="chat/1")
CLIENTS = ("ann", "ben", "cai")


@pytest.fixture(scope="module")
def server() -> Iterator[CableServer]:
    flags = ("--norpc", "--public_streams", "--broadcast_adapter=http")
    with cable_server(*flags, "--workers=2", "--broker=nats", f"--secret={SECRET}") as running:
        yield running


@pytest.fixture(scope="module")
def around(server: CableServer) -> Iterator[dict[str, str]]:
    """The environment beside a server with three clients on a stream."""
    with ExitStack() as clients:
        for name in CLIENTS:
            clients.enter_context(connected(server, name)).subscribe(CHAT)
        yield beside(server, SECRET)


def connected(server: CableServer, name: str) -> CableClient:
    claims = {"ext": json.dumps({"user": name}, separators=(",", ":")), "exp": time.time() + 600}
    client = CableClient(f"{server.cable_url}?jid={token(claims)}")
    client.receive_welcome()
    return client


@contextmanager
def on_a_terminal(*words: str, **variables: str) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """A tool on a pty of 80 columns and 24 lines; gives the process and the other end of the pty."""
    ours, theirs = pty.openpty()
    os.set_inheritable(theirs, True)
    env = environment(TERM="xterm", COLUMNS="80", **variables)
    process = subprocess.Popen(
        [str(PROGRAM), *words], stdin=theirs, stdout=theirs, stderr=theirs, env=env
    )
    os.close(theirs)
    try:
        yield process, ours
    finally:
        process.kill()
        process.wait()
        os.close(ours)


def read_all(ours: int) -> str:
    """What is printed until the tool ends."""
    text = b""
    while True:
        try:
            some = os.read(ours, 65_536)
        except OSError:  # EIO: the other end is closed
            return text.decode()
        if not some:
            return text.decode()
        text += some


def read_until(ours: int, wanted: str) -> str:
    text = ""
    deadline = time.monotonic() + 20
    while wanted not in text:
        assert time.monotonic() < deadline, text
        text += os.read(ours, 65_536).decode()
    return text


def plain(text: str) -> list[str]:
    return _STYLE.sub("", text).replace("\r", "").splitlines()


def test_who_prints_json_lines_where_a_program_reads(around: dict[str, str]) -> None:
    found = lines(called("who", **around))
    assert sorted(each["identifiers"] for each in found) == [f'{{"user":"{n}"}}' for n in CLIENTS]
    assert {each["subscriptions"] for each in found} == {1}
    assert len(lines(called("who", "--limit=2", **around))) == 2
    (ann,) = lines(called("who", '"ann"', **around))
    (same,) = lines(called("who", '--identifiers={"user":"ann"}', "--stream=chat/1", **around))
    assert ann == same
    assert lines(called("who", "--stream=another", **around)) == []
    (count,) = lines(called("who", "--count", "--since=1h", **around))
    assert count["count"] == 3
    (details,) = lines(called("who", f"--sid={ann['sid']}", **around))
    assert details["subscriptions"] == [{"identifier": CHAT, "streams": ["chat/1"]}]


def test_who_prints_a_table_where_a_person_looks(around: dict[str, str]) -> None:
    with on_a_terminal("who", **around) as (process, ours):
        text = read_all(ours)
        assert process.wait(20) == 0
    title, *rows, note = plain(text)
    assert title.split() == ["SID", "IDENTIFIERS", "ADDRESS", "VIA", "SUBS", "FOR", "NODE"]
    assert len(rows) == 3
    assert note == "3 clients"
    assert max(map(len, (title, *rows))) <= 80
    assert "\x1b[1m" in text
    sids = {each["sid"] for each in lines(called("who", **around))}
    assert {row.split()[0] for row in rows} == sids
    assert {row.split()[1] for row in rows} == {f'{{"user":"{name}"}}' for name in CLIENTS}
    with on_a_terminal("who", "--limit=1", NO_COLOR="1", **around) as (_, ours):
        text = read_all(ours)
    assert "\x1b[" not in text
    assert plain(text)[-1] == "1 client (perhaps more: see --limit)"
    with on_a_terminal("who", "--json", "--count", **around) as (_, ours):
        assert json.loads(read_all(ours))["count"] == 3


def test_a_client_with_its_subscriptions_on_a_terminal(around: dict[str, str]) -> None:
    (ann,) = lines(called("who", '"ann"', **around))
    with on_a_terminal("who", f"--sid={ann['sid']}", **around) as (_, ours):
        text = "\n".join(plain(read_all(ours)))
    assert ann["sid"] in text
    assert CHAT in text
    assert text.splitlines()[-2:] == [f"{'':14}chat/1", "1 subscription"]


def test_streams_and_nodes(around: dict[str, str]) -> None:
    assert lines(called("streams", **around)) == [{"stream": "chat/1", "listeners": 3}]
    assert lines(called("streams", "other", **around)) == []
    assert lines(called("streams", "--channels", **around)) == [
        {"channel": "$pubsub", "subscriptions": 3}
    ]
    nodes = lines(called("nodes", **around))
    assert sorted(each["worker"] for each in nodes) == [1, 2]
    assert sum(each["connections"] for each in nodes) == 3
    with on_a_terminal("nodes", **around) as (_, ours):
        title, *rows, note = plain(read_all(ours))
    assert title.split()[:2] == ["NODE", "NAME"]
    assert (len(rows), note) == (2, "2 nodes")
    assert max(map(len, (title, *rows))) <= 80


def test_stats(around: dict[str, str]) -> None:
    (found,) = lines(called("stats", "clients_num", **around))
    assert found["sum"]["clients_num"] == 3
    assert sum(each["figures"]["clients_num"] for each in found["nodes"]) == 3
    assert all("clients_num" in name for name in found["sum"])
    (found,) = lines(called("stats", "handshake_seconds", **around))
    for figures in (found["sum"], *(each["figures"] for each in found["nodes"])):
        suffixes = ["count", "sum"]
        if figures["handshake_seconds_count"]:  # the kernel may give all clients to one node
            suffixes += ["mean", "p50", "p99"]
            assert 0 < figures["handshake_seconds_p50"] <= figures["handshake_seconds_p99"]
        assert list(figures) == [f"handshake_seconds_{each}" for each in suffixes]
    (found,) = lines(called("stats", "client*", **around))
    assert set(found["sum"]) >= {"clients_num", "client_msg_total"}
    with on_a_terminal("stats", "clients_num", "--each", **around) as (_, ours):
        title, *rows = plain(read_all(ours))
    assert title.split()[:2] == ["METRIC", "VALUE"]
    assert next(row.split()[1] for row in rows if row.startswith("clients_num ")) == "3"


def test_stats_are_refreshed_in_place(around: dict[str, str]) -> None:
    words = ("stats", "--watch", "--interval=0.1s", "client_msg_total", "cluster_questions_total")
    with on_a_terminal(*words, **around) as (process, ours):
        text = read_until(ours, "PER SECOND") + read_until(ours, "\x1b[H")
        text += read_until(ours, "\x1b[J")
        process.send_signal(signal.SIGINT)
        rest = read_all(ours)
        assert process.wait(20) == 130
    assert text.count("\x1b[H") >= 2
    assert "Traceback" not in rest
    row = next(line for line in plain(text)[::-1] if line.startswith("cluster_questions_total"))
    assert float(row.split()[-1].replace(",", "")) > 0
    with on_a_terminal("stats", "--watch", "--interval=0.1s", "--all", **around) as (_, ours):
        text = read_until(ours, " more: name those")
    assert len(plain(text)) <= 24


def test_stats_are_watched_again_after_a_restart_but_never_without_a_server() -> None:
    flags = ("--norpc", "--noauth", "--broadcast_adapter=http", f"--secret={SECRET}")
    with (
        cable_server(*flags) as server,
        subprocess.Popen(
            [str(PROGRAM), "stats", "clients_num", "--watch", "--interval=0.1s"],
            env=environment(**beside(server, SECRET)),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as watching,
    ):
        assert watching.stdout is not None
        assert watching.stderr is not None
        before = json.loads(watching.stdout.readline())["nodes"][0]["node"]
        server.stop()
        assert "away: " in watching.stderr.readline()
        server.restart()
        threading.Thread(target=watching.stderr.read, daemon=True).start()
        while json.loads(watching.stdout.readline())["nodes"][0]["node"] == before:
            pass
        watching.send_signal(signal.SIGINT)
        assert watching.wait(20) == 130
        server.stop()
        assert called("stats", "--watch", **beside(server, SECRET)).returncode == 1


@pytest.mark.parametrize(
    "words",
    [
        ("tail",),
        ("stats", "--watch", "--interval=0.1s"),
        ("subscribe", "--stream=news", "--join", "ann"),
    ],
)
def test_an_outage_is_noted_once_and_not_with_each_attempt(words: tuple[str, ...]) -> None:
    flags = ("--public", "--norpc", "--broadcast_adapter=http", f"--secret={SECRET}")
    with (
        cable_server(*flags) as server,
        subprocess.Popen(
            [str(PROGRAM), *words],
            env=environment(**beside(server, SECRET)),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as process,
    ):
        assert process.stdout is not None
        assert process.stderr is not None
        assert (process.stderr if words[0] == "subscribe" else process.stdout).readline()
        server.stop()
        with socket.create_server(("127.0.0.1", server.port)) as away:
            away.settimeout(60)
            for _ in range(5):
                away.accept()[0].close()
        process.send_signal(signal.SIGINT)
        _, notes = process.communicate(timeout=60)
    assert notes.count("away: ") == 1


def test_stats_may_be_cut_by_a_pipe(around: dict[str, str]) -> None:
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", "catenary stats --watch --interval=0.05s | head -n 2"],
        env=environment(**around),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert len(done.stdout.splitlines()) == 2


def test_tail(server: CableServer, around: dict[str, str]) -> None:
    with subprocess.Popen(
        [str(PROGRAM), "tail", '--identifiers={"user":"dee"}', "--count=4"],
        env=environment(**around),
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        read = [json.loads(process.stdout.readline())]
        while read[-1]["event"] != "following" or read[-1]["total"] != 2:
            read.append(json.loads(process.stdout.readline()))
        with connected(server, "dee") as client:
            client.subscribe(CHAT)
            events = [json.loads(line) for line in process.stdout]
        assert process.wait(20) == 0
    assert [each["event"] for each in events] == [
        *("connected", "transmitted", "received", "subscribed")
    ]
    with on_a_terminal("tail", "--stream=chat/1", "--event=delivered", "--count=1", **around) as (
        process_on_terminal,
        ours,
    ):
        read_until(ours, "following 2 nodes")
        assert called("publish", "chat/1", "hi", **around).returncode == 0
        text = read_all(ours)
        assert process_on_terminal.wait(20) == 0
    (line,) = plain(text)
    assert re.fullmatch(r"[\d:.]{12} delivered +stream=chat/1 messages=1 clients=\d", line)
    assert called("tail", "--count=1", "--timeout=0.1s", **around).returncode == 1
    assert called("tail", "--timeout=0.1s", **around).returncode == 0


def test_disconnect(server: CableServer, around: dict[str, str]) -> None:
    ann = '--identifiers={"user":"eve"}'
    with connected(server, "eve") as client:
        with on_a_terminal("disconnect", ann, **around) as (process, ours):
            read_until(ours, '1 client with the identifiers {"user":"eve"}? [y/N] ')
            os.write(ours, b"n\n")
            assert "nobody was disconnected" in read_all(ours)
            assert process.wait(20) == 1
        with on_a_terminal("disconnect", ann, "--final", **around) as (process, ours):
            read_until(ours, "[y/N] ")
            os.write(ours, b"y\n")
            assert "disconnected 1 client" in read_all(ours)
            assert process.wait(20) == 0
        assert client.receive() == {
            "type": "disconnect",
            "reason": "remote",
            "reconnect": False,
        }
    with connected(server, "fay") as client:
        (found,) = lines(called("who", '"fay"', **around))
        done = called("disconnect", f"--sid={found['sid']}", **around)
        assert (done.returncode, done.stdout) == (0, "disconnected 1 client\n")
        assert client.receive()["reconnect"] is True
    done = called("disconnect", f"--sid={found['sid']}", "--yes", **around)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"catenary disconnect: no node has a client with the sid {found['sid']}\n"
    assert called("disconnect", '--identifiers={"user":"gus"}', **around).returncode == 1


@pytest.mark.parametrize("tool", ["who", "streams", "nodes", "stats", "tail"])
def test_refusals(around: dict[str, str], tool: str) -> None:
    done = called(tool, **{**around, "ANYCABLE_SECRET": "another"})
    assert done.returncode == 1
    assert done.stderr.startswith(
        f"catenary {tool}: the API requires another key (--secret, --key)"
    )
    done = called(tool, "--url=http://127.0.0.1:1/api", "--config-path=/dev/null")
    assert done.returncode == 1
    assert "no server answers at http://127.0.0.1:1/api (Connection refused)" in done.stderr


def test_what_does_not_exist(around: dict[str, str]) -> None:
    done = called("who", "--sid=nobody", **around)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "catenary who: not found: HTTP 404 no such connection\n"
    done = called("tail", "--event=oops", **around)
    assert done.stderr.startswith("catenary tail: the API refuses: HTTP 422 event: unknown 'oops'")


def test_lists_of_many_pages() -> None:
    with paged_api(2_500, missing="n2") as url:
        done = called("who", f"--url={url}")
        assert done.returncode == 1
        found: list[Any] = [json.loads(line) for line in done.stdout.splitlines()]
        assert [each["sid"] for each in found] == [str(number) for number in range(2_500)]
        assert done.stderr == "node n2 is missing: no answer within 10 s\n"
        done = called("who", f"--url={url}", "--limit=1500")
        assert len(done.stdout.splitlines()) == 1_500
        with on_a_terminal("who", f"--url={url}") as (_, ours):
            printed = plain(read_all(ours))
        assert len(printed) == 1 + 1 + 100 + 1
