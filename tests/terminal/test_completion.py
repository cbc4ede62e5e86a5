"""Completion, in a real bash, zsh and fish."""

import shlex
import shutil
import subprocess
from collections.abc import Callable, Sequence

import pytest

from catenary.config.options import TABLE
from catenary.terminal.completion import Command, Word, bash, commands, fish, zsh
from tests.parts.missing import missing
from tests.terminal.shell import environment


def in_bash(*words: str) -> list[str]:
    """The completions that bash offers for the last of these words."""
    script = f"""
    source <(catenary completion bash)
    COMP_WORDS=({shlex.join(words)})
    COMP_CWORD=$(({len(words)} - 1))
    _catenary
    printf '%s\\n' "${{COMPREPLY[@]}}"
    """
    done = subprocess.run(
        ["bash", "-c", script], env=environment(), capture_output=True, text=True, timeout=20
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.split()


def test_bash_is_told_whom_to_ask() -> None:
    done = subprocess.run(
        ["bash", "-c", "source <(catenary completion bash); complete -p catenary"],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=20,
    )
    assert done.stdout == "complete -o default -F _catenary catenary\n"


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (("catenary", "pub"), ["publish"]),
        (("catenary", "--broke"), ["--broker="]),
        (("catenary", "--help"), ["--help", "--help-all"]),
        (("catenary", "bench", "--help"), ["--help", "--help-all"]),
        (("catenary", "app:cable", "--noa"), ["--noauth"]),
        (("catenary", "rpc", "app:cable", "--noa"), ["--noauth"]),
        (("catenary", "--broker", "=", "me"), ["memory"]),
        (("catenary", "--broker", "="), ["none", "memory", "nats", "redis"]),
        (("catenary", "--broker", "r"), ["redis"]),
        (("catenary", "bench", ""), ["connect", "fanout", "echo", "resume"]),
        (("catenary", "bench", "--publ"), ["--publish-url="]),
        (("catenary", "subscribe", "--broke"), []),
        (("catenary", "help", "hi"), ["history"]),
        (("catenary", "completion", "z"), ["zsh"]),
    ],
)
def test_what_bash_offers(words: tuple[str, ...], offered: list[str]) -> None:
    assert in_bash(*words) == offered


def test_every_option_of_the_server_can_be_completed() -> None:
    server, *_ = commands()
    shown = [entry.option for entry in TABLE if not entry.option.hidden]
    flags = {f"--{option.flag}" for option in shown if option.flag}
    assert flags <= {word.text for word in server.options}


@pytest.mark.parametrize("shell", [bash, zsh, fish], ids=lambda write: write.__name__)
def test_a_shell_can_read_its_script(shell: Callable[[Sequence[Command]], str]) -> None:
    program = shutil.which(shell.__name__)
    if program is None:
        missing(shell.__name__, "install it by .ci/parts")
    subprocess.run([program, "-n"], input=shell(commands()), text=True, check=True, timeout=20)


def test_zsh_and_fish_are_told_all_words() -> None:
    known = commands()
    for_zsh, for_fish = zsh(known), fish(known)
    words: list[Word] = [word for command in known for word in command.options]
    assert len(words) > 100
    assert [word.text for word in words if f"{word.text}[" not in for_zsh.replace("=[", "[")] == []
    assert [word.text for word in words if f" -l {word.text[2:]} " not in for_fish] == []
