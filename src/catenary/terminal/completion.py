"""Prints a script that completes subcommands, options and their values.

bash   source <(catenary completion bash)              in ~/.bashrc
zsh    catenary completion zsh > "${fpath[1]}/_catenary"
fish   catenary completion fish > ~/.config/fish/completions/catenary.fish
"""

import argparse
import re
import shlex
from collections.abc import Iterable, Sequence
from typing import Final

import msgspec

from catenary.config.options import SHORTHANDS, TABLE
from catenary.terminal.console import consoles
from catenary.terminal.running import Invocation, parser_of
from catenary.terminal.tools import HELP, TOOLS

SHELLS: Final = ("bash", "zsh", "fish")

SERVER: Final = ""
"""The name of the command without a subcommand."""


class Word(msgspec.Struct, frozen=True):
    """An option, its meaning, and its values if they are enumerated."""

    text: str
    meaning: str
    takes_value: bool
    values: tuple[str, ...] = ()


class Command(msgspec.Struct, frozen=True):
    """A subcommand with its options; ``words`` are its positional values."""

    name: str
    meaning: str
    options: tuple[Word, ...]
    words: tuple[str, ...] = ()


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("shell", choices=SHELLS, metavar="|".join(SHELLS))


def run(invocation: Invocation) -> int:
    write = {"bash": bash, "zsh": zsh, "fish": fish}[invocation.arguments.shell]
    consoles(invocation.environ)[0].say(write(commands()).rstrip())
    return 0


def commands() -> tuple[Command, ...]:
    """All commands: the server first, then ``rpc``, the tools and ``help``."""
    server = (*_options(), *_GENERAL)
    names = tuple(tool.name for tool in TOOLS)
    return (
        Command(SERVER, "Serve", server),
        Command("rpc", "Serve a cable over gRPC", server),
        *(
            _tool(
                tool.name,
                tool.summary,
                parser_of(tool),
                server if tool.takes_server_flags else (),
            )
            for tool in TOOLS
        ),
        Command(HELP, "Explain a command", (), names),
    )


_GENERAL: Final = (
    Word("--config-path", "Read this TOML file", takes_value=True),
    Word("--ignore-config-path", "Read no TOML file", takes_value=False),
    Word("--print-config", "Print the configuration as TOML", takes_value=False),
    Word("--help", "Print the most used options", takes_value=False),
    Word("--help-all", "Print all options", takes_value=False),
    Word("--version", "Print the version", takes_value=False),
)


def _options() -> Iterable[Word]:
    for entry in TABLE:
        option = entry.option
        if option.flag and not option.hidden:
            values = tuple(each for each in entry.choices if each)
            yield Word(f"--{option.flag}", option.help, entry.kind != "bool", values)
    for row in SHORTHANDS:
        if not row.hidden and row.built:
            yield Word(f"--{row.flag}", row.help, row.kind != "bool")


def _tool(
    name: str, meaning: str, parser: argparse.ArgumentParser, more: Iterable[Word] = ()
) -> Command:
    options, words = list[Word](), list[str]()
    for action in parser._actions:  # noqa: SLF001  (argparse has no other way to ask)
        values = tuple(map(str, action.choices or ()))
        if not action.option_strings:
            words += values
            continue
        flag = max(action.option_strings, key=len)
        options.append(Word(flag, action.help or "", action.nargs != 0, values))
    own = {each.text for each in options}
    options += (each for each in more if each.text not in own)
    return Command(name, meaning, tuple(options), tuple(words))


# One shell each


def bash(known: Sequence[Command]) -> str:
    """A function for ``complete -F``; it needs nothing but bash 3.2."""
    names = " ".join(each.name for each in known if each.name)
    cases = "\n".join(
        f"    {each.name or '*'}) options={_quoted(_flags(each))} words={_quoted(' '.join(each.words))} ;;"
        for each in (*known[1:], known[0])
    )
    values = "\n".join(
        f"    {'|'.join(places)}) values={_quoted(' '.join(invocation))} ;;"
        for invocation, places in _by_values(known).items()
    )
    return f"""\
_catenary() {{
  local current="${{COMP_WORDS[COMP_CWORD]}}" before="${{COMP_WORDS[COMP_CWORD-1]}}"
  local command="${{COMP_WORDS[1]}}" options= words= values=
  # bash splits --option=value into three words
  if [[ $current == "=" ]]; then current=; elif [[ $before == "=" ]]; then before="${{COMP_WORDS[COMP_CWORD-2]}}"; fi
  [[ $COMP_CWORD == 1 ]] && command=
  case $command in
{cases}
  esac
  [[ $COMP_CWORD == 1 ]] && words={_quoted(names)}
  case $command:$before in
{values}
  esac
  if [[ -n $values ]]; then
    COMPREPLY=($(compgen -W "$values" -- "$current"))
  elif [[ $current == -* ]]; then
    COMPREPLY=($(compgen -W "$options" -- "$current"))
    [[ ${{#COMPREPLY[@]}} == 1 && $COMPREPLY == *= ]] && compopt -o nospace 2>/dev/null
  elif [[ $before != -* || -n $words ]]; then
    COMPREPLY=($(compgen -W "$words" -- "$current"))
  fi
}}
complete -o default -F _catenary catenary
"""


def zsh(known: Sequence[Command]) -> str:
    """A completion function for ``_arguments``."""
    names = "\n".join(f"    {_described(each)}" for each in known if each.name)
    cases = "\n".join(
        f"    {each.name or '*'})\n      _arguments -s {_zsh_options(each)} {_zsh_rest(each)} ;;"
        for each in (*known[1:], known[0])
    )
    return f"""\
#compdef catenary
_catenary() {{
  local -a names
  names=(
{names}
  )
  if (( CURRENT == 2 )) && [[ ${{words[2]}} != -* ]]; then
    _describe command names
    _files
    return
  fi
  local name=${{words[2]}}
  if [[ $name != -* ]]; then
    shift words
    (( CURRENT-- ))
  fi
  case $name in
{cases}
  esac
}}
if [[ $funcstack[1] == _catenary ]]; then _catenary "$@"; else compdef _catenary catenary; fi
"""


def fish(known: Sequence[Command]) -> str:
    """One ``complete`` for each word."""
    names = " ".join(each.name for each in known if each.name)
    lines = ["function __catenary_bare", f"  not __fish_seen_subcommand_from {names}", "end"]
    for each in known:
        where = f"__fish_seen_subcommand_from {each.name}" if each.name else "__catenary_bare"
        if each.name:
            lines.append(
                f"complete -c catenary -n __catenary_bare -a {each.name} -d {_quoted(each.meaning)}"
            )
        if each.words:
            lines.append(
                f"complete -c catenary -n {_quoted(where)} -f -a {_quoted(' '.join(each.words))}"
            )
        for word in each.options:
            value = f" -x -a {_quoted(' '.join(word.values))}" if word.values else " -r"
            lines.append(
                f"complete -c catenary -n {_quoted(where)} -l {word.text[2:]}"
                f"{value if word.takes_value else ''} -d {_quoted(_short(word.meaning))}"
            )
    return "\n".join(lines) + "\n"


def _flags(command: Command) -> str:
    return " ".join(f"{word.text}{'=' if word.takes_value else ''}" for word in command.options)


def _by_values(known: Sequence[Command]) -> dict[tuple[str, ...], list[str]]:
    """Values → the options (``command:--option``) that take them."""
    found: dict[tuple[str, ...], list[str]] = {}
    for command in known:
        for word in command.options:
            if word.values:
                found.setdefault(word.values, []).append(f"{command.name or '*'}:{word.text}")
    return found


def _described(command: Command) -> str:
    return _quoted(f"{command.name}:{command.meaning}")


def _zsh_options(command: Command) -> str:
    return " ".join(_quoted(_zsh_option(word)) for word in command.options)


def _zsh_option(word: Word) -> str:
    meaning = re.sub(r"([\[\]:\\])", r"\\\1", _short(word.meaning))
    if not word.takes_value:
        return f"{word.text}[{meaning}]"
    values = f"({' '.join(word.values)})" if word.values else "_files"
    return f"{word.text}=[{meaning}]:value:{values}"


def _zsh_rest(command: Command) -> str:
    return _quoted(f"*:word:({' '.join(command.words)})" if command.words else "*:file:_files")


def _short(meaning: str) -> str:
    return meaning.split(" (", maxsplit=1)[0].split(";", maxsplit=1)[0][:80]


def _quoted(text: str) -> str:
    return shlex.quote(text)
