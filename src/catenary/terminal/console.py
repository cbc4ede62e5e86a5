"""Output for people: colours, notes and a progress bar on a terminal; plain text elsewhere.

Knows: terminals. Does not know: what is printed.
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

# A string without an end is one token, so that no part of it is searched twice.
_TOKEN: Final = re.compile(
    r'(?P<key>"(?:[^"\\]|\\.)*")(?=\s*:)|(?P<text>"(?:[^"\\]|\\.)*(?:"|\Z|\\\Z))'
    r"|(?P<number>-?\d[\d.eE+-]*)|(?P<word>true|false|null)"
)
_COLOURS: Final = {"key": "cyan", "text": "green", "number": "yellow", "word": "magenta"}

_BAR_WIDTH: Final = 30
_REDRAW_S: Final = 0.1


class Console:
    """An output stream; on a terminal it has colours unless NO_COLOR is set."""

    def __init__(self, stream: TextIO, environ: Mapping[str, str]) -> None:
        self.stream = stream
        self.is_terminal = stream.isatty()
        # https://no-color.org: any value but an empty one.
        dumb = environ.get("TERM") == "dumb"
        self._is_coloured = self.is_terminal and not environ.get("NO_COLOR") and not dumb

    def painted(self, style: str, text: str) -> str:
        """The text in a style, if there are colours."""
        return f"\x1b[{STYLES[style]}m{text}\x1b[0m" if self._is_coloured else text

    def json(self, text: str) -> str:
        """JSON text with a colour for each kind of value."""
        if not self._is_coloured:
            return text
        return _TOKEN.sub(
            lambda match: self.painted(_COLOURS[match.lastgroup or ""], match[0]), text
        )

    def say(self, line: str) -> None:
        """Writes a line and flushes."""
        self.stream.write(line + "\n")
        self.stream.flush()


def printable(text: str) -> str:
    """Foreign text on one line, with control characters escaped."""
    return "".join(each if each.isprintable() else repr(each)[1:-1] for each in text)


class ProgressBar:
    """A progress bar on one line of a terminal."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._began = monotonic()

    async def watch(self, title: str, progress: Callable[[], tuple[float, float]]) -> None:
        """Draws the result of ``progress`` (done, total) until it is cancelled."""
        if not self._console.is_terminal:
            return
        self._began = monotonic()
        try:
            while True:
                self._draw(title, *progress())
                await asyncio.sleep(_REDRAW_S)
        finally:
            self._console.stream.write("\r\x1b[K")
            self._console.stream.flush()

    def _draw(self, title: str, done: float, of: float) -> None:
        share = min(done / of, 1.0) if of else 0.0
        filled = round(share * _BAR_WIDTH)
        bar = self._console.painted("green", "━" * filled)
        bar += self._console.painted("dim", "━" * (_BAR_WIDTH - filled))
        passed_s = monotonic() - self._began
        self._console.stream.write(
            f"\r\x1b[K{title:12} {bar} {share:4.0%} {done:,.0f}/{of:,.0f} {passed_s:.1f} s"
        )
        self._console.stream.flush()


def consoles(environ: Mapping[str, str]) -> tuple[Console, Console]:
    """Standard output and standard error."""
    return Console(sys.stdout, environ), Console(sys.stderr, environ)
