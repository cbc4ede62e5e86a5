"""Socket activation, by a program that does what systemd does: no systemd runs in a container."""

import contextlib
import os
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest

from catenary.errors import ConfigError
from catenary.process.activation import activated_sockets
from tests.parts.certificates import Authority
from tests.parts.ports import free_port
from tests.parts.raw_socket import RawSocket, upgrade
from tests.parts.server import OURS
from tests.parts.service_manager import Service

PUBLIC = (*OURS, "--public", "--norpc", "--broadcast_adapter=http", "--ping_interval=100")


@contextlib.contextmanager
def listening(path: Path | None = None) -> Iterator[socket.socket]:
    """A socket that systemd has opened: at a Unix path, or a TCP port of this machine."""
    opened = socket.socket(socket.AF_INET if path is None else socket.AF_UNIX)
    with opened:
        opened.bind(("127.0.0.1", free_port()) if path is None else str(path))
        opened.listen(100)
        yield opened


def ask(opened: socket.socket, request: bytes, tls: ssl.SSLContext | None = None) -> bytes:
    """The first line of an answer."""
    with socket.socket(opened.family) as plain:
        plain.settimeout(30)
        plain.connect(opened.getsockname())
        with (
            plain if tls is None else tls.wrap_socket(plain, server_hostname="localhost") as caller
        ):
            caller.sendall(request)
            return caller.recv(4096).partition(b"\r\n")[0]


GET = b"GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
BODY = b'{"stream":"s","data":"1"}'
POST = b"POST /_broadcast HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(BODY) + BODY


def test_connections_wait_while_no_server_runs_and_two_may_serve_at_once(tmp_path: Path) -> None:
    """Also workers share what systemd has opened."""
    flags = (*PUBLIC, "--port=1", "--host=127.0.0.1")
    with listening() as clients, listening(tmp_path / "publishers") as publishers:
        sockets, names = (clients, publishers), ("port", "http_broadcast_port")
        port = clients.getsockname()[1]
        with RawSocket(port) as early, Service(flags, sockets, names=names) as first:
            early.open()
            assert ask(publishers, POST) == b"HTTP/1.1 201 Created"
            with Service((*flags, "--workers=2"), sockets, names=names) as second:
                second.wait_for_output("Worker 2 serves")
                assert first.stop() == 0
                for _ in range(5):
                    assert ask(clients, GET) == b"HTTP/1.1 200 OK"
                assert ask(publishers, POST) == b"HTTP/1.1 201 Created"
            with RawSocket(port) as late, Service(flags, sockets, names=names):
                late.open()


def test_unix_sockets_and_tls(tmp_path: Path) -> None:
    """Without names: a Unix socket is for clients."""
    issued = Authority().issue("localhost")
    (tmp_path / "cert.pem").write_bytes(issued.certificate)
    (tmp_path / "key.pem").write_bytes(issued.key)
    tls = ssl.create_default_context()
    tls.check_hostname, tls.verify_mode = False, ssl.CERT_NONE
    flags = (
        *PUBLIC,
        f"--ssl_cert={tmp_path}/cert.pem",
        f"--ssl_key={tmp_path}/key.pem",
        f"--http_broadcast_port={free_port()}",
    )
    with listening(tmp_path / "clients") as clients, Service(flags, [clients]) as service:
        assert ask(clients, GET, tls) == b"HTTP/1.1 200 OK"
        assert f"Listening at unix:{tmp_path}/clients, which systemd has opened (unknown)" in (
            service.output()
        )


def test_a_client_of_ipv4_has_its_address_on_a_socket_of_both_families() -> None:
    """It is ::ffff:127.0.0.1 to the kernel."""
    with socket.create_server(
        ("::", free_port()), family=socket.AF_INET6, dualstack_ipv6=True
    ) as both:
        port = both.getsockname()[1]
        flags = (*PUBLIC, f"--port={port}", "--host=::", "--http_broadcast_port=0")
        with Service(flags, [both]) as service:
            for request in (upgrade("/nothing"), b"PROXY TCP4 1.1.1.1 1.1.1.1 1 1\r\n\r\n"):
                with RawSocket(port) as caller:
                    caller.send(request)
                    caller.head()
            service.wait_for_output("PROXY protocol")
            log = service.output()
            assert log.count("remote=127.0.0.1") == 2
            assert "::ffff:" not in log
            assert "TCP4" not in log


def test_a_socket_for_no_port_is_one_line() -> None:
    with listening() as other:
        flags = (*PUBLIC, f"--port={free_port()}", f"--http_broadcast_port={free_port()}")
        with Service(flags, [other], names=["other.socket"]) as service:
            assert service.process.wait(30) == 1
            line = service.output().splitlines()[-1]
            assert line.startswith("catenary: LISTEN_FDS: expected sockets for the ports of this")


# The variables


def test_variables_for_another_process_are_removed_and_ignored() -> None:
    environ = {"LISTEN_PID": "1", "LISTEN_FDS": "1", "LISTEN_FDNAMES": "x", "OTHER": "stays"}
    assert activated_sockets(environ) == []
    assert environ == {"OTHER": "stays"}


def test_without_variables_nothing_was_passed() -> None:
    assert activated_sockets({}) == []


def test_a_descriptor_that_does_not_listen_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as silent:
        monkeypatch.setattr("catenary.process.activation.FIRST_DESCRIPTOR", silent.fileno())
        environ = {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "1"}
        with pytest.raises(ConfigError, match=r"it does not listen \(ListenStream="):
            activated_sockets(environ)
