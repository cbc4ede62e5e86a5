"""``--asgi``: an ASGI application on the port of the cable, in a running server."""

import json
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator

import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from tests.parts.cable_client import CableClient, confirmed, delivered, identifier
from tests.parts.ports import free_port
from tests.parts.raw_socket import RawSocket, upgrade
from tests.parts.server import OURS, CableServer, cable_server

CABLE = (*OURS, "tests.channels.served:cable")
HTTP = "--broadcast_adapter=http"
APP = "tests.parts.web_app"


@pytest.fixture(scope="module")
def server() -> Iterator[CableServer]:
    with cable_server(
        HTTP, f"--asgi={APP}:hosted", "--metrics_http=/metrics", command=CABLE
    ) as server:
        yield server


def fetch(server: CableServer, path: str, body: bytes | None = None, proto: str = "http") -> bytes:
    url = f"http://127.0.0.1:{server.port}{path}"
    request = urllib.request.Request(url, body, {"X-Forwarded-Proto": proto})
    with urllib.request.urlopen(request, timeout=30) as answer:
        assert answer.headers["date"]
        content: bytes = answer.read()
        return content


def refused(server: CableServer, path: str) -> int:
    with pytest.raises(urllib.error.HTTPError) as error:
        fetch(server, path)
    error.value.close()
    return error.value.code


def test_requests_without_a_route_of_the_server_reach_the_application(server: CableServer) -> None:
    page = json.loads(fetch(server, "/page"))
    assert page == {"pid": server.process.pid, "scheme": "http", "state": "with state"}
    assert refused(server, "/nothing") == 404


def test_requests_with_a_route_of_the_server_do_not_reach_the_application(
    server: CableServer,
) -> None:
    assert fetch(server, "/health") == b"OK\n"
    assert b"clients_num" in fetch(server, "/metrics")
    assert refused(server, "/cable") == 426


def test_a_proxy_on_this_machine_is_trusted(server: CableServer) -> None:
    page = json.loads(fetch(server, "/page", proto="https"))
    assert page["scheme"] == "https"


def test_pages_and_threads_publish_to_the_cable(server: CableServer) -> None:
    pages_publish(server)


def pages_publish(server: CableServer) -> None:
    room = identifier("RoomChannel", id=7, quiet=True)
    with CableClient(f"{server.cable_url}?name=jack") as jack:
        jack.receive_welcome()
        assert jack.subscribe(room) == confirmed(room)
        assert jack.receive() == delivered(room, {"hello": "jack"})
        fetch(server, "/say/7", b"")
        assert jack.receive() == delivered(room, {"text": "by a page"})
        fetch(server, "/say_in_thread/7", b"")
        assert jack.receive() == delivered(room, {"text": "by a thread"})


def test_the_application_serves_its_own_websockets(server: CableServer) -> None:
    with connect(f"ws://127.0.0.1:{server.port}/echo", proxy=None) as socket:
        socket.send("hello")
        assert socket.recv(5) == "HELLO"
    with pytest.raises(InvalidStatus, match="403"):
        connect(f"ws://127.0.0.1:{server.port}/nothing", proxy=None)


def test_a_connection_that_asked_for_a_page_becomes_either_kind_of_websocket(
    server: CableServer,
) -> None:
    for path, first in (("/cable?name=jack", b'{"type":"welcome"'), ("/echo", b"")):
        with RawSocket(server.port) as client:
            client.send(b"GET /page HTTP/1.1\r\nHost: test\r\n\r\n")
            assert client.answer()[0] == 200
            client.send(upgrade(path))
            assert client.head().startswith("HTTP/1.1 101 ")
            if first:
                assert client.message()["type"] == "welcome"


def test_a_lifespan_begins_before_the_first_client_and_ends_after_the_last() -> None:
    with cable_server(HTTP, f"--asgi={APP}:hosted", command=CABLE) as server:
        client = CableClient(f"{server.cable_url}?name=jack")
        client.receive_welcome()
        assert "the lifespan begins" in server.output()
        assert server.stop() == 0
        assert client.receive()["reason"] == "server_restart"
        client.close()
        output = server.output()
        assert output.index("shutting down") < output.index("the lifespan has ended")
        assert output.index("the lifespan has ended") < output.index("Stopped")


def test_every_worker_runs_the_application() -> None:
    with cable_server(HTTP, "--workers=2", f"--asgi={APP}:hosted", command=CABLE) as server:
        pids: set[int] = set()
        while len(pids) < 2:
            pids.add(json.loads(fetch(server, "/page"))["pid"])
        assert server.process.pid not in pids
        assert server.stop() == 0
        assert server.output().count("the lifespan has ended") == 2


def test_an_application_without_a_cable_or_a_lifespan() -> None:
    with cable_server("--norpc", HTTP, f"--asgi={APP}:plain") as server:
        assert fetch(server, "/any/path") == b"/any/path"
        server.wait_for_output("has no lifespan")
        assert server.stop() == 0


def test_a_failure_at_the_shutdown_is_logged() -> None:
    with cable_server("--norpc", HTTP, f"--asgi={APP}:failing_at_shutdown") as server:
        assert server.stop() == 0
        assert "LookupError: still in use" in server.output()


def test_a_cable_is_not_both_mounted_and_in_a_server_of_its_own() -> None:
    ports = (f"--port={free_port()}", f"--http_broadcast_port={free_port()}")
    command = [*CABLE, HTTP, *ports, f"--asgi={APP}:twice"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert "got one that is both" in done.stderr.splitlines()[-1]


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        (
            f"{APP}:broken",
            f"catenary: asgi: {APP}:broken could not start: LookupError: no database",
        ),
        (f"{APP}:wsgi", "expected an ASGI application, which is called with scope"),
        (f"{APP}:nothing", "got nothing"),
        ("no_such_module:app", "no module 'no_such_module'"),
        ("app", "expected an ASGI application as module:name, got 'app'"),
    ],
)
def test_an_application_that_cannot_be_served_ends_the_start_with_one_line(
    where: str, expected: str
) -> None:
    flags = ["--norpc", HTTP, f"--port={free_port()}", f"--http_broadcast_port={free_port()}"]
    done = subprocess.run(
        [*OURS, *flags, f"--asgi={where}"], capture_output=True, text=True, timeout=60
    )
    errors = [line for line in done.stderr.splitlines() if line.startswith("catenary: ")]
    assert (done.returncode, len(errors)) == (1, 1), done.stderr
    assert expected in errors[0]


def test_a_lifespan_that_fails_later_is_reported() -> None:
    with cable_server(HTTP, f"--asgi={APP}:failing_later", command=CABLE) as server:
        assert fetch(server, "/ready") == b"OK\n"
        assert fetch(server, "/page") == b"/page"
        output = server.wait_for_output("LookupError: the database is gone")
        assert f"the lifespan of {APP}:failing_later has failed" in output
        with pytest.raises(urllib.error.HTTPError, match="503") as error:
            fetch(server, "/ready")
        assert error.value.read() == b"a service of the server has failed\n"
        assert fetch(server, "/page") == b"/page"
