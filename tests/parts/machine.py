"""A machine as a reader of the docs has it: no variables are set, and every port is free.

It has a network of its own (network_namespaces(7)), so that commands use the ports that the docs name, and
run beside other tests. Programs are those of this machine; ``catenary`` is the one under test.
"""

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.parts.missing import missing

ROOT = Path(__file__).parents[2]

# Brings the loopback interface up (netdevice(7)), and keeps the network until its input is closed.
_HOLD = """
import fcntl, socket, struct, sys
with socket.socket() as probe:
    fcntl.ioctl(probe, 0x8914, struct.pack("16sh14x", b"lo", 0x1 | 0x8 | 0x40))
print("up", flush=True)
sys.stdin.read()
"""
_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)


def blocks(path: str, language: str = "sh") -> list[str]:
    """The blocks of a page in one language, in order."""
    text = (ROOT / path).read_text()
    return [block for name, block in _BLOCK.findall(text) if name == language]


class Terminal:
    """A command that runs, and what it has printed."""

    def __init__(self, machine: "Machine", block: str) -> None:
        self._block = block
        self._output = tempfile.TemporaryFile()  # noqa: SIM115  (lives as long as the process)
        self._process = subprocess.Popen(
            machine.command(block),
            cwd=machine.directory,
            env=machine.environment,
            stdin=subprocess.DEVNULL,
            stdout=self._output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    def output(self) -> str:
        """Everything so far."""
        size = os.fstat(self._output.fileno()).st_size
        return os.pread(self._output.fileno(), size, 0).decode()

    def wait_for(self, text: str, timeout_s: float = 30) -> None:
        """Returns when it has printed a text. Raises TimeoutError."""
        deadline = time.monotonic() + timeout_s
        while text not in self.output():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise TimeoutError(f"no {text!r} from {self._block}:\n{self.output()}")
            time.sleep(0.02)

    def close(self) -> None:
        """Ctrl-C, as it is typed there: to everything that the command has started."""
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGINT)
            try:
                self._process.wait(15)
            except subprocess.TimeoutExpired:
                os.killpg(self._process.pid, signal.SIGKILL)
                self._process.wait()
        self._output.close()


class Machine:
    """Runs commands in a directory."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.environment = {
            "HOME": str(directory),
            "LANG": "C.UTF-8",
            "PATH": f"{Path(sys.executable).parent}:{os.defpath}:/usr/local/bin:/usr/sbin",
        }
        if shutil.which("unshare") is None or shutil.which("nsenter") is None:
            missing("unshare and nsenter", "install util-linux")
        self._network = subprocess.Popen(
            ["unshare", "--map-root-user", "--net", sys.executable, "-c", _HOLD],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert self._network.stdout is not None
        if self._network.stdout.readline() != b"up\n":
            self.close()
            missing("a network of one's own", "allow unprivileged user namespaces")

    def close(self) -> None:
        """Its network is gone when nothing runs there any more."""
        self._network.communicate()

    def command(self, block: str) -> list[str]:
        """The command that runs a block there, in a shell that stops at the first failure."""
        enter = ["nsenter", f"--target={self._network.pid}", "--user", "--net"]
        return [*enter, "--preserve-credentials", "bash", "-euo", "pipefail", "-c", block]

    def type(self, block: str, timeout_s: float = 60) -> str:
        """Runs a block to its end, and returns its output. Raises AssertionError if it fails."""
        done = subprocess.run(
            self.command(block),
            cwd=self.directory,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=timeout_s,
            check=False,
        )
        assert done.returncode == 0, f"{block}:\n{done.stdout}"
        return done.stdout

    @contextmanager
    def terminal(self, block: str, *ports: int) -> Iterator[Terminal]:
        """A terminal in which a block runs, for the length of a with block that begins when all of the
        ``ports`` are listened on."""
        terminal = Terminal(self, block)
        try:
            for port in ports:
                self.wait_until_listening(port, terminal)
            yield terminal
        finally:
            terminal.close()

    def wait_until_listening(self, port: int, terminal: Terminal, timeout_s: float = 30) -> None:
        """Returns once a connection is accepted. Raises AssertionError with what was printed."""
        probe = f"until (exec 3<>/dev/tcp/localhost/{port}) 2>/dev/null; do sleep 0.05; done"
        try:
            self.type(probe, timeout_s)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"no listener on port {port}:\n{terminal.output()}") from None


@contextmanager
def machine(directory: Path) -> Iterator[Machine]:
    """A machine for the length of a with block."""
    fresh = Machine(directory)
    try:
        yield fresh
    finally:
        fresh.close()
