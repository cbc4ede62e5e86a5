"""Any requests one after another on a connection: each is served by its endpoint, or by uvicorn.

Browsers send them so, and proxies those of different clients.
"""

import json
from collections.abc import Iterator

import pytest

from tests.parts.raw_socket import RawSocket, upgrade
from tests.parts.server import CableServer, cable_server

FLAGS = (
    "--public",
    "--norpc",
    "--sse",
    "--poll",
    "--ds",
    "--presets=broker",
    "--broadcast_adapter=http",
)
HEALTH = b"GET /health HTTP/1.1\r\nHost: test\r\n\r\n"
EVENTS = b"GET /events?stream=hello HTTP/1.1\r\nHost: test\r\n\r\n"


@pytest.fixture(scope="module")
def server() -> Iterator[CableServer]:
    with cable_server(*FLAGS) as server:
        yield server


def post(path: str, body: bytes = b"") -> bytes:
    return (
        f"POST {path} HTTP/1.1\r\nHost: test\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body
    )


def status(client: RawSocket) -> int:
    """That of an answer whose body has no end or no length."""
    return int(client.head().split()[1])


def test_endpoints_and_other_requests_take_turns(server: CableServer) -> None:
    publication = json.dumps({"stream": "hello", "data": '"text"'}).encode()
    with RawSocket(server.port) as client:
        for _ in range(3):
            client.send(HEALTH)
            assert client.answer()[::2] == (200, b"OK\n")
            client.send(post("/lp"))
            assert client.answer()[0] == 200
            client.send(post("/api/publish", publication))
            assert client.answer()[0] == 201
            client.send(b"GET /ds/hello?offset=-1 HTTP/1.1\r\nHost: test\r\n\r\n")
            assert client.answer()[0] == 200
        client.send(EVENTS)
        assert status(client) == 200


def test_an_endpoint_after_publications(server: CableServer) -> None:
    publication = json.dumps({"stream": "hello", "data": '"text"'}).encode()
    with RawSocket(server.broadcast_port) as client:
        client.send(post("/_broadcast", publication))
        assert client.answer()[0] == 201
        client.send(HEALTH)
        assert status(client) == 404


@pytest.mark.parametrize("size", [1, 3, 10, 1000])
@pytest.mark.parametrize("request_bytes", [EVENTS, upgrade(), HEALTH], ids=["sse", "ws", "health"])
def test_the_second_request_in_pieces(server: CableServer, request_bytes: bytes, size: int) -> None:
    with RawSocket(server.port) as client:
        client.send(HEALTH)
        assert client.answer()[0] == 200
        pieces = range(0, len(request_bytes), size)
        client.send(*(request_bytes[at : at + size] for at in pieces))
        assert status(client) in (200, 101)


def test_a_request_after_a_body_that_was_refused(server: CableServer) -> None:
    with RawSocket(server.port) as client:
        client.send(post("/api/publish", b"{"))
        assert client.answer()[0] in (400, 422)
        client.send(EVENTS)
        assert status(client) == 200


def test_the_deadline_of_the_next_head_holds() -> None:
    with cable_server(*FLAGS, "--handshake_timeout=1") as server, RawSocket(server.port) as client:
        client.send(HEALTH)
        assert client.answer()[0] == 200
        client.send(EVENTS[:10])
        assert client.wait_for_end().startswith(b"HTTP/1.1 408 ")
