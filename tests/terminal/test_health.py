"""``catenary health`` beside real servers: alive, not ready, encrypted, absent."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from tests.parts.certificates import Authority
from tests.parts.ports import free_port
from tests.parts.server import cable_server
from tests.terminal.shell import beside, called


def test_alive_and_ready() -> None:
    with cable_server("--public", "--norpc", "--broadcast_adapter=http") as server:
        alive = called("health", **beside(server))
        ready = called("health", "--ready", "app:cable", **beside(server))
        by_flags = called("health", "--host=127.0.0.1", f"--port={server.port}")
    assert [each.returncode for each in (alive, ready, by_flags)] == [0, 0, 0]
    assert [each.stdout for each in (alive, ready)] == ["OK\n", "OK\n"]


def test_alive_but_not_ready() -> None:
    redis = f"--redis_url=redis://127.0.0.1:{free_port()}"
    with cable_server("--norpc", "--pubsub=redis", "--broadcast_adapter=http", redis) as server:
        alive = called("health", **beside(server))
        ready = called("health", "--ready", **beside(server))
    assert (alive.returncode, ready.returncode) == (0, 1)
    assert "Redis" in ready.stdout


def test_no_server() -> None:
    port = free_port()
    refused = called("health", f"--port={port}")
    assert refused.returncode == 1
    assert refused.stderr == (
        f"catenary health: no server answers at http://localhost:{port}/health (Connection refused)\n"
    )


def test_the_certificate_of_another_host(tmp_path: Path) -> None:
    """It names the host that clients use, not this one."""
    with tls_server(tmp_path) as port:
        cert = ("--ssl_cert=/etc/tls/cert.pem", "--ssl_key=/etc/tls/key.pem")
        assert called("health", f"--port={port}", *cert).stdout == "/health\n"
        answer = called("health", f"--port={port}", *cert, "--ready", "--ready-path=/_ready")
    assert (answer.returncode, answer.stdout) == (0, "/_ready\n")


class _Echo(BaseHTTPRequestHandler):
    """Answers with the path."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(self.path.encode())

    def log_message(self, *arguments: object) -> None:
        pass


@contextmanager
def tls_server(directory: Path) -> Iterator[int]:
    with ThreadingHTTPServer(("127.0.0.1", 0), _Echo) as server:
        context = Authority().issue("cable.example.com").server_context(directory)
        server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()
