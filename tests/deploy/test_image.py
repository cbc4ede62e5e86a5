"""deploy/Dockerfile: what hadolint says, and its instructions, carried out on this machine."""

import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path

import pytest

from tests.parts.bare_venv import link_packages
from tests.parts.image import ROOT, Stage, instructions, stage, stages
from tests.parts.ports import free_port

DOCKERFILE = ROOT / "deploy" / "Dockerfile"
EXTRAS = "catenary[server,jwt,nats,otel]"
"""Those of requirements/image.txt: see the Makefile."""


def test_hadolint_has_nothing_to_say() -> None:
    program = Path(sys.executable).with_name("hadolint")
    done = subprocess.run([program, "--no-color", DOCKERFILE], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "")


def test_it_runs_as_nobody_in_particular_and_is_told_to_stop_as_others_are() -> None:
    final = {each.name: each for each in stages(DOCKERFILE)[-1]}
    user, _, group = final["USER"].text.partition(":")
    assert user.isdecimal()
    assert group.isdecimal()
    assert "0" not in (user, group)
    assert final["STOPSIGNAL"].text == "SIGTERM"
    # In the exec form: a shell would get the signal in the server's place.
    assert final["ENTRYPOINT"].text.startswith("[")
    assert "CMD [" in final["HEALTHCHECK"].text


def test_stages_share_a_base_of_which_classifiers_know() -> None:
    """A venv is a link to its interpreter: it works in another image only if that has the same."""
    bases = {stage[0].text.partition(" ")[0] for stage in stages(DOCKERFILE)}
    assert len(bases) == 1
    version = bases.pop().partition(":")[2].removesuffix("-slim")
    pyproject = (ROOT / "pyproject.toml").read_text()
    assert f"Programming Language :: Python :: {version}" in pyproject


def test_the_context_has_what_is_copied_and_little_else() -> None:
    ignored = (ROOT / "deploy" / "Dockerfile.dockerignore").read_text().split()
    kept = [each[1:] for each in ignored if each.startswith("!")]
    copied = {
        source
        for each in instructions(DOCKERFILE)
        if each.name == "COPY" and "--from" not in each.text
        for source in shlex.split(each.text)[:-1]
    }
    assert ignored[0] == "*"
    assert {source for source in copied if source.partition("/")[0] not in kept} == set()
    assert {
        each for each in kept if not any(fnmatch(source, f"{each}*") for source in copied)
    } == set()


def test_its_lock_is_that_of_the_extras() -> None:
    lock = (ROOT / "Makefile").read_text()
    (line,) = (each for each in lock.splitlines() if each.endswith("requirements/image.txt"))
    words = line.split()
    extras = [words[at + 1] for at, word in enumerate(words) if word == "--extra"]
    assert f"catenary[{','.join(extras)}]" == EXTRAS


@pytest.fixture(scope="module")
def image() -> Iterator[Stage]:
    """The last stage of the Dockerfile, read-only."""
    first, last = stages(DOCKERFILE)
    with stage() as build, stage() as final:
        for each in first:
            build.apply(each, {})
            if "-m venv" in each.text:
                # In the place of a download: pip finds these installed in the versions of the lock, or fails.
                venv = {"without": "catenary", "copied_to": "/opt/catenary"}
                link_packages(build.files / "opt/catenary", EXTRAS, **venv)
        for each in last:
            final.apply(each, {"build": build})
        final.make_read_only()
        yield final


def test_it_has_what_the_server_needs_and_no_more(image: Stage) -> None:
    assert image.run("catenary", "--version").returncode == 0
    for module in ("pip", "hatchling", "pytest"):
        assert image.run("python", "-c", f"import {module}").returncode == 1, module
    user = image.run("id", "-u", "-n")
    assert user.stdout == "catenary\n"
    assert image.run("touch", "/etc/catenary/x").stderr.endswith("Read-only file system\n")


def test_a_container(image: Stage) -> None:
    """It is healthy as its HEALTHCHECK sees it, and ends as its STOPSIGNAL asks."""
    final = {each.name: each for each in stages(DOCKERFILE)[-1]}
    variables = {
        "ANYCABLE_PORT": str(free_port()),
        "ANYCABLE_HTTP_BROADCAST_PORT": str(free_port()),
        "ANYCABLE_SECRET": "s3cret",
    }
    # Workers and the NATS server between them need /tmp, more than a single process does.
    flags = ("--norpc", "--workers=2", "--broker=nats", "--broadcast_adapter=http")
    command = image.command(*final["ENTRYPOINT"].words, *flags, **variables)
    check = final["HEALTHCHECK"].words
    output = ""
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as server:
        try:
            assert server.stdout is not None
            while (line := server.stdout.readline()) and b"Worker 2 serves" not in line:
                output += line.decode()
            deadline = time.monotonic() + 60
            while (health := image.run(*check, "--ready", **variables)).returncode:
                assert server.poll() is None, output
                assert time.monotonic() < deadline, health.stderr
                time.sleep(0.1)
            assert (health.stdout, image.run(*check, **variables).stdout) == ("OK\n", "OK\n")
            server.send_signal(getattr(signal, final["STOPSIGNAL"].text))
            output += server.communicate(timeout=40)[0].decode()
        finally:
            server.kill()
    assert server.returncode == 0, output
    assert "Read-only" not in output
    assert image.run(*check, **variables).returncode == 1
