"""A server whose connections begin with a PROXY protocol header: the client it names, and headers that are refused."""

import contextlib
import signal
import ssl
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.parts.application import TestApplication
from tests.parts.certificates import Authority
from tests.parts.http_app import HttpServer, http_server
from tests.parts.ports import wait_until_listening
from tests.parts.raw_socket import RawSocket, command, upgrade
from tests.parts.reloadable_server import until
from tests.parts.server import OURS, CableServer, cable_server
from tests.wire.test_proxy_protocol import TLS, v2

V1 = b"PROXY TCP4 203.0.113.7 10.0.0.1 5000 443\r\n"
HEALTH = b"GET /health HTTP/1.1\r\nHost: a\r\n\r\n"
FLAGS = (
    "--trusted_proxies=127.0.0.1",
    "--proxy_protocol=all",
    "--broadcast_adapter=http",
    "--broadcast_key=k",
    "--asgi=tests.parts.seen:app",
    "--handshake_timeout=3",  # enough for a TLS handshake on a machine with much to do
)


@pytest.fixture(scope="module")
def app() -> Iterator[HttpServer]:
    with http_server() as app:
        yield app


@pytest.fixture(scope="module")
def server(app: HttpServer) -> Iterator[CableServer]:
    with cable_server(*FLAGS, f"--rpc_host={app.url}") as server:
        yield server


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority()


@pytest.fixture(scope="module")
def secure(
    app: HttpServer, authority: Authority, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[CableServer]:
    path: Path = tmp_path_factory.mktemp("tls") / "server.pem"
    issued = authority.issue("localhost")
    path.write_bytes(issued.certificate + issued.key)
    tls = (f"--ssl_cert={path}", f"--ssl_key={path}")
    # A TLS port answers nothing to what waits for ready servers.
    server = CableServer(OURS, (*FLAGS, *tls, f"--rpc_host={app.url}"), {})
    try:
        wait_until_listening(server.port)
        yield server
    finally:
        server.close()


def connected(app: TestApplication, sid: str) -> tuple[str, str]:
    """The address and the scheme of a client, as the application sees them."""
    (call,) = (call for call in app.calls_of("connect") if call.metadata.get("sid") == sid)
    env = call.request["env"]
    return env["headers"]["REMOTE_ADDR"], env["url"].partition(":")[0]


def untrusted(server: CableServer) -> RawSocket:
    """A connection from an address that is no trusted proxy."""
    return RawSocket(server.port, source="127.0.0.2")


def sid_of(client: RawSocket) -> str:
    assert client.head().startswith("HTTP/1.1 101 ")
    sid: str = client.message()["sid"]
    return sid


@pytest.mark.parametrize(
    ("header", "address", "scheme"),
    [
        pytest.param(V1, "203.0.113.7", "http", id="v1"),
        pytest.param(v2(), "203.0.113.7", "http", id="v2"),
        pytest.param(v2("2001:db8::7"), "2001:db8::7", "http", id="v2 IPv6"),
        pytest.param(v2(rest=TLS), "203.0.113.7", "https", id="v2 TLS"),
        pytest.param(v2(command=0x20), "127.0.0.1", "http", id="LOCAL"),
        pytest.param(b"PROXY UNKNOWN\r\n", "127.0.0.1", "http", id="UNKNOWN"),
    ],
)
def test_the_client_is_that_of_the_header(
    server: CableServer, app: HttpServer, header: bytes, address: str, scheme: str
) -> None:
    with RawSocket(server.port) as client:
        client.send(header + upgrade())
        assert connected(app.application, sid_of(client)) == (address, scheme)
        client.send(command("subscribe", '{"channel":"EchoChannel"}'))
        assert client.message()["identifier"] == '{"channel":"EchoChannel"}'


def test_a_header_in_pieces(server: CableServer, app: HttpServer) -> None:
    data = v2(rest=b"\xea\x03\x00" + bytes(768)) + upgrade()
    with RawSocket(server.port) as client:
        client.send(*(data[at : at + 50] for at in range(0, len(data), 50)))
        assert connected(app.application, sid_of(client))[0] == "203.0.113.7"


def test_the_client_may_be_a_trusted_proxy_itself(server: CableServer, app: HttpServer) -> None:
    """A network load balancer in front of a reverse proxy."""
    with RawSocket(server.port) as client:
        client.send(v2("127.0.0.1") + upgrade("/cable", "X-Forwarded-For: 203.0.113.8"))
        assert connected(app.application, sid_of(client))[0] == "203.0.113.8"
    with RawSocket(server.port) as client:
        client.send(v2("203.0.113.7") + upgrade("/cable", "X-Forwarded-For: 6.6.6.6"))
        assert connected(app.application, sid_of(client))[0] == "203.0.113.7"


def test_requests_that_uvicorn_serves(server: CableServer, app: HttpServer) -> None:
    with RawSocket(server.port) as client:
        client.send(v2(rest=TLS) + b"GET /seen HTTP/1.1\r\nHost: a\r\n\r\n")
        seen = b'{"client": ["203.0.113.7", 5000], "scheme": "https", "host": "a"}'
        assert client.answer()[2] == seen
        client.send(upgrade())
        assert connected(app.application, sid_of(client)) == ("203.0.113.7", "https")


@pytest.mark.parametrize("before", [b"", b"GET /seen HTTP/1.1\r\nHost: a\r\n\r\n"])
def test_websockets_of_a_hosted_application(server: CableServer, before: bytes) -> None:
    with RawSocket(server.port) as client:
        client.send(v2(rest=TLS) + before)
        if before:
            assert client.answer()[0] == 200
        client.send(upgrade("/seen", protocol="x"))
        assert client.head().startswith("HTTP/1.1 101 ")
        seen = {"client": ["203.0.113.7", 5000], "scheme": "wss", "host": "test"}
        assert client.message() == seen


def test_every_port(server: CableServer) -> None:
    with RawSocket(server.broadcast_port) as publisher:
        publisher.send(
            v2("203.0.113.44")
            + b"POST /_broadcast HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n"
        )
        assert publisher.answer()[0] == 401
    server.wait_for_output("remote=203.0.113.44")


def test_a_trusted_proxy_must_send_a_header(server: CableServer) -> None:
    with RawSocket(server.port) as client:
        client.send(HEALTH)
        status, _, body = client.answer()
    assert status == 400
    assert b"expected a PROXY protocol header" in body
    server.wait_for_output("expected a PROXY protocol header")


@pytest.mark.parametrize("header", [V1, v2()])
def test_other_peers_are_clients_and_may_send_none(
    server: CableServer, app: HttpServer, header: bytes
) -> None:
    with untrusted(server) as client:
        client.send(upgrade("/cable", "X-Forwarded-For: 6.6.6.6"))
        assert connected(app.application, sid_of(client))[0] == "127.0.0.2"
    with untrusted(server) as client:
        client.send(header + upgrade())
        status, _, body = client.answer()
    assert (status, body) == (400, b"expected no PROXY protocol header from this peer\n")


def test_a_header_must_be_complete_in_time(server: CableServer) -> None:
    with RawSocket(server.port) as client:
        client.send(b"PROXY TCP4 ")
        assert client.wait_for_end(30) == b""


def test_a_connection_that_ends_before_its_header(server: CableServer) -> None:
    for part in (b"", v2()[:20]):
        with RawSocket(server.port) as client:
            client.send(part)
    with RawSocket(server.port) as client:
        client.send(V1 + HEALTH)
        assert client.answer()[0] == 200


# With TLS, whose handshake follows the header


def tls_client(server: CableServer, authority: Authority, header: bytes) -> RawSocket:
    client = RawSocket(server.port)
    client.send(*(bytes((each,)) for each in header))
    context = ssl.create_default_context(cadata=authority.pem.decode())
    client.socket = context.wrap_socket(client.socket, server_hostname="localhost")
    return client


@pytest.mark.parametrize("header", [V1, v2(), v2(rest=b"\xea\x03\x00" + bytes(768))])
def test_tls_after_the_header(
    secure: CableServer, app: HttpServer, authority: Authority, header: bytes
) -> None:
    with tls_client(secure, authority, header) as client:
        client.send(upgrade())
        assert connected(app.application, sid_of(client)) == ("203.0.113.7", "https")
    with tls_client(secure, authority, header) as client:
        client.send(b"GET /seen HTTP/1.1\r\nHost: a\r\n\r\n")
        assert b'["203.0.113.7", 5000], "scheme": "https"' in client.answer()[2]


def test_tls_of_other_peers(secure: CableServer, app: HttpServer, authority: Authority) -> None:
    context = ssl.create_default_context(cadata=authority.pem.decode())
    with untrusted(secure) as client:
        client.socket = context.wrap_socket(client.socket, server_hostname="localhost")
        client.send(upgrade())
        assert connected(app.application, sid_of(client)) == ("127.0.0.2", "https")


def _unread(port: int) -> int:
    """How many connections of a port have bytes that the server has not read (01: established). Source: proc_net_tcp of Linux."""
    lines = [each.split() for each in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return sum(
        each[1].endswith(f":{port:04X}") and each[3] == "01" and not each[4].endswith(":00000000")
        for each in lines
    )


def test_tls_that_begins_before_its_peer_is_accepted(
    secure: CableServer, authority: Authority
) -> None:
    """The first bytes are there when the connection is."""
    context = ssl.create_default_context(cadata=authority.pem.decode())
    secure.process.send_signal(signal.SIGSTOP)
    with ThreadPoolExecutor(8) as pool:

        def connect(_: int) -> int:
            with untrusted(secure) as client:
                client.socket = context.wrap_socket(client.socket, server_hostname="localhost")
                client.send(HEALTH)
                return client.answer()[0]

        answers = [pool.submit(connect, each) for each in range(8)]
        until(lambda: _unread(secure.port) == 8)
        secure.process.send_signal(signal.SIGCONT)
        assert [each.result() for each in answers] == [200] * 8
    assert "Traceback" not in secure.output()


def test_a_tls_handshake_that_fails_or_does_not_end(secure: CableServer) -> None:
    for data in (V1 + b"no TLS at all\r\n\r\n", V1 + b"\x16\x03\x01", HEALTH):
        with RawSocket(secure.port) as client:
            client.send(data)
            client.wait_for_end(30)
    assert "Traceback" not in secure.output()


# A server that stops


@pytest.mark.parametrize("is_secure", [False, True])
def test_a_header_on_its_way_is_served_at_a_shutdown(
    authority: Authority, tmp_path: Path, *, is_secure: bool
) -> None:
    """As the request of a client without a proxy."""
    issued = authority.issue("localhost")
    (tmp_path / "tls").write_bytes(issued.certificate + issued.key)
    flags: tuple[str, ...] = (*FLAGS, "--norpc", "--public", "--handshake_timeout=30")
    if is_secure:
        flags += (f"--ssl_cert={tmp_path / 'tls'}", f"--ssl_key={tmp_path / 'tls'}")
    server = CableServer(OURS, flags, {})
    context = ssl.create_default_context(cadata=authority.pem.decode())
    with contextlib.closing(server):
        wait_until_listening(server.port)
        with RawSocket(server.port) as client:
            # Accepted before the next one, which is served.
            with untrusted(server) as other:
                if is_secure:
                    other.socket = context.wrap_socket(other.socket, server_hostname="localhost")
                other.send(b"GET /health HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
                assert other.answer()[0] == 200
            server.process.send_signal(signal.SIGTERM)
            with contextlib.suppress(ConnectionRefusedError, ConnectionResetError):
                while True:
                    RawSocket(server.port).socket.close()
            client.send(V1)
            if is_secure:
                client.socket = context.wrap_socket(client.socket, server_hostname="localhost")
            client.send(upgrade())
            assert " 101 " in client.head()
            assert client.message()["type"] == "welcome"
            assert client.message()["reason"] == "server_restart"
            client.goodbye()
        assert server.process.wait(30) == 0
