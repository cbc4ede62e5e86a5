"""The test application over HTTP, in this process or as one of its own.

    python -m tests.parts.http_app PORT [--key KEY] [--redis URL]

Built on the standard library's threaded server. It answers as the HTTP RPC server of AnyCable's Ruby
library does: 401 without the key, 404 for other paths, 422 for what is no JSON.
"""

import argparse
import json
import signal
import socket
import ssl
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tests.parts.application import Refusal, TestApplication
from tests.parts.grpc_app import redis_publisher
from tests.parts.ports import free_port

_PREFIX = "x-anycable-meta-"


class HttpServer:
    """Serves an application below ``/_anycable``, on a port that stays over stop and start."""

    def __init__(
        self,
        application: TestApplication,
        *,
        port: int | None = None,
        key: str = "",
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.application = application
        self.port = free_port() if port is None else port
        self.url = f"{'https' if tls else 'http'}://127.0.0.1:{self.port}/_anycable"
        self.key = key
        self.connections = 0
        """How many connections were accepted so far."""
        self._tls = tls
        self._server: _Server | None = None
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Listens."""
        self._server = _Server(self)
        if self._tls is not None:
            self._server.socket = self._tls.wrap_socket(
                self._server.socket, server_side=True, do_handshake_on_connect=False
            )
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self._thread.start()

    def stop(self) -> None:
        """Stops listening and breaks every connection."""
        server, self._server = self._server, None
        if server is None or self._thread is None:
            return
        server.shutdown()
        server.break_connections()
        server.server_close()
        self._thread.join()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def __init__(self, owner: HttpServer) -> None:
        self.owner = owner
        self._open: set[socket.socket] = set()
        super().__init__(("127.0.0.1", owner.port), _Handler)

    def get_request(self) -> tuple[socket.socket, Any]:
        connection, address = super().get_request()
        self.owner.connections += 1
        self._open.add(connection)
        return connection, address

    def shutdown_request(self, request: Any) -> None:
        self._open.discard(request)
        super().shutdown_request(request)

    def break_connections(self) -> None:
        for connection in tuple(self._open):
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue  # it ended by itself in the meantime

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Says nothing: tests break connections on purpose."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # head and body in one segment: two would wait for a delayed acknowledgement
    server: _Server

    def do_POST(self) -> None:
        owner = self.server.owner
        body = self.rfile.read(int(self.headers.get("content-length", "0")))
        procedure = self.path.removeprefix("/_anycable/")
        status, answer = self._answer(owner, procedure, body)
        self._respond(status, answer)

    def _answer(self, owner: HttpServer, procedure: str, body: bytes) -> tuple[int, bytes]:
        given = self.headers.get("authorization", "").encode("latin-1")
        if owner.key and given != f"Bearer {owner.key}".encode():
            return 401, b"Unauthorized"
        if procedure not in ("connect", "command", "disconnect"):
            return 404, b"Not found"
        metadata = {
            name.lower().removeprefix(_PREFIX): value
            for name, value in self.headers.items()
            if name.lower().startswith(_PREFIX) or name in {"traceparent", "tracestate"}
        }
        try:
            answer = owner.application.answer(procedure, json.loads(body), metadata)
        except ValueError:
            return 422, b"Invalid request body"
        except Refusal as refusal:
            return int(refusal.status), str(refusal).encode()
        return 200, json.dumps(answer).encode()

    def _respond(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Says nothing."""


@contextmanager
def http_server(application: TestApplication | None = None, **how: Any) -> Iterator[HttpServer]:
    """A server for the length of a with block; the application records its calls."""
    server = HttpServer(application or TestApplication(), **how)
    server.start()
    try:
        yield server
    finally:
        server.stop()


def main(arguments: list[str]) -> None:
    """Serves until SIGTERM; says "ready" once it listens."""
    parser = argparse.ArgumentParser(prog="python -m tests.parts.http_app")
    parser.add_argument("port", type=int)
    parser.add_argument("--key", default="")
    parser.add_argument("--redis", metavar="URL")
    chosen = parser.parse_args(arguments)
    publish = redis_publisher(chosen.redis) if chosen.redis else None
    finished = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: finished.set())
    with http_server(TestApplication(publish=publish), port=chosen.port, key=chosen.key):
        print("ready", flush=True)
        finished.wait()


if __name__ == "__main__":
    main(sys.argv[1:])
