"""docs/deployment.md: its commands are typed where they need nothing but this machine; the others name files that exist."""

import re
import shlex
from pathlib import Path

from tests.deploy.variables import configured
from tests.parts.image import ROOT
from tests.parts.machine import blocks, machine

CHECK, DOCKER, COMPOSE, KUBERNETES, FLY, HEROKU, KAMAL, PROCFILE = blocks("docs/deployment.md")


def test_commands_of_this_machine(tmp_path: Path) -> None:
    with machine(tmp_path) as there:
        printed = there.type(CHECK)
        assert '"level":"problem"' not in printed
        with there.terminal(PROCFILE, 5000) as server:
            server.wait_for("ws://0.0.0.0:5000/cable")
    (line,) = re.findall(r"^web: (.*)$", (ROOT / "deploy/Procfile").read_text(), re.MULTILINE)
    assert line in PROCFILE


def test_files_of_the_commands_exist() -> None:
    for command in (DOCKER, COMPOSE, KUBERNETES, FLY, KAMAL, HEROKU):
        for path in re.findall(r"\bdeploy/[\w./]*", command):
            assert (ROOT / path).exists(), path


def test_a_container_by_hand() -> None:
    _, run = DOCKER.splitlines()
    words = shlex.split(run)
    given = [words[at + 1] for at, word in enumerate(words) if word == "--env"]
    options = configured(**dict(each.split("=", 1) for each in given))
    (published,) = (words[at + 1] for at, word in enumerate(words) if word == "--publish")
    assert published.rpartition(":")[2] == str(options.server.port)
    assert options.rpc.implementation == "none"


def test_what_the_page_says_of_times() -> None:
    text = (ROOT / "docs/deployment.md").read_text()
    node = configured().node
    assert f"`shutdown_timeout` ({node.shutdown_timeout_s} s) together" in text
    assert (
        f"`shutdown_delay` ({node.shutdown_delay_s}), `shutdown_timeout` ({node.shutdown_timeout_s})"
        in text
    )
