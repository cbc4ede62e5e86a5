"""A cable server as its own process: ours, or another one that takes the same flags."""

import os
import re
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.parts.fork_server import ForkedProcess, forked
from tests.parts.ports import free_port

OURS = (sys.executable, "-m", "catenary")


class CableServer:
    """A running server. ``port`` serves the cable and health, ``broadcast_port`` takes publications.

    One of ours is forked from a process that has done its imports; ``is_forked=False`` starts an interpreter.
    """

    def __init__(
        self,
        command: tuple[str, ...],
        flags: tuple[str, ...],
        env: dict[str, str],
        directory: Path | None = None,
        *,
        is_forked: bool = True,
    ) -> None:
        # Variables of the interpreter count at its start.
        self._is_forked = (
            is_forked
            and sys.platform == "linux"
            and command[: len(OURS)] == OURS
            and not any(name.startswith("PYTHON") for name in env)
        )
        self.port = free_port()
        self.broadcast_port = free_port()
        self._arguments = [
            *command,
            "--host=127.0.0.1",
            f"--port={self.port}",
            f"--http_broadcast_port={self.broadcast_port}",
            *flags,
        ]
        self._env = {**_clean_environment(), **env}
        self._directory = directory
        self._output = tempfile.TemporaryFile()  # noqa: SIM115  (lives as long as the process)
        self.process = self._started()

    def _started(self) -> subprocess.Popen[bytes] | ForkedProcess:
        if self._is_forked:
            return forked(
                self._arguments[len(OURS) :],
                self._arguments,
                env=self._env,
                cwd=self._directory,
                output=self._output.fileno(),
            )
        return subprocess.Popen(
            self._arguments,
            env=self._env,
            cwd=self._directory,
            stdout=self._output,
            stderr=subprocess.STDOUT,
        )

    @property
    def cable_url(self) -> str:
        return f"ws://127.0.0.1:{self.port}/cable"

    @property
    def broadcast_url(self) -> str:
        return f"http://127.0.0.1:{self.broadcast_port}/_broadcast"

    def output(self) -> str:
        """All output so far."""
        # Not read(): the child writes at the offset that both share.
        size = os.fstat(self._output.fileno()).st_size
        return os.pread(self._output.fileno(), size, 0).decode()

    def wait_for_output(self, text: str, timeout_s: float = 30, *, times: int = 1) -> str:
        """Returns the output once it contains a text. Raises TimeoutError with what there was."""
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            output = self.output()
            if output.count(text) >= times:
                return output
            time.sleep(0.02)
        raise TimeoutError(f"no {text!r} in the output:\n{self.output()}")

    def wait_until_ready(self, timeout_s: float = 30) -> None:
        """Returns once the cable port answers. Raises RuntimeError where the process ended."""
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise RuntimeError(f"ended with {self.process.returncode}:\n{self.output()}")
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{self.port}/health", timeout=1).close()
            except urllib.error.HTTPError:
                return
            except OSError:
                time.sleep(0.02)
            else:
                return
        raise TimeoutError(f"not ready after {timeout_s} s:\n{self.output()}")

    def wait_until_it_hears_others(self, timeout_s: float = 30) -> None:
        """Returns once it is ready for clients of a cluster. Raises TimeoutError with the reason."""
        deadline = time.monotonic() + timeout_s
        reason = ""
        while time.monotonic() < deadline:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{self.port}/ready", timeout=1).close()
            except urllib.error.HTTPError as error:
                reason = error.read().decode()
                time.sleep(0.05)
            else:
                return
        raise TimeoutError(f"not ready after {timeout_s} s: {reason}")

    def figure(self, name: str) -> int:
        """A metric of the server, which has ``--metrics_http=/metrics``."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/metrics", timeout=20) as answer:
            (found,) = re.findall(
                rf"^anycable_go_{name} (\d+)$", answer.read().decode(), re.MULTILINE
            )
        return int(found)

    def stop(self, timeout_s: float = 30) -> int:
        """SIGTERM, and SIGKILL where that is not enough. Returns the exit status."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(timeout_s)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        return self.process.wait()

    def restart(self) -> None:
        """Starts it again, on the same ports, after :meth:`stop`; returns once it is ready."""
        self.process = self._started()
        self.wait_until_ready()

    def close(self) -> None:
        """Stops it and drops its output."""
        self.stop()
        self._output.close()


@contextmanager
def cable_server(
    *flags: str,
    command: tuple[str, ...] = OURS,
    env: dict[str, str] | None = None,
    directory: Path | None = None,
    is_forked: bool = True,
) -> Iterator[CableServer]:
    """A server for the length of a with block, ready when the block begins."""
    server = CableServer(command, flags, env or {}, directory, is_forked=is_forked)
    try:
        server.wait_until_ready()
        yield server
    finally:
        server.close()


def _clean_environment() -> dict[str, str]:
    """The machine's environment without variables that configure a server."""
    prefixes = ("ANYCABLE_", "REDIS_", "PORT", "NATS_")
    return {name: value for name, value in os.environ.items() if not name.startswith(prefixes)}
