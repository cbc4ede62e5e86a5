"""Builds and runs deploy/Dockerfile without a container engine, as far as that goes.

Each stage is an overlay over this machine's files (mount_namespaces(7), overlayfs), in which its instructions run as they
stand: the environment of the tests replaces Python and pip of the base image, and packages come from there.
What is not tried: the base image itself, layers, and the network of a container.
"""

import json
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

from tests.parts.missing import missing

ROOT = Path(__file__).parents[2]

_HOLD = """
set -e
mount -t tmpfs none "$1"
mkdir "$1/changed" "$1/work" "$1/root"
mount -t overlay none -o "lowerdir=/,upperdir=$1/changed,workdir=$1/work" "$1/root"
mount --rbind /proc "$1/root/proc"
mount --rbind /dev "$1/root/dev"
echo up
cat
"""


class Instruction(NamedTuple):
    """One instruction of a Dockerfile: ``RUN``, and the rest of it."""

    name: str
    text: str

    @property
    def words(self) -> list[str]:
        """Its words: of the exec form, if it has that."""
        at = self.text.find("[")
        if at >= 0:
            found: list[str] = json.loads(self.text[at:])
            return found
        return shlex.split(self.text)


def instructions(path: Path) -> list[Instruction]:
    """The instructions of a Dockerfile, with continued lines joined."""
    lines = [each for each in path.read_text().splitlines() if not each.lstrip().startswith("#")]
    joined = "\n".join(lines).replace("\\\n", " ")
    return [Instruction(*each.split(None, 1)) for each in joined.splitlines() if each.strip()]


def stages(path: Path) -> list[list[Instruction]]:
    """Its stages; each begins with FROM."""
    found: list[list[Instruction]] = []
    for each in instructions(path):
        if each.name == "FROM":
            found.append([])
        found[-1].append(each)
    return found


class Stage:
    """The files of one stage, and what its instructions have set."""

    def __init__(self, directory: Path) -> None:
        self._hold = subprocess.Popen(
            ["unshare", "--mount", "--propagation=private", "bash", "-c", _HOLD, "-", directory],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        assert self._hold.stdout is not None
        self._inside = directory / "root"
        is_up = self._hold.stdout.readline() == b"up\n"
        if not is_up:
            _, error = self._hold.communicate()
            missing("a root of one's own", f"run as root, on a kernel with overlayfs ({error!r})")
        self.files = Path(f"/proc/{self._hold.pid}/root{self._inside}")
        """Its root, as this process sees it."""
        self.environment = {"PATH": "/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
        self.workdir = "/"
        self.user = ""
        ours = Path(sys.executable)
        for name, path in (
            ("python", ours.resolve()),
            ("pip", ours.with_name("pip")),
            ("hatchling", ours.with_name("hatchling")),
        ):
            program = self.files / "usr/local/bin" / name
            program.unlink(missing_ok=True)
            program.symlink_to(path)

    def close(self) -> None:
        """Unmounts it: its namespace ends with the process that holds it."""
        self._hold.communicate()

    def command(self, *words: str, **variables: str) -> list[str]:
        """The command that runs words there, as the user and in the directory that the stage has set."""
        values = {**self.environment, **variables}
        user = [f"--userspec={self.user}", "--groups="] if self.user else []
        return [
            *("nsenter", f"--target={self._hold.pid}", "--mount"),
            *("chroot", *user, str(self._inside), "env", f"--chdir={self.workdir}", "-i"),
            *(f"{name}={value}" for name, value in values.items()),
            *words,
        ]

    def run(self, *words: str, **variables: str) -> subprocess.CompletedProcess[str]:
        """Runs words to their end."""
        command = self.command(*words, **variables)
        return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)

    def shell(self, text: str, **variables: str) -> None:
        """Runs a RUN instruction. Raises AssertionError if it fails."""
        done = self.run("/bin/sh", "-c", text, **variables)
        assert done.returncode == 0, f"{text}:\n{done.stdout}{done.stderr}"

    def apply(self, instruction: Instruction, others: dict[str, "Stage"]) -> None:
        """Carries out one instruction; those that say something to an engine alone change nothing."""
        match instruction.name:
            case "ENV":
                for word in shlex.split(instruction.text):
                    name, _, value = word.partition("=")
                    self.environment[name] = value.replace("$PATH", self.environment["PATH"])
            case "WORKDIR":
                self.workdir = instruction.text
                (self.files / self.workdir.lstrip("/")).mkdir(parents=True, exist_ok=True)
            case "USER":
                self.user = instruction.text
            case "COPY":
                self._copy(shlex.split(instruction.text), others)
            case "RUN":
                self.shell(instruction.text, PIP_NO_INDEX="1")

    def _copy(self, words: list[str], others: dict[str, "Stage"]) -> None:
        origin = ROOT
        if words[0].startswith("--from="):
            origin = others[words.pop(0).removeprefix("--from=")].files
        *sources, target = words
        to = self.files / str(Path(self.workdir, target)).lstrip("/")
        for source in sources:
            path = origin / source.lstrip("/")
            if path.is_dir():
                ignored = shutil.ignore_patterns("__pycache__")
                shutil.copytree(path, to, symlinks=True, dirs_exist_ok=True, ignore=ignored)
            else:
                into = to / path.name if target.endswith("/") or to.is_dir() else to
                into.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(path, into)

    def make_read_only(self) -> None:
        """As ``docker run --read-only --tmpfs /tmp``."""
        enter = ["nsenter", f"--target={self._hold.pid}", "--mount"]
        root = str(self._inside)
        subprocess.run([*enter, "mount", "-o", "remount,ro", root], check=True)
        subprocess.run([*enter, "mount", "-t", "tmpfs", "none", f"{root}/tmp"], check=True)


@contextmanager
def stage() -> Iterator[Stage]:
    """An empty stage for the length of a with block."""
    if os.geteuid() != 0:
        missing("a root of one's own", "run as root")
    with tempfile.TemporaryDirectory() as directory, ExitStack() as opened:
        fresh = Stage(Path(directory))
        opened.callback(fresh.close)
        yield fresh
