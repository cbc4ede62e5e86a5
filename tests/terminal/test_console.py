import asyncio
import io

import pytest

from catenary.terminal.console import Console, ProgressBar, printable


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("stream", "environ", "coloured"),
    [
        (Terminal(), {}, True),
        (Terminal(), {"NO_COLOR": ""}, True),
        (Terminal(), {"NO_COLOR": "0"}, False),
        (Terminal(), {"TERM": "dumb"}, False),
        (io.StringIO(), {}, False),
    ],
)
def test_when_there_are_colours(
    stream: io.StringIO, environ: dict[str, str], coloured: bool
) -> None:
    console = Console(stream, environ)
    assert ("\x1b[" in console.painted("red", "text")) is coloured
    assert ("\x1b[" in console.json('{"a":1}')) is coloured


def test_kinds_of_values_have_colours_of_their_own() -> None:
    text = Console(Terminal(), {}).json('{"key":"a \\" : b","n":-1.5e3,"ok":true}')
    for code, piece in (("36", '"key"'), ("32", '"a \\" : b"'), ("33", "-1.5e3"), ("35", "true")):
        assert f"\x1b[{code}m{piece}\x1b[0m" in text


def test_text_of_others_commands_nothing() -> None:
    assert printable("a\x1b[2J\n\u202eb ü 🎈") == "a\\x1b[2J\\n\\u202eb ü 🎈"


def test_a_bar_is_drawn_and_wiped() -> None:
    async def watched(console: Console) -> None:
        asked = asyncio.Event()

        def progress() -> tuple[float, float]:
            asked.set()
            return 1500, 3000

        task = asyncio.create_task(ProgressBar(console).watch("work", progress))
        await asyncio.wait([task, asyncio.create_task(asked.wait())], return_when="FIRST_COMPLETED")
        task.cancel()
        await asyncio.wait([task])

    terminal = Terminal()
    asyncio.run(watched(Console(terminal, {})))
    assert " 50% 1,500/3,000" in terminal.getvalue()
    assert terminal.getvalue().endswith("\r\x1b[K")


def test_no_bar_where_nobody_looks() -> None:
    file = io.StringIO()
    asyncio.run(ProgressBar(Console(file, {})).watch("work", lambda: (0, 0)))
    assert file.getvalue() == ""
