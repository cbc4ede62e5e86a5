"""The tools as they are typed, and a small REST API of a real HTTP server."""

import io
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any
from unittest.mock import patch
from urllib.parse import parse_qs, urlsplit

from catenary.cli import main
from tests.parts.server import CableServer

SECRET = "s3cret-of-the-tests"
PROGRAM = Path(sys.executable).with_name("catenary")


def environment(**variables: str) -> dict[str, str]:
    """The machine's, without what would configure a server; the program is on its path."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("ANYCABLE_", "PORT", "NO_COLOR"))
    }
    return {**kept, "PATH": f"{PROGRAM.parent}:{os.environ['PATH']}", **variables}


def beside(server: CableServer, secret: str = "") -> dict[str, str]:
    """The environment of a shell beside a server."""
    variables = {
        "ANYCABLE_HOST": "127.0.0.1",
        "ANYCABLE_PORT": str(server.port),
        "ANYCABLE_HTTP_BROADCAST_PORT": str(server.broadcast_port),
    }
    return {**variables, "ANYCABLE_SECRET": secret} if secret else variables


def catenary(
    *words: str, given: str | None = None, **variables: str
) -> subprocess.CompletedProcess[str]:
    """Runs a tool to its end, with these variables; ``given`` is its standard input."""
    return subprocess.run(
        [str(PROGRAM), *words],
        input=given,
        stdin=subprocess.DEVNULL if given is None else None,
        env=environment(**variables),
        capture_output=True,
        text=True,
        timeout=60,
    )


def called(*words: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """As :func:`catenary`, in this process: a start takes half a second of CPU."""
    out, err = io.StringIO(), io.StringIO()
    with (
        patch.dict(os.environ, environment(**variables), clear=True),
        redirect_stdout(out),
        redirect_stderr(err),
    ):
        status = main(words)
    return subprocess.CompletedProcess(words, status, out.getvalue(), err.getvalue())


def typed(block: str, directory: Path, **variables: str) -> str:
    """Runs a block as a shell does that stops at the first failure; what it printed."""
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", block],
        cwd=directory,
        env=environment(**variables),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, block + done.stdout + done.stderr
    return done.stdout


def lines(done: subprocess.CompletedProcess[str]) -> list[Any]:
    """The JSON lines that a tool printed."""
    assert done.returncode == 0, done.stdout + done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


@contextmanager
def rest_api(key: str = "") -> Iterator[str]:
    """An API with one stream, ``chat/1``, for the length of a with block; gives its URL."""

    class Api(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            parts = urlsplit(self.path)
            if key and self.headers["Authorization"] != f"Bearer {key}":
                self._answer(401, {"error": "expected the key"})
            elif parts.path == "/api/presence/chat%2F1/users":
                records = [{"id": "ann", "info": {"name": "Ann"}}, {"id": "ben", "info": None}]
                self._answer(200, {"type": "info", "total": 2, "records": records})
            elif parts.path.startswith("/api/presence/"):
                self._answer(200, {"type": "info", "total": 0})
            elif parts.path.startswith("/api/history/"):
                query = {name: int(values[0]) for name, values in parse_qs(parts.query).items()}
                messages = [{"offset": 1, "data": {"text": "hi"}}, {"offset": 2, "data": query}]
                self._answer(200, {"stream": "chat/1", "epoch": "e", "messages": messages})
            else:
                self._answer(404, {})

        def _answer(self, status: int, body: object) -> None:
            payload = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(payload)))
            self.end_headers()
            self.wfile.write(payload)

        def log_message(self, format: str, *args: object) -> None:
            """Says nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Api) as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/api"
        server.shutdown()
        thread.join()


@contextmanager
def paged_api(number: int, *, missing: str) -> Iterator[str]:
    """An API with so many connections, in pages of the size that is asked for, and a node that does not answer."""

    class Api(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            query = parse_qs(urlsplit(self.path).query)
            start, limit = int(query.get("after", ["0"])[0]), int(query["limit"][0])
            page = range(start, min(start + limit, number))
            following = str(page.stop) if page.stop < number else None
            body = json.dumps(
                {
                    "connections": [{"sid": str(each)} for each in page],
                    "next": following,
                    "errors": [{"node": missing, "error": "no answer within 10 s"}],
                }
            ).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Says nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Api) as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/api"
        server.shutdown()
        thread.join()
