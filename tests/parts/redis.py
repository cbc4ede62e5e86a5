"""A redis-server of its own, on a free port, without persistence; and publishers for it.

It can be stopped and started again on the same port, which clients see as an outage. ``VALKEY_SERVER`` in the environment
names another program, such as a valkey-server, for all of them.
Source of the publications: docs/broadcasting.md, "Publication format" and "Redis X"
(anycable/anycable).
"""

import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import redis

from tests.parts.ports import free_port, wait_until_listening


def server_binary() -> str:
    """The program of a server. Raises RuntimeError."""
    binary = os.environ.get("VALKEY_SERVER") or shutil.which("redis-server")
    if binary is None:
        raise RuntimeError(
            "expected redis-server on the PATH, got nothing: apt-get install redis-server"
        )
    return binary


class RedisServer:
    """A redis-server process on a port that stays the same over stop and start.

    With a directory it keeps its data there over a restart. ``flags`` are additional
    flags.
    """

    def __init__(self, directory: Path | None = None, *, flags: Sequence[str] = ()) -> None:
        self.port = free_port()
        self._binary = server_binary()
        self.flags = flags
        self._directory = directory
        # A test may switch persistence on: the files must not be written to the directory of the tests.
        self._scratch: TemporaryDirectory[str] | None = None
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}"

    @property
    def is_running(self) -> bool:
        return self._process is not None

    def start(self) -> None:
        """Returns once it accepts connections. Raises TimeoutError."""
        if self._process is not None:
            return
        if self._directory is None:
            self._scratch = TemporaryDirectory(ignore_cleanup_errors=True)
            persistence = ("--appendonly", "no", "--dir", self._scratch.name)
        else:
            persistence = ("--appendonly", "yes", "--dir", str(self._directory))
        self._process = subprocess.Popen(
            [
                self._binary,
                *("--bind", "127.0.0.1"),
                *("--port", str(self.port)),
                *("--save", ""),
                *persistence,
                *("--appendfsync", "always"),
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
        """Ends it at once, as a crash would: nothing is saved and every connection breaks."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()
        scratch, self._scratch = self._scratch, None
        if scratch is not None:
            scratch.cleanup()


class RedisPublisher:
    """Publishes as an application does, over Redis pub/sub.

    Before each publication it waits for a subscriber, so that none is lost in a start or an
    outage of a server; after ``deadline_s`` it raises TimeoutError.
    """

    def __init__(
        self, server: RedisServer, channel: str = "__anycable__", deadline_s: float = 10
    ) -> None:
        self._connection = redis.Redis(port=server.port)
        self._channel = channel
        self._deadline_s = deadline_s

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

    def publish(self, raw: str) -> None:
        """Publishes a text unchanged."""
        deadline = time.monotonic() + self._deadline_s
        while time.monotonic() < deadline:
            if self._listeners() > 0:
                self._connection.publish(self._channel, raw)
                return
            time.sleep(0.01)
        raise TimeoutError(f"no subscriber of {self._channel} after {self._deadline_s} s")

    def _listeners(self) -> int:
        ((_, number),) = self._connection.pubsub_numsub(self._channel)
        return int(number)

    def close(self) -> None:
        self._connection.close()


class RedisStreamPublisher:
    """Publishes as an application does with Redis X: an entry of a stream, its field ``payload``."""

    def __init__(self, server: RedisServer, stream: str = "__anycable__") -> None:
        self._connection = redis.Redis(port=server.port)
        self._stream = stream

    def broadcast(self, stream: str, message: object) -> None:
        """Publishes a message, written as JSON."""
        self.publish(json.dumps({"stream": stream, "data": json.dumps(message)}))

    def publish(self, *raw: str) -> None:
        """Publishes texts as they are, in order, all at once."""
        pipeline = self._connection.pipeline()
        for each in raw:
            pipeline.xadd(self._stream, {"payload": each})
        pipeline.execute()

    def close(self) -> None:
        self._connection.close()


@contextmanager
def redis_server(
    directory: Path | None = None, *, flags: Sequence[str] = ()
) -> Iterator[RedisServer]:
    """A redis-server for the length of a with block, accepting connections when it begins."""
    server = RedisServer(directory, flags=flags)
    server.start()
    try:
        yield server
    finally:
        server.stop()
