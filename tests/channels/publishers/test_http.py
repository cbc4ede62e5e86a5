"""Publishing over HTTP: order, connections, errors."""

import asyncio
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from catenary.auth.keys import BROADCAST_PHRASE, derived_key
from catenary.channels.publishers import ordered
from catenary.channels.publishers.http import HttpPublisher
from catenary.errors import BackendError, BackendRefused, ConfigError, TooLarge
from tests.parts.heart import in_loop
from tests.parts.ports import free_port


@dataclass
class RecordingServer:
    """The requests to a server, and how it answers the next ones."""

    bodies: list[bytes] = field(default_factory=list)
    keys: list[str | None] = field(default_factory=list)
    connections: int = 0
    status: int = 201
    answer: bytes = b""
    location: str = ""
    reads_no_body: bool = False
    closes: bool = False
    url: str = ""
    gate: threading.Event = field(default_factory=threading.Event)


@pytest.fixture
def server() -> Iterator[RecordingServer]:
    recorded = RecordingServer()
    recorded.gate.set()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def setup(self) -> None:
            recorded.connections += 1
            super().setup()

        def do_POST(self) -> None:
            size = 0 if recorded.reads_no_body else int(self.headers["content-length"])
            body = self.rfile.read(size)
            recorded.gate.wait(5)
            recorded.bodies.append(body)
            recorded.keys.append(self.headers["authorization"])
            self.send_response(recorded.status)
            self.send_header("Content-Length", str(len(recorded.answer)))
            if recorded.location:
                self.send_header("Location", recorded.location)
            self.end_headers()
            self.wfile.write(recorded.answer)
            self.close_connection = recorded.closes or recorded.reads_no_body

        def log_message(self, format: str, *args: object) -> None:
            """Logs nothing."""

    http_server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    recorded.url = f"http://127.0.0.1:{http_server.server_port}/_broadcast"
    thread = threading.Thread(target=http_server.serve_forever, args=(0.02,))
    thread.start()
    yield recorded
    http_server.shutdown()
    http_server.server_close()
    thread.join()


@in_loop
async def _publish(publisher: HttpPublisher, count: int) -> None:
    works = [publisher.publish(b"%d" % number) for number in range(count)]
    for work in works:
        assert work is not None
        await work


def test_publications_are_sent_in_order_on_one_connection(server: RecordingServer) -> None:
    publisher = HttpPublisher(server.url, secret="s3cret")
    _publish(publisher, 20)
    assert publisher.publish(b"20") is None
    publisher.close()
    assert server.bodies == [b"%d" % number for number in range(21)]
    assert set(server.keys) == {f"Bearer {derived_key('s3cret', BROADCAST_PHRASE)}"}
    assert server.connections == 1


def test_a_connection_that_the_server_closed_is_replaced(server: RecordingServer) -> None:
    publisher = HttpPublisher(server.url, key="k")
    server.closes = True
    for number in range(3):
        publisher.publish(b"%d" % number)
    publisher.close()
    assert server.bodies == [b"0", b"1", b"2"]
    assert set(server.keys) == {"Bearer k"}


def test_a_redirect_is_an_error_with_its_location(server: RecordingServer) -> None:
    publisher = HttpPublisher(server.url)
    server.status, server.location = 308, "https://me:hush@other.example/_broadcast?key=hush"
    with pytest.raises(BackendError) as failed:
        publisher.publish(b"1")
    publisher.close()
    assert "HTTP 308: redirected to https://other.example/_broadcast" in str(failed.value)
    assert "hush" not in str(failed.value)


def test_a_refused_publication_is_an_error_and_the_next_one_is_sent(
    server: RecordingServer,
) -> None:
    publisher = HttpPublisher(server.url)
    server.status = 401
    with pytest.raises(BackendError, match="HTTP 401"):
        publisher.publish(b"1")
    server.status = 201
    assert publisher.publish(b"2") is None
    publisher.close()
    away = HttpPublisher(f"http://127.0.0.1:{free_port()}/_broadcast", timeout_s=1)
    with pytest.raises(BackendError, match="no server accepts broadcasts at http://127"):
        away.publish(b"1")
    away.close()


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (301, BackendRefused),
        (401, BackendRefused),
        (404, BackendRefused),
        (413, TooLarge),
        (422, BackendRefused),
        (501, BackendRefused),
        (408, BackendError),
        (429, BackendError),
        (500, BackendError),
        (502, BackendError),
        (503, BackendError),
    ],
)
def test_the_status_decides_whether_a_refusal_is_lasting(
    server: RecordingServer, status: int, kind: type[BackendError]
) -> None:
    server.status = status
    server.answer = b'{"error":"not published: too long"}'
    publisher = HttpPublisher(server.url)
    with pytest.raises(BackendError, match=f"HTTP {status}: not published: too long") as caught:
        publisher.publish(b"1")
    assert type(caught.value) is kind
    server.answer = b"<html>"
    with pytest.raises(BackendError, match=f"HTTP {status}$"):
        publisher.publish(b"2")
    publisher.close()
    assert server.bodies == [b"1", b"2"]


def test_a_refusal_before_the_whole_body_is_read(server: RecordingServer) -> None:
    publisher = HttpPublisher(server.url)
    publisher.publish(b"first")
    server.status, server.reads_no_body = 413, True
    with pytest.raises(TooLarge, match="HTTP 413"):
        publisher.publish(b"x" * 50_000_000)
    server.status, server.reads_no_body = 201, False
    publisher.publish(b"next")
    publisher.close()
    assert server.bodies == [b"first", b"", b"next"]


def test_publications_under_way_are_limited(
    server: RecordingServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ordered, "BACKLOG", 2)
    publisher = HttpPublisher(server.url)
    server.gate.clear()

    async def scenario() -> None:
        waiting = [publisher.publish(b"1"), publisher.publish(b"2")]
        with pytest.raises(BackendError, match="at most 2"):
            publisher.publish(b"3")
        server.gate.set()
        for each in waiting:
            assert each is not None
            await each

    asyncio.run(scenario())
    publisher.close()
    assert server.bodies == [b"1", b"2"]


@pytest.mark.parametrize("url", ["", "localhost:8090", "redis://localhost", "http://"])
def test_an_invalid_url_is_refused(url: str) -> None:
    with pytest.raises(ConfigError, match="expected the URL of broadcasts"):
        HttpPublisher(url)
