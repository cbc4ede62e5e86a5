"""Ports: every form of a host, IPv4 beside IPv6, and the name of the option whose port is taken."""

import contextlib
import http.client
import socket
import subprocess
from collections.abc import Iterator

import pytest

from catenary.errors import ConfigError
from catenary.process.binding import ListenAddress, bind
from tests.parts.ports import free_port
from tests.parts.server import OURS, CableServer

FLAGS = ("--public", "--norpc", "--broadcast_adapter=http")


@contextlib.contextmanager
def bound(host: str, port: int) -> Iterator[list[socket.socket]]:
    sockets = bind(ListenAddress(host, port))
    try:
        yield sockets
    finally:
        for each in sockets:
            each.close()


def is_taken(address: str, port: int) -> bool:
    try:
        socket.create_connection((address, port), 5).close()
    except ConnectionRefusedError:
        return False
    return True


@pytest.mark.parametrize("host", ["", "::", "[::]", "::0", "0:0:0:0:0:0:0:0"])
def test_every_address_of_both_kinds(host: str) -> None:
    port = free_port()
    with bound(host, port):
        assert is_taken("127.0.0.1", port)
        assert is_taken("::1", port)


@pytest.mark.parametrize(
    ("host", "v4", "v6"),
    [
        ("0.0.0.0", True, False),
        ("127.0.0.1", True, False),
        ("::1", False, True),
        ("[::1]", False, True),
        ("localhost", True, True),
    ],
)
def test_other_hosts(host: str, v4: bool, v6: bool) -> None:
    port = free_port()
    with bound(host, port):
        assert is_taken("127.0.0.1", port) is v4
        if host != "localhost":  # what that means is the system's business
            assert is_taken("::1", port) is v6


def test_clients_of_ipv4_have_addresses_of_ipv4() -> None:
    port = free_port()
    with bound("::", port) as sockets, socket.create_connection(("127.0.0.1", port)):
        (own,) = [each for each in sockets if each.family == socket.AF_INET]
        accepted, (address, _) = own.accept()
        accepted.close()
        assert address == "127.0.0.1"


@pytest.mark.parametrize("host", ["nowhere.invalid", "a..b", "x" * 64 + ".test", "1.2.3.4.5"])
def test_a_host_that_is_none(host: str) -> None:
    with pytest.raises(ConfigError, match="metrics_host: expected a name or an address, got"):
        bind(ListenAddress(host, 1, "metrics_port", "metrics_host"))


def test_one_port_by_different_names() -> None:
    assert ListenAddress("::", 1).key == ListenAddress("", 1, "metrics_port").key
    assert ListenAddress("[::1]", 1).key == ListenAddress("::1", 1).key
    assert ListenAddress("0.0.0.0", 1).key != ListenAddress("::", 1).key


@pytest.fixture
def taken() -> Iterator[int]:
    """A port that another socket listens on."""
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        yield other.getsockname()[1]


@pytest.mark.parametrize(
    ("flags", "option"),
    [
        (("--port={}",), "port"),
        (("--http_broadcast_port={}",), "http_broadcast_port"),
        (("--api_port={}",), "api_port"),
        (("--metrics_http=/metrics", "--metrics_port={}"), "metrics_port"),
        (("--metrics_http=/metrics", "--metrics_port={}", "--metrics_host=::"), "metrics_port"),
        (("--http_broadcast_port={}", "--workers=2"), "http_broadcast_port"),
        (("--api_port={}", "--workers=2"), "api_port"),
        (("--metrics_http=/m", "--metrics_port={}", "--workers=2"), "metrics_port"),
        (("--embed_nats", "--enats_addr=nats://127.0.0.1:{}"), "enats_addr"),
        (
            (
                "--embed_nats",
                "--enats_addr=nats://127.0.0.1:{free}",
                "--enats_cluster=nats://127.0.0.1:{}",
            ),
            "enats_cluster",
        ),
        (
            (
                "--embed_nats",
                "--enats_addr=nats://127.0.0.1:{free}",
                "--enats_gateway=nats://127.0.0.1:{}",
            ),
            "enats_gateway",
        ),
    ],
)
def test_a_taken_port_is_named_by_its_option(
    flags: tuple[str, ...], option: str, taken: int
) -> None:
    ports = (f"--port={free_port()}", f"--http_broadcast_port={free_port()}", "--host=127.0.0.1")
    given = [each.format(taken, free=free_port()) for each in flags]
    ended = subprocess.run(
        [*OURS, *FLAGS, *ports, *given], capture_output=True, text=True, timeout=30
    )
    assert ended.returncode == 1
    complaint = ended.stderr.splitlines()[-1]
    assert complaint.startswith((f"catenary: {option}: ", "catenary: embed_nats: ")), complaint
    assert option in complaint
    assert str(taken) in complaint
    assert "in use" in complaint
    assert "Traceback" not in ended.stderr


def test_every_listener_takes_both_kinds() -> None:
    metrics = free_port()
    flags = (*FLAGS, "--host=::", "--metrics_http=/metrics", f"--metrics_port={metrics}")
    server = CableServer(OURS, (*flags, "--metrics_host=::"), {})
    try:
        server.wait_until_ready()
        for address in ("127.0.0.1", "::1"):
            for port, path in (
                (server.port, "/health"),
                (server.port, "/ready"),
                (metrics, "/metrics"),
                (server.broadcast_port, "/_broadcast"),
            ):
                connection = http.client.HTTPConnection(address, port, timeout=5)
                connection.request("GET", path)
                assert connection.getresponse().status in (200, 422, 405), (address, path)
                connection.close()
    finally:
        server.close()
