"""Request heads of a running server: however they are split, too long, too slow, too many."""

import asyncio
import contextlib
import signal
import socket
import ssl
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import uvloop

from catenary.edge.sniffer import LAST_REQUEST_S, at_last
from tests.api.test_broadcast import cpu_s
from tests.parts.certificates import Authority
from tests.parts.ports import wait_until_listening
from tests.parts.raw_socket import CLOSE, RawSocket, masked, upgrade
from tests.parts.server import OURS, CableServer, cable_server

PUBLIC = ("--public", "--norpc", "--broadcast_adapter=http", "--ping_interval=100")
PING = masked(b"x", 0x9)


@pytest.fixture(scope="module")
def server() -> Iterator[CableServer]:
    with cable_server(*PUBLIC) as server:
        yield server


def get(path: str, *headers: str) -> bytes:
    return ("\r\n".join([f"GET {path} HTTP/1.1", "Host: test", *headers]) + "\r\n\r\n").encode()


# Request heads


def test_a_head_split_at_every_byte(server: CableServer) -> None:
    head = upgrade("/cable?a=b")

    def split(at: int) -> None:
        with RawSocket(server.port) as client:
            client.send(head[:at])
            # After a round trip on another connection, the first piece has been read.
            with RawSocket(server.port) as other:
                other.send(get("/health"))
                assert other.answer()[0] == 200
            client.send(head[at:])
            assert client.head().startswith("HTTP/1.1 101 ")
            assert client.message()["type"] == "welcome"

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(split, range(1, len(head))))


def test_a_head_byte_by_byte(server: CableServer) -> None:
    head = upgrade()
    with RawSocket(server.port) as client:
        client.send(*(head[i : i + 1] for i in range(len(head))))
        assert client.head().startswith("HTTP/1.1 101 ")


@pytest.mark.parametrize("split", [1, 4, 8, 20])
def test_other_requests_are_served_however_they_are_split(server: CableServer, split: int) -> None:
    head = get("/health")
    with RawSocket(server.port) as client:
        for _ in range(2):
            client.send(*(head[i : i + split] for i in range(0, len(head), split)))
            assert client.answer()[::2] == (200, b"OK\n")


@pytest.mark.parametrize("path", ["/cable", "/health"])
def test_a_head_that_is_too_large(server: CableServer, path: str) -> None:
    with RawSocket(server.port) as client:
        client.send(upgrade(path, "X-Large: " + "x" * 66_000))
        status, _, body = client.answer()
        if path == "/cable":
            assert status == 431
            assert b"expected a request head of up to 65536 bytes" in body
        else:
            assert status == 431
    with RawSocket(server.port) as client:
        client.open()


def test_a_large_head_that_is_not_too_large(server: CableServer) -> None:
    with RawSocket(server.port) as client:
        client.open("/cable", "X-Large: " + "x" * 60_000)


def test_a_head_that_comes_too_slowly(server: CableServer) -> None:
    """Several clients at once: one says half, one nothing, one half for no cable, one is in time."""
    began = time.monotonic()
    with (
        RawSocket(server.port) as half,
        RawSocket(server.port) as silent,
        RawSocket(server.port) as elsewhere,
        RawSocket(server.port) as cable,
    ):
        half.send(upgrade()[:-4])
        elsewhere.send(get("/health")[:-4])
        cable.open()
        status, _, body = half.answer()
        assert (status, body) == (408, b"expected a request within 5 s\n")
        assert 4.5 < time.monotonic() - began < 8
        assert half.wait_for_end(1) == b""
        assert elsewhere.answer()[0] == 408
        assert silent.wait_for_end(2) == b""
        cable.send(PING)
        assert cable.frame() == (0xA, b"x")


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (get("/cable"), 426),
        (upgrade().replace(b"GET", b"POST"), 405),
        (upgrade().replace(b"Version: 13", b"Version: 8"), 426),
        (upgrade().replace(b"Host: test\r\n", b""), 400),
        (upgrade().replace(b"HTTP/1.1", b"HTTP/2.0"), 505),
        (upgrade("http:///cable"), 400),
        (upgrade("http://test/elsewhere"), 404),
        (upgrade().replace(b"dGhl", b"!!!!"), 400),
        (upgrade("/elsewhere"), 404),
        (b"NONSENSE\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n", 400),
    ],
)
def test_requests_that_are_not_handshakes_get_an_http_response(
    server: CableServer, head: bytes, status: int
) -> None:
    with RawSocket(server.port) as client:
        client.send(head)
        assert client.head().split()[1] == str(status)


def test_the_refusal_of_a_head_request_has_no_content(server: CableServer) -> None:
    with RawSocket(server.port) as client:
        client.send(upgrade().replace(b"GET", b"HEAD"))
        assert client.head().startswith("HTTP/1.1 405 ")
        assert client.wait_for_end() == b""


@pytest.mark.parametrize("is_used", [False, True], ids=["fresh", "used"])
def test_the_memory_of_all_incomplete_heads_is_limited(is_used: bool) -> None:
    """The oldest request is refused, whether the sniffer or uvicorn reads it."""
    with cable_server(*PUBLIC, "--max_pending_requests_size=100000") as server:
        clients = [RawSocket(server.port) for _ in range(5)]
        for client in clients:
            if is_used:
                client.send(get("/health"))
                client.answer()
            client.send(upgrade()[:-2] + b"Filler: ")
            with RawSocket(server.port) as other:
                # After a round trip elsewhere, what was sent has been read.
                other.send(get("/health"))
                other.answer()
            client.send(b"x" * 30_000)
        for client in clients[:2]:
            status, headers, _ = client.answer()
            assert status == 503
            assert 5 <= int(headers["retry-after"]) <= 15
        for client in clients[2:]:
            client.send(b"\r\n\r\n")
            client.opened()
        for client in clients:
            client.socket.close()


def test_a_head_byte_by_byte_is_neither_copied_nor_searched_each_time() -> None:
    head = upgrade()[:-2] + b"Filler: " + b"x" * 60_000
    with cable_server(*PUBLIC) as server, RawSocket(server.port) as client:
        client.send(head)
        before = cpu_s(server)
        for _ in range(4_000):
            client.send(b"x")
        client.send(b"\r\n\r\n")
        client.opened()
        assert cpu_s(server) - before < 0.4


def test_more_connections_than_allowed() -> None:
    with cable_server(*PUBLIC, "--max_conn=3") as server:
        clients = [RawSocket(server.port).open() for _ in range(3)]
        with RawSocket(server.port) as fourth:
            fourth.send(upgrade())
            status, headers, _ = fourth.answer()
            assert status == 503
            assert 5 <= int(headers["retry-after"]) <= 15
        with RawSocket(server.port) as other:
            other.send(get("/health"))
            assert other.answer()[0] == 200
        clients[0].send(masked(b"", CLOSE))
        clients[0].wait_for_end()
        clients.append(RawSocket(server.port).open())
        for client in clients:
            client.socket.close()


def test_a_tls_handshake_on_its_way_is_served_at_a_shutdown(tmp_path: Path) -> None:
    """The server knows the connection only after the handshake."""
    authority = Authority()
    issued = authority.issue("localhost")
    (tmp_path / "tls").write_bytes(issued.certificate + issued.key)
    files = (f"--ssl_cert={tmp_path / 'tls'}", f"--ssl_key={tmp_path / 'tls'}")
    context = ssl.create_default_context(cadata=authority.pem.decode())
    with contextlib.closing(CableServer(OURS, (*PUBLIC, *files), {})) as server:
        wait_until_listening(server.port)
        with RawSocket(server.port) as client:
            with RawSocket(server.port, tls=context) as other:
                other.send(get("/health", "Connection: close"))
                assert other.answer()[0] == 200
            server.process.send_signal(signal.SIGTERM)
            with contextlib.suppress(ConnectionRefusedError, ConnectionResetError):
                while True:
                    RawSocket(server.port).socket.close()
            client.socket = context.wrap_socket(client.socket, server_hostname="localhost")
            client.send(upgrade())
            assert " 101 " in client.head()
            assert client.message()["type"] == "welcome"
            assert client.message()["reason"] == "server_restart"
            client.goodbye()
        assert server.process.wait(30) == 0


def test_what_arrives_while_the_loop_is_busy_is_read_before_the_last_moment_ends() -> None:
    events: list[str] = []

    class Noting(asyncio.Protocol):
        def data_received(self, data: bytes) -> None:
            events.append("data")

    async def late() -> None:
        loop = asyncio.get_running_loop()
        ended = loop.create_future()
        ours, theirs = socket.socketpair()
        busy_ours, busy_theirs = socket.socketpair()

        class Busy(asyncio.Protocol):
            def data_received(self, data: bytes) -> None:
                time.sleep(LAST_REQUEST_S)
                theirs.send(b"GET")

        def end() -> None:
            events.append("end")
            ended.set_result(None)

        noting, _ = await loop.create_connection(Noting, sock=ours)
        busy, _ = await loop.create_connection(Busy, sock=busy_ours)
        at_last(end)
        await asyncio.sleep(LAST_REQUEST_S / 2)
        busy_theirs.send(b"x")
        await ended
        for each in (noting, busy):
            each.close()
        for peer in (theirs, busy_theirs):
            peer.close()

    uvloop.run(late())
    assert events == ["data", "end"]


def test_requests_on_their_way_are_served_at_a_shutdown() -> None:
    """Their clients were accepted before, and can't know that the server is about to stop."""
    with (
        cable_server(*PUBLIC) as server,
        RawSocket(server.port) as prober,
        RawSocket(server.port) as cable,
        RawSocket(server.broadcast_port) as publisher,
    ):
        cable.send(upgrade()[:20])
        with RawSocket(server.port) as other:
            # Those before it have been accepted.
            other.send(get("/health", "Connection: close"))
            assert other.answer()[0] == 200
        server.process.send_signal(signal.SIGTERM)
        # Until they are refused, or reset in the queue of the socket that is closed
        with contextlib.suppress(ConnectionRefusedError, ConnectionResetError):
            while True:
                RawSocket(server.port).socket.close()
        cable.send(upgrade()[20:])
        prober.send(get("/health"))
        publisher.send(
            b"POST /_broadcast HTTP/1.1\r\nHost: x\r\nContent-Length: 25\r\n\r\n"
            b'{"stream":"s","data":"1"}'
        )
        assert prober.answer()[0] == 200
        assert publisher.answer()[0] == 201
        assert " 101 " in cable.head()
        assert cable.message()["type"] == "welcome"
        assert cable.message()["reason"] == "server_restart"
        assert prober.wait_for_end() == b""
        assert publisher.wait_for_end() == b""
        assert cable.goodbye()[0] == 1001
        cable.send(masked(b"\x03\xe9", CLOSE))
        assert server.process.wait(30) == 0
