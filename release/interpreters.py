"""Tries a wheel in a bare venv of each Python of this machine: it is installed, started, and carries a message."""

import os
import shutil
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Final, Self

from release.artifacts import ROOT
from release.changelog import ReleaseError

VERSIONS: Final = ("3.11", "3.12", "3.13", "3.14")
"""Those of the classifiers."""

WAIT_S: Final = 60


def found(environ: dict[str, str] | None = None) -> dict[str, str]:
    """The interpreters by version: of the path and of pyenv; ``RELEASE_PYTHONS`` names more, separated by colons."""
    values = os.environ if environ is None else environ
    more = [each for each in values.get("RELEASE_PYTHONS", "").split(os.pathsep) if each]
    by_pyenv = map(str, sorted(Path.home().glob(".pyenv/versions/*/bin/python3")))
    on_path = [shutil.which(f"python{version}") for version in VERSIONS]
    versions: dict[str, str] = {}
    for path in (*more, *(each for each in on_path if each), *by_pyenv):
        version = _version(path)
        if version in VERSIONS:
            versions.setdefault(version, path)
    return versions


def _version(python: str) -> str:
    """Such as ``3.12``; empty if it can't make a venv."""
    code = "import ensurepip, sys; print('%d.%d' % sys.version_info[:2])"
    done = subprocess.run([python, "-c", code], capture_output=True, text=True)
    return done.stdout.strip() if done.returncode == 0 else ""


def try_wheel(python: str, wheel: Path) -> None:
    """Installs a wheel with the packages of the image's lock, and tries it. Raises :class:`ReleaseError`."""
    with tempfile.TemporaryDirectory() as there:
        venv = Path(there) / "venv"
        _run([python, "-m", "venv", str(venv)])
        pip = [str(venv / "bin/python"), "-m", "pip", "install", "--quiet", "--no-cache-dir"]
        lock = ROOT / "requirements/image.txt"
        _run([*pip, "--require-hashes", "--only-binary=:all:", "--requirement", str(lock)])
        _run([*pip, "--no-deps", "--no-index", str(wheel)])
        _run([str(venv / "bin/python"), "-m", "pip", "check"])
        carry_a_message(venv / "bin", Path(there))


def carry_a_message(programs: Path, directory: Path) -> None:
    """Starts ``catenary`` of a venv, subscribes, publishes, and waits for the message. Raises :class:`ReleaseError`."""
    catenary = str(programs / "catenary")
    environment = {
        "PATH": f"{programs}:{os.defpath}",
        "HOME": str(directory),
        "ANYCABLE_PORT": str(_free_port()),
        "ANYCABLE_HTTP_BROADCAST_PORT": str(_free_port()),
    }
    flags = ["--public", "--norpc", "--broadcast_adapter=http"]
    with _Running([catenary, *flags], environment, directory) as server:
        server.wait_for("Serving")
        listen = [catenary, "subscribe", "--stream=release", "--count=1", "--timeout=30s"]
        with _Running(listen, environment, directory) as listener:
            listener.wait_for("subscribed to")
            _run([catenary, "publish", "release", "it works"], environment)
            listener.wait_for("it works")


class _Running:
    """A process for the length of a with block, and what it prints."""

    def __init__(self, command: list[str], environment: dict[str, str], directory: Path) -> None:
        self._output = tempfile.TemporaryFile()  # noqa: SIM115  (lives as long as the process)
        self._process = subprocess.Popen(
            command, env=environment, cwd=directory, stdout=self._output, stderr=subprocess.STDOUT
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait()
        self._output.close()

    def wait_for(self, text: str) -> None:
        """Returns when it has printed a text. Raises :class:`ReleaseError`."""
        deadline = time.monotonic() + WAIT_S
        while True:
            has_ended = self._process.poll() is not None
            size = os.fstat(self._output.fileno()).st_size
            output = os.pread(self._output.fileno(), size, 0).decode()
            if text in output:
                return
            if has_ended or time.monotonic() > deadline:
                raise ReleaseError(f"no {text!r} from {self._process.args!r}:\n{output}")
            time.sleep(0.02)


def _run(command: list[str], environment: dict[str, str] | None = None) -> None:
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise ReleaseError(f"{' '.join(command)}:\n{done.stdout}{done.stderr}")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
