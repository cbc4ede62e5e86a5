"""What people see: colours, notes, and a bar while they wait; nothing of that where nobody looks.

Knows: terminals. Does not know: what is told.
"""

import asyncio
import re
import sys
from collections.abc import Callable, Mapping
from time import monotonic
from typing import Final, TextIO

STYLES: Final = {
    "dim": "2",
    "bold": "1",
    "red": "31",
    "green": "32",
    "yellow": "33",
    "blue": "34",
    "magenta": "35",
    "cyan": "36",
}

_TOKEN: Final = re.compile(
    r'(?P<key>"(?:[^"\\]|\\.)*")(?=\s*:)|(?P<text>"(?:[^"\\]|\\.)*")'
    r"|(?P<number>-?\d[\d.eE+-]*)|(?P<word>true|false|null)"
)
_COLOURS: Final = {"key": "cyan", "text": "green", "number": "yellow", "word": "magenta"}

_BAR_WIDTH: Final = 30
_REDRAW_S: Final = 0.1


class Paper:
    """A stream of text: a terminal, with colours unless NO_COLOR is set, or something else."""

    def __init__(self, stream: TextIO, environ: Mapping[str, str]) -> None:
        self.stream = stream
        self.is_terminal = stream.isatty()
        # https://no-color.org: any value but an empty one.
        dumb = environ.get("TERM") == "dumb"
        self._is_coloured = self.is_terminal and not environ.get("NO_COLOR") and not dumb

    def painted(self, style: str, text: str) -> str:
        """The text in a style, where there are colours."""
        return f"\x1b[{STYLES[style]}m{text}\x1b[0m" if self._is_coloured else text

    def json(self, text: str) -> str:
        """JSON text with its kinds of values told apart."""
        if not self._is_coloured:
            return text
        return _TOKEN.sub(
            lambda match: self.painted(_COLOURS[match.lastgroup or ""], match[0]), text
        )

    def say(self, line: str) -> None:
        """Writes a line, at once."""
        self.stream.write(line + "\n")
        self.stream.flush()


def visible(text: str) -> str:
    """Text of others on one line, without what would command a terminal."""
    return "".join(each if each.isprintable() else repr(each)[1:-1] for each in text)


class Bar:
    """A line on a terminal that is drawn over: how far something is."""

    def __init__(self, paper: Paper) -> None:
        self._paper = paper
        self._began = monotonic()

    async def watch(self, title: str, progress: Callable[[], tuple[float, float]]) -> None:
        """Draws what ``progress`` tells (done, of how many) until it is cancelled."""
        if not self._paper.is_terminal:
            return
        self._began = monotonic()
        try:
            while True:
                self._draw(title, *progress())
                await asyncio.sleep(_REDRAW_S)
        finally:
            self._paper.stream.write("\r\x1b[K")
            self._paper.stream.flush()

    def _draw(self, title: str, done: float, of: float) -> None:
        share = min(done / of, 1.0) if of else 0.0
        filled = round(share * _BAR_WIDTH)
        bar = self._paper.painted("green", "━" * filled)
        bar += self._paper.painted("dim", "━" * (_BAR_WIDTH - filled))
        passed_s = monotonic() - self._began
        self._paper.stream.write(
            f"\r\x1b[K{title:12} {bar} {share:4.0%} {done:,.0f}/{of:,.0f} {passed_s:.1f} s"
        )
        self._paper.stream.flush()


def papers(environ: Mapping[str, str]) -> tuple[Paper, Paper]:
    """Standard output and standard error."""
    return Paper(sys.stdout, environ), Paper(sys.stderr, environ)
