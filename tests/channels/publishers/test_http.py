"""Publications over HTTP: taken in order, on one connection, or an error that says why not."""

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
class Taken:
    """What a server got, and how it answers."""

    bodies: list[bytes] = field(default_factory=list)
    keys: list[str | None] = field(default_factory=list)
    connections: int = 0
    status: int = 201
    answer: bytes = b""
    location: str = ""
    reads_nothing: bool = False
    hangs_up: bool = False
    url: str = ""
    door: threading.Event = field(default_factory=threading.Event)


@pytest.fixture
def server() -> Iterator[Taken]:
    taken = Taken()
    taken.door.set()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def setup(self) -> None:
            taken.connections += 1
            super().setup()

        def do_POST(self) -> None:
            size = 0 if taken.reads_nothing else int(self.headers["content-length"])
            body = self.rfile.read(size)
            taken.door.wait(5)
            taken.bodies.append(body)
            taken.keys.append(self.headers["authorization"])
            self.send_response(taken.status)
            self.send_header("Content-Length", str(len(taken.answer)))
            if taken.location:
                self.send_header("Location", taken.location)
            self.end_headers()
            self.wfile.write(taken.answer)
            self.close_connection = taken.hangs_up or taken.reads_nothing

        def log_message(self, format: str, *args: object) -> None:
            """Says nothing."""

    http_server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    taken.url = f"http://127.0.0.1:{http_server.server_port}/_broadcast"
    thread = threading.Thread(target=http_server.serve_forever, args=(0.02,))
    thread.start()
    yield taken
    http_server.shutdown()
    http_server.server_close()
    thread.join()


@in_loop
async def _publish(publisher: HttpPublisher, count: int) -> None:
    works = [publisher.publish(b"%d" % number) for number in range(count)]
    for work in works:
        assert work is not None
        await work


def test_in_a_loop_and_without_one_it_is_taken_in_order(server: Taken) -> None:
    publisher = HttpPublisher(server.url, secret="s3cret")
    _publish(publisher, 20)
    assert publisher.publish(b"20") is None
    publisher.close()
    assert server.bodies == [b"%d" % number for number in range(21)]
    assert set(server.keys) == {f"Bearer {derived_key('s3cret', BROADCAST_PHRASE)}"}
    assert server.connections == 1


def test_a_connection_that_the_server_closed_is_replaced(server: Taken) -> None:
    publisher = HttpPublisher(server.url, key="k")
    server.hangs_up = True
    for number in range(3):
        publisher.publish(b"%d" % number)
    publisher.close()
    assert server.bodies == [b"0", b"1", b"2"]
    assert set(server.keys) == {"Bearer k"}


def test_where_a_redirect_leads_is_said(server: Taken) -> None:
    publisher = HttpPublisher(server.url)
    server.status, server.location = 308, "https://me:hush@other.example/_broadcast?key=hush"
    with pytest.raises(BackendError) as failed:
        publisher.publish(b"1")
    publisher.close()
    assert "HTTP 308: redirected to https://other.example/_broadcast" in str(failed.value)
    assert "hush" not in str(failed.value)


def test_what_is_not_taken_is_an_error_and_the_next_is_tried_anew(server: Taken) -> None:
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
def test_a_status_says_whether_it_may_be_taken_later(
    server: Taken, status: int, kind: type[BackendError]
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


def test_a_server_that_refuses_before_it_has_read_everything(server: Taken) -> None:
    publisher = HttpPublisher(server.url)
    publisher.publish(b"first")
    server.status, server.reads_nothing = 413, True
    with pytest.raises(TooLarge, match="HTTP 413"):
        publisher.publish(b"x" * 50_000_000)
    server.status, server.reads_nothing = 201, False
    publisher.publish(b"next")
    publisher.close()
    assert server.bodies == [b"first", b"", b"next"]


def test_what_waits_has_a_limit(server: Taken, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ordered, "BACKLOG", 2)
    publisher = HttpPublisher(server.url)
    server.door.clear()

    async def scenario() -> None:
        waiting = [publisher.publish(b"1"), publisher.publish(b"2")]
        with pytest.raises(BackendError, match="at most 2"):
            publisher.publish(b"3")
        server.door.set()
        for each in waiting:
            assert each is not None
            await each

    asyncio.run(scenario())
    publisher.close()
    assert server.bodies == [b"1", b"2"]


@pytest.mark.parametrize("url", ["", "localhost:8090", "redis://localhost", "http://"])
def test_what_is_no_url_is_refused(url: str) -> None:
    with pytest.raises(ConfigError, match="expected the URL of broadcasts"):
        HttpPublisher(url)
