"""Creates a project: an application of a few lines, a page, a test, and a README.

  catenary new chat

The directory must be new or empty: nothing is overwritten.
"""

import argparse
import secrets
from importlib.resources import files
from pathlib import Path
from typing import Final

from catenary.errors import ConfigError
from catenary.terminal.console import consoles
from catenary.terminal.running import Invocation

_STARTER: Final = "starter"
_ENDING: Final = ".in"
"""Suffix of templates, so that a Python template is not taken for a module of this package."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("directory", metavar="DIRECTORY", type=Path, help="new, or empty")


def run(invocation: Invocation) -> int:
    directory: Path = invocation.arguments.directory
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
    out, _ = consoles(invocation.environ)
    out.say(f"{', '.join(sorted(templates()))} in {directory}")
    out.say(f"Next: cd {directory} && catenary app:cable; see README.md")
    return 0


def templates() -> dict[str, str]:
    """The files of a new project by name."""
    found = (files("catenary.terminal") / _STARTER).iterdir()
    return {each.name.removesuffix(_ENDING): each.read_text("utf-8") for each in found}


def _name(directory: Path) -> str:
    """The name of the project, reduced to characters that are safe in HTML and in text."""
    name = directory.resolve().name
    return "".join(each for each in name if each.isalnum() or each in " ._-") or "cable"
