"""Begins a project: an application of a few lines, a page, a test, and what to type next.

  catenary new chat

Nothing is written over: the directory must be new, or empty.
"""

import argparse
import secrets
from importlib.resources import files
from pathlib import Path
from typing import Final

from catenary.errors import ConfigError
from catenary.terminal.running import Given
from catenary.terminal.screen import papers

_STARTER: Final = "starter"
_ENDING: Final = ".in"
"""Without it, a template that is Python would be taken for a module of ours."""


def declare(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("directory", metavar="DIRECTORY", type=Path, help="new, or empty")


def run(given: Given) -> int:
    directory: Path = given.arguments.directory
    words = {"@NAME@": _name(directory), "@SECRET@": secrets.token_hex(32)}
    try:
        if directory.exists() and any(directory.iterdir()):
            raise ConfigError(f"expected a new directory or an empty one, got {directory}")
        directory.mkdir(parents=True, exist_ok=True)
        for name, text in templates().items():
            for word, meaning in words.items():
                text = text.replace(word, meaning)  # noqa: PLW2901
            (directory / name).write_text(text)
    except OSError as error:
        raise ConfigError(f"can't write to {directory}: {error}") from error
    out, _ = papers(given.environ)
    out.say(f"{', '.join(sorted(templates()))} in {directory}")
    out.say(f"Next: cd {directory} && catenary app:cable; README.md tells the rest")
    return 0


def templates() -> dict[str, str]:
    """The files of a new project by name."""
    found = (files("catenary.terminal") / _STARTER).iterdir()
    return {each.name.removesuffix(_ENDING): each.read_text("utf-8") for each in found}


def _name(directory: Path) -> str:
    """What the project is called; it stands in a page and in a text."""
    name = directory.resolve().name
    return "".join(each for each in name if each.isalnum() or each in " ._-") or "cable"
