"""The folders of examples/, and what their READMEs tell people to type."""

import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.parts.node import require_packages
from tests.parts.ports import wait_until_listening
from tests.parts.server import OURS, CableServer, cable_server
from tests.terminal.shell import beside, environment, typed

EXAMPLES = Path(__file__).parents[2] / "examples"
FOLDERS = sorted(readme.parent.name for readme in EXAMPLES.glob("*/README.md"))

_BLOCK = re.compile(r"^```sh\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_PROGRAMS = {
    "catenary": OURS,
    "flask": (sys.executable, "-m", "flask"),
    "python": (sys.executable,),
}


class Readme:
    """The commands of a README: ``installs`` once, ``starts`` each in a terminal of its own, with the
    ``variables`` that are exported there, and blocks with ``more``."""

    def __init__(self, folder: str) -> None:
        text = (EXAMPLES / folder / "README.md").read_text()
        installs, starts, *self.more = _BLOCK.findall(text)
        self.length = len(text.splitlines())
        self.installs = _words(installs)
        self.starts = [words for words in _words(starts) if words[0] != "export"]
        exports = [words[1] for words in _words(starts) if words[0] == "export"]
        self.variables = {
            name: value for name, _, value in (each.partition("=") for each in exports)
        }


def _words(block: str) -> list[list[str]]:
    return [shlex.split(line, comments=True) for line in block.splitlines()]


class Example:
    """An example in a folder of its own, as it is when the installs of its README are done."""

    def __init__(self, folder: str, directory: Path) -> None:
        self.readme = Readme(folder)
        self.directory = directory / folder
        shutil.copytree(
            EXAMPLES / folder,
            self.directory,
            ignore=shutil.ignore_patterns("node_modules", "__pycache__", ".*"),
        )
        (self.directory / "node_modules").symlink_to(require_packages())

    @contextmanager
    def server(self, *flags: str) -> Iterator[CableServer]:
        """The server, as the README starts it, on free ports and with more flags."""
        words = self._start("catenary")
        command = (*_PROGRAMS["catenary"], *words[1:])
        with cable_server(
            *flags, command=command, env=self.readme.variables, directory=self.directory
        ) as server:
            yield server

    @contextmanager
    def program(self, name: str, server: CableServer, **variables: str) -> Iterator[None]:
        """What the README starts beside the server. Raises RuntimeError where it has ended by itself."""
        words = self._start(name)
        with tempfile.TemporaryFile() as output:
            process = subprocess.Popen(
                [*_PROGRAMS[name], *words[1:]],
                cwd=self.directory,
                env=environment(**self._variables(server), **variables),
                stdout=output,
                stderr=subprocess.STDOUT,
            )
            try:
                yield
                if process.poll() is not None:
                    output.seek(0)
                    raise RuntimeError(f"{shlex.join(words)}:\n{output.read().decode()}")
            finally:
                process.terminate()
                process.wait()

    @contextmanager
    def site(self, name: str, port: int, server: CableServer, **variables: str) -> Iterator[str]:
        """The same for one that listens, when it does; gives its origin."""
        with self.program(name, server, **variables):
            wait_until_listening(port)
            yield f"http://127.0.0.1:{port}"

    def type(self, block: str, server: CableServer) -> str:
        """Runs a block of commands beside the server; what it printed."""
        text = block.replace("localhost:8080", f"127.0.0.1:{server.port}")
        return typed(text, self.directory, **self._variables(server))

    def _start(self, name: str) -> list[str]:
        (words,) = (words for words in self.readme.starts if words[0] == name)
        return words

    def _variables(self, server: CableServer) -> dict[str, str]:
        return {
            **beside(server),
            **self.readme.variables,
            "ANYCABLE_HTTP_BROADCAST_URL": server.broadcast_url,
        }
