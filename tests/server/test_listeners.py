"""The ports of a running server: TLS, ports that are taken, the kernel's queue."""

import datetime as dt
import signal
import ssl
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.parts.ports import free_port, wait_until_listening
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
            assert client.wait_for_end() == b""
        with RawSocket(server.port, tls=trusting) as client:
            client.send(get("/health"))
            assert client.answer()[0] == 200
        with RawSocket(server.port) as plain:
            plain.send(get("/health"))
            assert not plain.wait_for_end().startswith(b"HTTP")
        with RawSocket(server.port, tls=trusting) as client:
            client.open()
            server.process.send_signal(signal.SIGTERM)
            assert client.message()["reason"] == "server_restart"
            assert client.goodbye()[0] == 1001
        assert server.process.wait(30) == 0
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


def test_a_port_that_is_taken(server: CableServer) -> None:
    ended = start("--host=127.0.0.1", f"--port={server.port}")
    assert ended.returncode == 1
    complaint = ended.stderr.splitlines()[-1]
    assert complaint.startswith("catenary: port: can't listen on 127.0.0.1:")
    assert "in use" in complaint
    assert "Traceback" not in ended.stderr


def test_connections_that_the_kernel_holds_are_as_many_as_we_asked_for(
    server: CableServer,
) -> None:
    listening = subprocess.run(
        ["ss", "-Hltn", f"sport = :{server.port}"], capture_output=True, text=True
    ).stdout.split()
    most = int(Path("/proc/sys/net/core/somaxconn").read_text())
    assert int(listening[2]) == min(4096, most)
