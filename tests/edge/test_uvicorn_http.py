"""Requests that are not for the cable: what uvicorn reads of a head is limited."""

import signal
import time
from collections.abc import Iterator

import pytest

from tests.parts.raw_socket import RawSocket
from tests.parts.server import CableServer, cable_server

HEALTH = b"GET /health HTTP/1.1\r\nHost: test\r\n"


@pytest.fixture(scope="module")
def server() -> Iterator[CableServer]:
    with cable_server(
        "--public",
        "--norpc",
        "--broadcast_adapter=http",
        "--handshake_timeout=1",
        "--max_header_size=2000",
    ) as server:
        yield server


@pytest.fixture
def client(server: CableServer) -> Iterator[RawSocket]:
    """One that has had an answer, so that uvicorn reads what it asks next."""
    with RawSocket(server.port) as client:
        client.send(HEALTH + b"\r\n")
        assert client.answer()[0] == 200
        yield client


def test_a_later_head_that_does_not_end(server: CableServer, client: RawSocket) -> None:
    client.send(HEALTH + b"A: ")
    # After a round trip on another connection, the first piece has been read.
    with RawSocket(server.port) as other:
        other.send(HEALTH + b"\r\n")
        assert other.answer()[0] == 200
    client.send(b"x" * 2500)
    assert client.answer()[0] == 431
    client.wait_for_end()


def test_a_later_head_that_trickles(client: RawSocket) -> None:
    begun = time.monotonic()
    client.send(HEALTH)
    assert client.answer()[0] == 408
    assert time.monotonic() - begun < 4
    client.wait_for_end()


def test_a_later_head_in_pieces_and_in_time(client: RawSocket) -> None:
    for _ in range(4):
        client.send(HEALTH)
        time.sleep(0.4)
        client.send(b"\r\n")
        assert client.answer()[0] == 200


def test_requests_in_one_piece(client: RawSocket) -> None:
    """More than the limit of one head."""
    client.send((HEALTH + b"\r\n") * 100)
    for _ in range(100):
        assert client.answer()[0] == 200


@pytest.mark.parametrize("path", [b"/cable", b"/health", b"/elsewhere"])
def test_a_first_head_that_is_too_long(server: CableServer, path: bytes) -> None:
    with RawSocket(server.port) as client:
        client.send(b"GET " + path + b" HTTP/1.1\r\nA: " + b"x" * 3000 + b"\r\n\r\n")
        assert client.answer()[0] == 431
    with RawSocket(server.port) as client:
        client.send(b"GET " + path + b" HTTP/1.1\r\nA: " + b"x" * 3000)
        assert client.answer()[0] == 431


def test_too_many_headers(server: CableServer) -> None:
    with RawSocket(server.port) as client:
        client.send(b"GET /cable HTTP/1.1\r\n" + b"A:b\r\n" * 200 + b"\r\n")
        status, _, body = client.answer()
        assert (status, body) == (431, b"expected up to 128 headers\n")


@pytest.mark.parametrize(
    ("line", "status"),
    [
        (b"GET http://other/health HTTP/1.1", 200),
        (b"GET http://other/health HTTP/1.0", 200),
        (b"GET http://other HTTP/1.1", 303),
        (b"GET http:///health HTTP/1.1", 400),
        (b"GET http://[::1/health HTTP/1.1", 400),
        (b"OPTIONS * HTTP/1.1", 200),
        (b"GET * HTTP/1.1", 404),
        (b"get /health HTTP/1.1", 405),
        (b"F\xf6\xf6 /health HTTP/1.1", 405),
        (b"CONNECT other:80 HTTP/1.1", 400),
        (b"GET /health HTTP/7.1", 400),
        (b"GET health HTTP/1.1", 400),
    ],
)
def test_targets_and_methods(server: CableServer, line: bytes, status: int) -> None:
    with RawSocket(server.port) as fresh, RawSocket(server.port) as used:
        used.send(HEALTH + b"\r\n")
        assert used.answer()[0] == 200
        for client in (fresh, used):
            client.send(line + b"\r\nHost: test\r\n\r\n")
            answered, headers, body = client.answer()
            assert answered == status
            if status in (400, 405):
                assert body.startswith(b"expected ")
                assert headers["connection"] == "close"


def test_the_host_of_a_url_counts_more_than_the_header(server: CableServer) -> None:
    with RawSocket(server.port) as client:
        client.send(b"GET http://right/health/ HTTP/1.1\r\nHost: wrong\r\n\r\n")
        status, headers, _ = client.answer()
        assert (status, headers["location"]) == (307, "http://right/health")


def test_an_invalid_request_while_a_response_is_being_sent(server: CableServer) -> None:
    """It ends the connection, and nothing stands in the middle of the answer."""
    with RawSocket(server.port) as client:
        client.send(HEALTH + b"\r\n" + b"NONSENSE\r\n\r\n")
        rest = client.wait_for_end()
        assert rest.count(b"HTTP/1.1 ") <= 1


def test_a_client_that_does_not_read_is_cut_off_by_the_shutdown_and_others_get_their_responses() -> (
    None
):
    """uvicorn waited for two thirds of the shutdown timeout, and then logged a traceback for each of them."""
    flags = ("--public", "--norpc", "--broadcast_adapter=http", "--metrics_http=/metrics")
    with (
        cable_server(*flags, "--shutdown_timeout=15") as server,
        RawSocket(server.port, receive_buffer=4096) as stalled,
        RawSocket(server.port, receive_buffer=4096) as slow,
    ):
        requests = 200
        for each in (stalled, slow):
            each.send(b"GET /metrics HTTP/1.1\r\nHost: test\r\n\r\n" * requests)
            assert each.socket.recv(1)
        began = time.monotonic()
        server.process.send_signal(signal.SIGTERM)
        deadline = began + 3
        while time.monotonic() < deadline:
            slow.socket.recv(4096)
            time.sleep(0.1)
        assert slow.socket.recv(4096), "it reads, so it is not cut off"
        slow.socket.close()
        assert server.process.wait(10) == 0
        assert time.monotonic() - began < 8
        assert "Traceback" not in server.output()
        assert "ERROR" not in server.output()
