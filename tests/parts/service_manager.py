"""Does what systemd does for a service: passes it listening sockets, and receives its notifications.

Source: sd_listen_fds(3), sd_notify(3).
"""

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Final, Self

_ACTIVATE: Final = """
import fcntl, os, sys
given = [int(each) for each in sys.argv[1].split(",") if each]
# Away from the numbers that systemd uses, which may be among the given ones.
kept = [fcntl.fcntl(each, fcntl.F_DUPFD, 100) for each in given]
for index, each in enumerate(kept):
    os.dup2(each, 3 + index)
    os.close(each)
if given:
    os.environ["LISTEN_PID"] = str(os.getpid())
os.execvp(sys.argv[2], sys.argv[2:])
"""


class Service:
    """A process that was started as systemd starts one; stopped at the end of a with block."""

    def __init__(
        self,
        command: Sequence[str],
        sockets: Sequence[socket.socket] = (),
        *,
        names: Sequence[str] = (),
        env: Mapping[str, str] | None = None,
        watchdog_s: float = 0,
    ) -> None:
        self._directory = tempfile.TemporaryDirectory()
        path = str(Path(self._directory.name) / "notify")
        self._notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._notify.bind(path)
        self.notified: list[dict[str, str]] = []
        """The datagrams so far, as their variables."""
        variables = {"NOTIFY_SOCKET": path}
        if watchdog_s:
            variables["WATCHDOG_USEC"] = str(round(watchdog_s * 1e6))
        if sockets:
            variables["LISTEN_FDS"] = str(len(sockets))
        if names:
            variables["LISTEN_FDNAMES"] = ":".join(names)
        descriptors = [each.fileno() for each in sockets]
        self._output = tempfile.TemporaryFile()  # noqa: SIM115  (lives as long as the process)
        self.process = subprocess.Popen(
            [sys.executable, "-c", _ACTIVATE, ",".join(map(str, descriptors)), *command],
            env={**os.environ, **variables, **(env or {})},
            pass_fds=descriptors,
            stdout=self._output,
            stderr=subprocess.STDOUT,
        )

    def output(self) -> str:
        """All output so far."""
        size = os.fstat(self._output.fileno()).st_size
        return os.pread(self._output.fileno(), size, 0).decode()

    def wait_for_output(self, text: str, timeout_s: float = 30) -> None:
        """Returns once the output contains a text. Raises TimeoutError with what there was."""
        deadline = time.monotonic() + timeout_s
        while text not in self.output():
            if time.monotonic() > deadline:
                raise TimeoutError(f"no {text!r} in the output:\n{self.output()}")
            time.sleep(0.02)

    def wait_for(
        self, predicate: Callable[[dict[str, str]], bool], timeout_s: float = 30
    ) -> dict[str, str]:
        """The first notification from now on for which a predicate holds. Raises TimeoutError with what there was."""
        deadline = time.monotonic() + timeout_s
        while (left_s := deadline - time.monotonic()) > 0:
            self._notify.settimeout(left_s)
            try:
                datagram = self._notify.recv(65536).decode()
            except TimeoutError:
                break
            found = dict(line.split("=", 1) for line in datagram.splitlines())
            self.notified.append(found)
            if predicate(found):
                return found
        raise TimeoutError(f"not notified; before: {self.notified}\n{self.output()}")

    def stop(self) -> int:
        """SIGTERM; returns the exit status."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(30)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(30)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self._notify.close()
        self._output.close()
        self._directory.cleanup()
