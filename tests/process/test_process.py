"""The process from outside: TLS, start, crowds, signals, shutdown."""

import contextlib
import datetime as dt
import json
import signal
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from catenary.process.listener import ACCEPTS_IN_A_CROWD, ACCEPTS_PER_TURN, CROWD
from tests.parts.ports import free_port, wait_until_listening
from tests.parts.raw_socket import CLOSE, RawSocket, command, masked, upgrade
from tests.parts.server import OURS, CableServer, cable_server

PUBLIC = ("--public", "--norpc", "--broadcast_adapter=http", "--ping_interval=100")
PING = masked(b"x", 0x9)


@pytest.fixture(scope="module")
def server() -> Iterator[CableServer]:
    with cable_server(*PUBLIC) as server:
        yield server


def get(path: str, *headers: str) -> bytes:
    return ("\r\n".join([f"GET {path} HTTP/1.1", "Host: test", *headers]) + "\r\n\r\n").encode()


# TLS


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A certificate for localhost, signed by itself, and its key."""
    folder = tmp_path_factory.mktemp("tls")
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = dt.datetime.now(dt.UTC)
    signed = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    (folder / "cert.pem").write_bytes(signed.public_bytes(serialization.Encoding.PEM))
    (folder / "key.pem").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return folder / "cert.pem", folder / "key.pem"


def test_tls(certificate: tuple[Path, Path]) -> None:
    cert, key = certificate
    trusting = ssl.create_default_context(cafile=str(cert))
    flags = (*PUBLIC, f"--ssl_cert={cert}", f"--ssl_key={key}")
    server = CableServer(OURS, flags, {})
    try:
        wait_until_listening(server.port)
        with RawSocket(server.port, tls=trusting) as client:
            head = upgrade()
            client.send(head[:30], head[30:] + PING)
            assert client.head().startswith("HTTP/1.1 101 ")
            assert client.message()["type"] == "welcome"
            assert client.frame() == (0xA, b"x")
            client.send(masked(b"", CLOSE))
            assert client.goodbye() == (1000, b"")
            assert client.wait_for_end(4) == b""
        with RawSocket(server.port, tls=trusting) as client:
            client.send(get("/health"))
            assert client.answer()[0] == 200
        with RawSocket(server.port) as plain:
            plain.send(get("/health"))
            assert not plain.wait_for_end(4).startswith(b"HTTP")
        with RawSocket(server.port, tls=trusting) as client:
            client.open()
            server.process.send_signal(signal.SIGTERM)
            assert client.message()["reason"] == "server_restart"
            assert client.goodbye()[0] == 1001
        assert server.process.wait(6) == 0
        assert f"wss://127.0.0.1:{server.port}/cable" in server.output()
    finally:
        server.close()


def start(*flags: str) -> subprocess.CompletedProcess[str]:
    """Runs to the end, which must come soon."""
    return subprocess.run(
        [sys.executable, "-m", "catenary", *PUBLIC, *flags],
        capture_output=True,
        text=True,
        timeout=10,
    )


def test_a_certificate_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "x.pem").write_text("garbage")
    ended = start(
        f"--ssl_cert={tmp_path}/x.pem", f"--ssl_key={tmp_path}/x.pem", f"--port={free_port()}"
    )
    assert ended.returncode == 1
    assert "ssl_cert, ssl_key: expected a certificate" in ended.stderr
    assert "Traceback" not in ended.stderr


# Start


def test_a_port_that_is_taken(server: CableServer) -> None:
    ended = start("--host=127.0.0.1", f"--port={server.port}")
    assert ended.returncode == 1
    complaint = ended.stderr.splitlines()[-1]
    assert complaint.startswith("catenary: port: can't listen on 127.0.0.1:")
    assert "in use" in complaint
    assert "Traceback" not in ended.stderr


def test_it_answers_within_a_second_of_its_start() -> None:
    port = free_port()
    quickest = 10.0
    for _ in range(3):
        began = time.monotonic()
        process = subprocess.Popen(
            [sys.executable, "-m", "catenary", *PUBLIC, "--host=127.0.0.1", f"--port={port}"],
            stderr=subprocess.DEVNULL,
        )
        try:
            while time.monotonic() - began < 10:
                try:
                    with RawSocket(port) as client:
                        client.open()
                        break
                except OSError:
                    time.sleep(0.005)
            quickest = min(quickest, time.monotonic() - began)
        finally:
            process.kill()
            process.wait()
        if quickest < 1:
            return
    assert quickest < 1


# End

FAREWELL = {"type": "disconnect", "reason": "server_restart", "reconnect": True}


def open_clients(server: CableServer, number: int) -> list[RawSocket]:
    return [RawSocket(server.port).open() for _ in range(number)]


def test_at_the_end_each_client_gets_its_farewell() -> None:
    with cable_server(*PUBLIC, "--shutdown_timeout=5") as server:
        clients = open_clients(server, 300)
        began = time.monotonic()
        server.process.send_signal(signal.SIGTERM)
        for client in clients:
            assert client.message() == FAREWELL
            assert client.goodbye()[0] == 1001
            client.send(masked(b"\x03\xe9", CLOSE))
        for client in clients:
            assert client.wait_for_end(5) == b""
            client.socket.close()
        assert server.process.wait(5) == 0
        # Everybody answered: nobody had to be waited for.
        assert time.monotonic() - began < 3
        with pytest.raises(ConnectionRefusedError):
            RawSocket(server.port)


def test_the_end_is_not_delayed_by_those_who_do_not_play_along() -> None:
    """One never answers the close frame, one does not even read, one is in the middle of a request."""
    with (
        cable_server(*PUBLIC, "--shutdown_timeout=8") as server,
        RawSocket(server.port) as silent,
        RawSocket(server.port, receive_buffer=4096) as deaf,
        RawSocket(server.port) as polite,
        RawSocket(server.port) as half,
        RawSocket(server.port) as idle,
    ):
        flood = json.dumps({"channel": "$pubsub", "stream_name": "flood"})
        deaf.open().send(command("subscribe", flood))
        silent.open()
        polite.open()
        half.send(get("/health")[:10])
        idle.send(get("/health"))
        assert idle.answer()[0] == 200
        assert deaf.message()["type"] == "confirm_subscription"
        for _ in range(60):
            broadcast(server, {"stream": "flood", "data": json.dumps("x" * 60_000)})
        began = time.monotonic()
        server.process.send_signal(signal.SIGTERM)
        for client in (silent, polite):
            assert client.message() == FAREWELL
            assert client.goodbye()[0] == 1001
        polite.send(masked(b"\x03\xe9", CLOSE))
        assert polite.wait_for_end(1) == b""
        assert server.process.wait(8) == 0
        assert time.monotonic() - began < 6


def test_a_slow_drain_tells_one_after_the_other_and_serves_the_rest_meanwhile() -> None:
    news = json.dumps({"channel": "$pubsub", "stream_name": "news"})
    with cable_server(*PUBLIC, "--shutdown_slowdrain", "--shutdown_timeout=5") as server:
        clients = open_clients(server, 10)
        for client in clients:
            client.send(command("subscribe", news))
            assert client.message()["type"] == "confirm_subscription"
        server.process.send_signal(signal.SIGTERM)
        assert "Disconnecting 10 clients within 4.0 s" in server.wait_for_output("Disconnecting ")
        with pytest.raises(ConnectionRefusedError):
            RawSocket(server.port)
        broadcast(server, {"stream": "news", "data": '"still here"'})
        with ThreadPoolExecutor(len(clients)) as pool:
            farewells = list(pool.map(_farewell, clients))
        told_at = sorted(at for at, _ in farewells)
        assert told_at[-1] - told_at[0] > 3
        assert max(later - at for at, later in pairwise(told_at)) < 2
        # Who was told before the publication came has missed it, and nobody else.
        assert sum(heard for _, heard in farewells) >= 8
        assert server.process.wait(5) == 0


def _farewell(client: RawSocket) -> tuple[float, bool]:
    """When it was told, and whether it heard something before; it answers as clients do."""
    with client:
        said = client.message()
        has_heard = said.get("message") == "still here"
        if has_heard:
            said = client.message()
        at = time.monotonic()
        assert said == FAREWELL
        assert client.goodbye()[0] == 1001
        client.send(masked(b"\x03\xe9", CLOSE))
        return at, has_heard


def test_a_slow_drain_of_nobody_takes_no_time() -> None:
    with cable_server(*PUBLIC, "--shutdown_slowdrain") as server:
        began = time.monotonic()
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(10) == 0
        assert time.monotonic() - began < 3


def broadcast(server: CableServer, publication: object) -> None:
    body = json.dumps(publication).encode()
    with RawSocket(server.broadcast_port) as publisher:
        publisher.send(
            b"POST /_broadcast HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body) + body
        )
        assert publisher.answer()[0] == 201


def accepts_per_turn(server: CableServer) -> int:
    """How often the loop polls the socket that the port listens on: it accepts one connection in a
    turn from each."""
    process = Path(f"/proc/{server.process.pid}")
    (inode,) = {
        fields[9]
        for line in (process / "net/tcp").read_text().splitlines()[1:]
        if (fields := line.split())[3] == "0A" and int(fields[1].split(":")[1], 16) == server.port
    }
    polled = 0
    for each in (process / "fdinfo").iterdir():
        with contextlib.suppress(FileNotFoundError):  # closed meanwhile
            polled += each.read_text().count(f" ino:{int(inode):x} ")
    return polled


def let_a_crowd_in(server: CableServer, clients: list[RawSocket]) -> None:
    """Until the server has noticed; who came is among the clients then."""
    deadline = time.monotonic() + 10
    while accepts_per_turn(server) != ACCEPTS_IN_A_CROWD:
        assert time.monotonic() < deadline
        crowd = [RawSocket(server.port) for _ in range(2 * CROWD)]
        for client in crowd:
            client.send(upgrade())
        clients += [client.opened() for client in crowd]


def test_a_crowd_is_accepted_with_more_sockets_until_it_is_over() -> None:
    with cable_server(*PUBLIC) as server:
        assert accepts_per_turn(server) == ACCEPTS_PER_TURN
        clients: list[RawSocket] = []
        for _ in range(2):
            let_a_crowd_in(server, clients)
            deadline = time.monotonic() + 10
            while accepts_per_turn(server) != ACCEPTS_PER_TURN:
                assert time.monotonic() < deadline
                time.sleep(0.05)
        clients += open_clients(server, 3)
        for client in clients:
            client.send(PING)
            assert client.frame() == (0xA, b"x")
            client.socket.close()


def test_nobody_comes_in_by_those_sockets_when_the_server_ends() -> None:
    with cable_server(*PUBLIC, "--shutdown_slowdrain", "--shutdown_timeout=5") as server:
        clients: list[RawSocket] = []
        let_a_crowd_in(server, clients)
        server.process.send_signal(signal.SIGTERM)
        server.wait_for_output("Disconnecting ")
        with pytest.raises(ConnectionRefusedError):
            RawSocket(server.port)
        for client in clients:
            client.socket.close()
        assert server.process.wait(8) == 0


def test_a_second_signal_ends_at_once() -> None:
    with cable_server(*PUBLIC, "--shutdown_delay=30") as server:
        clients = open_clients(server, 3)
        server.process.send_signal(signal.SIGINT)
        server.wait_for_output("a second one exits at once")
        clients[0].send(PING)
        assert clients[0].frame() == (0xA, b"x")  # still served
        server.process.send_signal(signal.SIGINT)
        assert server.process.wait(2) == 130
        for client in clients:
            assert client.wait_for_end(2) == b""
            client.socket.close()


def test_connections_that_the_kernel_holds_are_as_many_as_we_asked_for(
    server: CableServer,
) -> None:
    listening = subprocess.run(
        ["ss", "-Hltn", f"sport = :{server.port}"], capture_output=True, text=True
    ).stdout.split()
    most = int(Path("/proc/sys/net/core/somaxconn").read_text())
    assert int(listening[2]) == min(4096, most)
