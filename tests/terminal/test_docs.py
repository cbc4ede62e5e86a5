"""The guide shows every tool; tests/docs types each of its commands."""

import re
from pathlib import Path

from catenary.terminal.tools import TOOLS

GUIDE = Path(__file__).parents[2] / "docs" / "terminal.md"
_BLOCK = re.compile(r"^```sh\n(.*?)^```$", re.DOTALL | re.MULTILINE)


def test_the_guide_has_every_tool() -> None:
    commands = "\n".join(_BLOCK.findall(GUIDE.read_text()))
    assert [tool.name for tool in TOOLS if f"catenary {tool.name}" not in commands] == []
