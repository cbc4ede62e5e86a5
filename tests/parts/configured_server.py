"""A server with a configuration file, which is written again and read again on SIGHUP."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.parts.server import OURS, CableServer

APPLIED = "Reload: options applied: "
REFUSED = "Reload: the configuration is left as it was"


class ConfiguredServer(CableServer):
    """``configure`` replaces its file, and returns what the server has logged about that."""

    def __init__(
        self, directory: Path, text: str, *flags: str, command: tuple[str, ...] = OURS
    ) -> None:
        self.path = directory / "anycable.toml"
        self.path.write_text(text)
        super().__init__(command, (f"--config-path={self.path}", *flags), {}, directory)

    def configure(self, text: str) -> str:
        """Returns the lines of the log from the signal to the last line about the reload."""
        self.write(text)
        return self.hang_up()

    def write(self, text: str) -> None:
        """Replaces the file, and nothing else."""
        self.path.write_text(text)

    def hang_up(self) -> str:
        """Sends SIGHUP and returns what has been logged about it."""
        before = self.output()
        times = before.count(APPLIED) + before.count(REFUSED)
        os.kill(self.process.pid, signal.SIGHUP)
        output = self.wait_for_either(times + 1)
        return output[len(before) :]

    def wait_for_either(self, times: int) -> str:
        """Returns the output after so many reloads, whether they were applied or refused."""
        output = self.wait_for_output("Reload: ")
        while output.count(APPLIED) + output.count(REFUSED) < times:
            output = self.wait_for_output("Reload: ", times=output.count("Reload: ") + 1)
        return output


@contextmanager
def configured_server(
    directory: Path, text: str, *flags: str, command: tuple[str, ...] = OURS
) -> Iterator[ConfiguredServer]:
    """A server for the length of a with block, ready when the block begins."""
    server = ConfiguredServer(directory, text, *flags, command=command)
    try:
        server.wait_until_ready()
        yield server
    finally:
        server.close()
