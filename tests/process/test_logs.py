"""The log of a running server: lines are ours alone, and a flood of requests is no flood of lines."""

import contextlib
import json
import re
import textwrap
import time
from pathlib import Path

import pytest

from tests.api.test_broadcast import request
from tests.parts.raw_socket import RawSocket, command, masked
from tests.parts.server import OURS, CableServer, cable_server

FLAGS = ("--public", "--norpc", "--broadcast_adapter=http", "--broker=memory")
LINE = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z (INFO|WARNING|ERROR|DEBUG) +[a-z]")
FORGED = "2026-11-29T23:59:59.000Z ERROR   server: forged"


def lines_of(server: CableServer) -> list[str]:
    return server.output().removesuffix("\n").split("\n")


@pytest.mark.parametrize("form", ["text", "json"])
def test_nobody_writes_lines_of_their_own(form: str) -> None:
    with cable_server(*FLAGS, f"--log_format={form}", "--log_level=debug") as server:
        with RawSocket(server.port) as client:
            client.open()
            for text in (f"x\n{FORGED}", "\x1b[2J\x9b31m", "\u202eevil", "\u2028" + FORGED):
                client.send(command("message", text, data="{}"))
                client.send(masked(json.dumps({"command": text}).encode()))
                name = json.dumps({"channel": "$pubsub", "stream_name": text}, indent=1)
                client.send(command("subscribe", name))
                client.message()
                asked = {"streams": {text: {"epoch": text, "offset": 5}}}
                client.send(command("history", name, history=asked))
                assert client.message()["type"] == "reject_history"
        with RawSocket(server.broadcast_port) as publisher:
            for body in ({"stream": f"a\n{FORGED}", "data": 1}, {"command": f"x\n{FORGED}"}):
                publisher.send(request(body))
                assert publisher.answer()[0] == 422
        with RawSocket(server.port) as other:
            other.send(f"GET /cable HTTP/1.1\r\nHost: x\r\nOrigin: {FORGED}\r\n\r\n".encode())
            other.answer()
        server.wait_for_output("Request refused")
        assert "forged" in server.output()
        for line in lines_of(server):
            assert line.isprintable()
            assert json.loads(line) if form == "json" else LINE.match(line), line


def test_a_traceback_of_the_application_is_no_line_of_its_own(tmp_path: Path) -> None:
    code = """
        from catenary import Cable, Channel, Connection, action

        class Room(Channel):
            @action
            async def fail(self, text: str) -> None:
                raise ValueError(text)

        cable = Cable(connection=Connection, channels=[Room])
    """
    (tmp_path / "app.py").write_text(textwrap.dedent(code))
    ours, where = (*OURS, "app:cable"), {"PYTHONPATH": str(tmp_path)}
    with cable_server(command=ours, directory=tmp_path, env=where) as server:
        with RawSocket(server.port) as client:
            client.open()
            name = json.dumps({"channel": "Room"})
            client.send(command("subscribe", name))
            client.message()
            data = json.dumps({"action": "fail", "text": f"boom\n{FORGED}\x1b[2J"})
            client.send(command("message", name, data=data))
            server.wait_for_output("boom")
        lines = lines_of(server)
        assert any("ValueError: boom\\n" in line for line in lines)
        for line in lines:
            assert line.isprintable()
            assert LINE.match(line) or line.startswith("  ")
            assert not line.startswith(FORGED)


TIMES = 600


def test_what_a_client_says_is_no_flood_of_lines() -> None:
    long = json.dumps({"channel": "$pubsub", "stream_name": "f", "x": "y" * 7_000})
    asked = {"streams": {"f": {"epoch": "other", "offset": 5}}}
    with cable_server(*FLAGS) as server, RawSocket(server.port) as client:
        client.open().send(command("subscribe", long))
        client.message()
        before = server.output()
        client.send(command("history", long, history=asked) * TIMES)
        for _ in range(TIMES):
            assert client.message()["type"] == "reject_history"
        assert_few_lines(server, before)


def test_publications_that_are_refused_are_no_flood_of_lines() -> None:
    with cable_server(*FLAGS) as server, RawSocket(server.broadcast_port) as publisher:
        before = server.output()
        publisher.send(request({"x": "y" * 1_000}) * TIMES)
        for _ in range(TIMES):
            assert publisher.answer()[0] == 422
        assert_few_lines(server, before)


def test_what_is_no_http_is_no_flood_of_lines() -> None:
    with cable_server(*FLAGS) as server, contextlib.ExitStack() as stack:
        before = server.output()
        # All are there before the first is refused: the flood is as fast as the server.
        clients = [stack.enter_context(RawSocket(server.port)) for _ in range(TIMES)]
        for client in clients:
            client.send(b"FOO bar\r\n\r\n")
        for client in clients:
            client.wait_for_end()
        assert_few_lines(server, before)


def test_faults_of_a_hosted_application_are_no_flood_of_lines(tmp_path: Path) -> None:
    (tmp_path / "pages.py").write_text(
        "async def app(scope, receive, send):\n    raise ValueError(scope['path'])\n"
    )
    where = {"PYTHONPATH": str(tmp_path)}
    with cable_server(*FLAGS, "--asgi=pages:app", directory=tmp_path, env=where) as server:
        before = server.output()
        clients = [RawSocket(server.port) for _ in range(300)]
        for client in clients:
            client.send(b"GET /a%0A2026-forged HTTP/1.1\r\nHost: x\r\n\r\n")
        for client in clients:
            assert client.answer()[0] == 500
            client.socket.close()
        after = server.wait_for_output("suppressed by the rate limit")
        assert after.removeprefix(before).count("ValueError: ") <= 100 * 3
        assert "\n2026-forged" not in after


def assert_few_lines(server: CableServer, before: str) -> None:
    """A hundred a second, then the number of suppressed ones; none of them long."""
    deadline = time.monotonic() + 30
    while True:
        after = server.wait_for_output("suppressed by the rate limit")
        lines = after.removeprefix(before).splitlines()
        told = sum(int(each) for each in re.findall(r"(\d+) log lines .*suppressed by", after))
        # A slow machine needs more than one second for them, and reports more than once.
        if len(lines) + told >= TIMES or time.monotonic() > deadline:
            break
        time.sleep(0.05)
    assert len(lines) < TIMES
    assert all(len(line) < 1_500 for line in lines)
    assert len(lines) + told >= TIMES
