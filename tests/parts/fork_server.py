"""Servers without the start of an interpreter: one process has imported Catenary, and forks for each server.

A server that is started by ``python -m catenary`` takes more than half a second of a core for its imports and for the
end of its interpreter. A fork takes a twentieth, and the tests start hundreds of servers. The fork is a process like any
other: it has an environment, a directory, arguments and an output of its own, and runs :func:`catenary.cli.main`. Its
imports are done, so tests of imports and of memory start an interpreter.
"""

import atexit
import contextlib
import gc
import importlib
import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Final

PRELOADED: Final = (
    "catenary.adapters.redis.broadcasts",
    "catenary.adapters.redis.cluster_pubsub",
    "catenary.adapters.redis.engine",
    "catenary.adapters.redis.streams",
    "catenary.auth.public_keys",
    "catenary.channels",
    "catenary.cli",
    "catenary.config.render",
    "catenary.rpc.grpc",
    "catenary.rpc.http",
    "catenary.server.mounted",
    "catenary.server.run",
)
"""Modules that every server imports, whatever its flags. None of them starts a thread."""

_REQUEST_BYTES: Final = 1 << 20
_LONGEST_PAUSE_S: Final = 0.05


class ForkedProcess:
    """A running server, with those of the methods of :class:`subprocess.Popen` that tests use."""

    def __init__(self, args: Sequence[str], pid: int) -> None:
        self.args = args
        self.pid = pid
        self.returncode: int | None = None

    def poll(self) -> int | None:
        """The exit status, negative for a signal; None while it runs."""
        if self.returncode is None:
            self.returncode = _asked({"pid": self.pid})
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Returns the exit status once it has ended. Raises :class:`subprocess.TimeoutExpired`."""
        deadline = None if timeout is None else time.monotonic() + timeout
        pause_s = 0.0005
        while (status := self.poll()) is None:
            if deadline is not None and timeout is not None and time.monotonic() > deadline:
                raise subprocess.TimeoutExpired(self.args, timeout)
            time.sleep(pause_s)
            pause_s = min(pause_s * 2, _LONGEST_PAUSE_S)
        return status

    def send_signal(self, number: int) -> None:
        """Does nothing where it is known to have ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


def forked(
    words: Sequence[str],
    args: Sequence[str],
    *,
    env: Mapping[str, str],
    cwd: Path | None,
    output: int,
) -> ForkedProcess:
    """Starts ``catenary WORDS`` with the descriptor ``output`` as its output. ``args`` are those of an equal Popen."""
    directory = str(Path.cwd() if cwd is None else cwd)
    pid = _asked({"words": list(words), "env": dict(env), "cwd": directory}, output)
    return ForkedProcess(args, pid)


def _asked(request: Mapping[str, Any], *descriptors: int) -> Any:
    """The answer of the fork server. Each request has a pipe of its own, so an interrupted one disturbs no other."""
    answer, theirs = os.pipe()
    try:
        socket.send_fds(_control(), [json.dumps(request).encode()], [theirs, *descriptors])
    finally:
        os.close(theirs)
    with os.fdopen(answer, "rb") as reading:
        return json.loads(reading.read())


@cache
def _control() -> socket.socket:
    """Starts the fork server of this process; it ends with it."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with theirs:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.parts.fork_server", str(theirs.fileno())],
            cwd=Path(__file__).parents[2],
            pass_fds=[theirs.fileno()],
        )

    def end() -> None:
        ours.close()
        process.wait()

    atexit.register(end)
    return ours


def _serve(control: socket.socket) -> dict[str, Any] | None:
    """Answers requests. Returns in each fork what it shall become, and None when the tests have ended."""
    while True:
        data, descriptors, _, _ = socket.recv_fds(control, _REQUEST_BYTES, 2)
        if not data:
            return None
        request: dict[str, Any] = json.loads(data)
        answer, *output = descriptors
        if output:
            pid = os.fork()
            if pid == 0:
                control.close()
                os.close(answer)
                os.dup2(output[0], 1)
                os.dup2(output[0], 2)
                os.close(output[0])
                return request
            os.close(output[0])
            result: int | None = pid
        else:
            ended, status = os.waitpid(request["pid"], os.WNOHANG)
            result = os.waitstatus_to_exitcode(status) if ended else None
        with contextlib.suppress(BrokenPipeError):
            os.write(answer, json.dumps(result).encode())
        os.close(answer)


def _become(request: Mapping[str, Any]) -> None:
    """Makes this process what ``python -m catenary`` would be."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.environ.clear()
    os.environ.update(request["env"])
    os.chdir(request["cwd"])
    sys.path[0] = request["cwd"]
    sys.argv[1:] = request["words"]
    random.seed()


def main() -> int:
    """Runs in the fork server, and in every process that it forks."""
    control = socket.socket(fileno=int(sys.argv[1]))
    control.set_inheritable(False)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the tests see to their servers
    statuses: list[int] = []
    atexit.register(_leave, statuses)
    for module in PRELOADED:
        importlib.import_module(module)
    gc.collect()
    gc.freeze()  # or each fork would copy the memory of all imported objects
    request = _serve(control)
    if request is None:
        return 0
    _become(request)
    from catenary.cli import main as catenary

    statuses.append(catenary())
    return statuses[0]


def _leave(statuses: Sequence[int]) -> None:
    """Ends a fork whose server has returned, without freeing all imported objects one by one.

    Runs as the last of all exit functions, since it was registered first; threads have been joined by then.
    """
    if statuses:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(statuses[0])


if __name__ == "__main__":
    raise SystemExit(main())
