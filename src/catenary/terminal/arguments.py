"""The parser of a tool's arguments: help that fits a screen, errors of one line.

Knows: argparse, terminals. Does not know: which tool has which arguments.
"""

import argparse
import sys
from collections.abc import Iterable, Sequence
from typing import Any, Final, NoReturn

from catenary.config.render import SCREEN
from catenary.config.suggestions import did_you_mean

MORE: Final = "more options"
"""The group of arguments that only ``--help-all`` shows."""

_HELP_ALL: Final = "--help-all"
_FLAG_COLUMN: Final = 24


def more_arguments(parser: argparse.ArgumentParser) -> Any:
    """The group to which a tool adds arguments that few people need: ``--help-all`` shows them."""
    groups = parser._action_groups  # noqa: SLF001  (argparse has no other way to ask)
    return next((each for each in groups if each.title == MORE), None) or (
        parser.add_argument_group(MORE)
    )


class ToolParser(argparse.ArgumentParser):
    """Parses the arguments of one tool. ``description`` is the text of its help, examples included.

    With ``takes_server_flags``, words that the tool does not know are in ``server_flags`` of the result.
    """

    def __init__(self, name: str, description: str, *, takes_server_flags: bool = False) -> None:
        super().__init__(
            prog=f"catenary {name}",
            description=description.strip(),
            allow_abbrev=False,
            add_help=False,
        )
        self._usage = ""
        self._takes_server_flags = takes_server_flags
        self.add_argument("-h", "--help", action=_PrintHelp, help="print this help")
        more_arguments(self).add_argument(
            _HELP_ALL, action=_PrintHelp, help="print the help with all options"
        )

    def read(self, words: Sequence[str]) -> argparse.Namespace:
        """Parses the words after the tool's name. Ends the program if they are wrong, with status 2, or ask for help."""
        # argparse changes the positional arguments while it parses.
        self._usage = self._written_usage()
        arguments, rest = self.parse_known_intermixed_args(words)
        if self._takes_server_flags:
            arguments.server_flags = rest
            return arguments
        for word in rest:
            name = word.partition("=")[0]
            if name.startswith("-"):
                self.error(f"unknown option {name}{did_you_mean(name, self._flags())}")
            self.error(f"unexpected word {word!r}")
        return arguments

    def text(self, *, with_all: bool) -> str:
        """The help; without ``with_all`` it fits a screen."""
        shown = [action for action in self._actions if with_all or not self._is_rare(action)]
        positionals = [action for action in shown if not action.option_strings]
        rows = [
            (_call(action), action.help or "")
            for action in (*positionals, *(each for each in shown if each.option_strings))
            if action.help is not argparse.SUPPRESS
            and not isinstance(action, _PrintHelp)
            and (action.help or action.option_strings)
        ]
        lines = [
            self._usage or self._written_usage(),
            "",
            self.description or "",
            "",
            *map(_row, rows),
        ]
        rare = [action for action in self._actions if self._is_rare(action)]
        if not with_all and len(rare) > 1:
            lines.append(_row((_HELP_ALL, "print this help with all options")))
        return "\n".join((*lines, ""))

    def format_help(self) -> str:
        """As :meth:`text`; argparse calls it."""
        return self.text(with_all=False)

    def error(self, message: str) -> NoReturn:
        """Ends the program with one line. The tools' other errors have status 1."""
        sentence = message.removeprefix("argument ")
        self.exit(2, f"{self.prog}: {sentence} (see {self.prog} --help)\n")

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.choices is not None and value not in action.choices:
            choices = [str(each) for each in action.choices]
            hint = did_you_mean(str(value), choices)
            raise argparse.ArgumentError(
                action, f"expected one of {', '.join(choices)}, got {value!r}{hint}"
            )

    def _written_usage(self) -> str:
        calls = (_call(action) for action in self._actions if not action.option_strings)
        server = ("[MODULE:CABLE]", "[options of a server]") if self._takes_server_flags else ()
        return " ".join(("Usage:", self.prog, *calls, *server, "[options]"))

    def _is_rare(self, action: argparse.Action) -> bool:
        return action in more_arguments(self)._group_actions  # noqa: SLF001

    def _flags(self) -> Iterable[str]:
        return [flag for action in self._actions for flag in action.option_strings]


class _PrintHelp(argparse.Action):
    """``-h``, ``--help``, ``--help-all``."""

    def __init__(self, option_strings: Sequence[str], dest: str, help: str) -> None:
        super().__init__(option_strings, argparse.SUPPRESS, nargs=0, help=help)

    def __call__(self, parser: argparse.ArgumentParser, *rest: object) -> None:
        assert isinstance(parser, ToolParser)
        sys.stdout.write(parser.text(with_all=_HELP_ALL in self.option_strings))
        parser.exit()


def _call(action: argparse.Action) -> str:
    """An argument as it is typed: ``--url URL``, ``[DATA]``."""
    choices = "|".join(map(str, action.choices or ()))
    flag = max(action.option_strings, key=len, default="")
    if action.nargs == 0:
        return flag
    metavar = (
        action.metavar
        or (choices if not flag or len(choices) < 16 else "")
        or (action.dest.upper())
    )
    assert isinstance(metavar, str)
    shown = {"?": f"[{metavar}]", "*": f"[{metavar} …]", "+": f"{metavar} …"}.get(
        str(action.nargs), metavar
    )
    return f"{flag} {metavar if action.nargs == '?' else shown}" if flag else shown


def _row(row: tuple[str, str]) -> str:
    """One argument, on one line where it fits."""
    call, text = row
    start = f"  {call}".ljust(_FLAG_COLUMN)
    if not text:
        return start.rstrip()
    if not start.endswith(" "):
        start += "  "
    width, _ = SCREEN
    lines, line = [], start
    for word in text.split():
        if len(line) + len(word) > width:
            lines.append(line.rstrip())
            line = " " * _FLAG_COLUMN
        line += f"{word} "
    return "\n".join((*lines, line.rstrip()))
