"""The findings of ``catenary doctor``, and how they are printed."""

from typing import Final, Literal

import msgspec

from catenary.terminal.console import Console, printable

Level = Literal["ok", "warning", "problem"]

_MARKS: Final = {"ok": ("✓", "green"), "warning": ("!", "yellow"), "problem": ("✗", "red")}
_CHECK_COLUMN: Final = 14


class Finding(msgspec.Struct, frozen=True):
    """One sentence about one thing; ``advice`` says what to do, and is empty where there is nothing to do.

    With a problem the server does not start, or does not do its work; with a warning it does, with less safety or speed.
    """

    level: Level
    check: str
    text: str
    advice: str = ""


def ok(check: str, text: str) -> Finding:
    """Everything is right."""
    return Finding("ok", check, text)


def warning(check: str, text: str, advice: str) -> Finding:
    """Something could be better."""
    return Finding("warning", check, text, advice)


def problem(check: str, text: str, advice: str) -> Finding:
    """Something does not work."""
    return Finding("problem", check, text, advice)


class Report:
    """Prints findings as they come: a list for people, JSON lines for programs."""

    def __init__(self, out: Console, *, as_json: bool) -> None:
        self._out = out
        self._as_json = as_json
        self._numbers = dict.fromkeys(_MARKS, 0)

    def add(self, finding: Finding) -> None:
        """Prints a finding."""
        self._numbers[finding.level] += 1
        if self._as_json:
            self._out.say(msgspec.json.encode(finding).decode())
            return
        mark, style = _MARKS[finding.level]
        check = printable(finding.check).ljust(_CHECK_COLUMN)
        self._out.say(f"{self._out.painted(style, mark)} {check} {printable(finding.text)}")
        if finding.advice:
            self._out.say(" " * (_CHECK_COLUMN + 3) + f"→ {printable(finding.advice)}")

    def end(self) -> int:
        """Prints a summary for people; returns the exit status: 1 if there is a problem."""
        problems, warnings = self._numbers["problem"], self._numbers["warning"]
        if not self._as_json:
            text = f"{_counted(problems, 'problem')}, {_counted(warnings, 'warning')}"
            style = "red" if problems else "yellow" if warnings else "green"
            self._out.say(f"\n{self._out.painted(style, text)}")
        return 1 if problems else 0


def _counted(number: int, what: str) -> str:
    return f"{number or 'no'} {what}{'' if number == 1 else 's'}"
