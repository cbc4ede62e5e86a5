"""The table of tools, and their help."""

import json
import os
import subprocess
import sys

import pytest

from catenary.cli import main
from catenary.config.render import SCREEN
from catenary.terminal.running import parser_of
from catenary.terminal.tools import TOOLS, find
from tests.terminal.shell import catenary

HELP_FLAGS = {"-h", "--help", "--help-all"}


@pytest.fixture(autouse=True)
def _no_configuration(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.environ:
        if name.startswith(("ANYCABLE_", "PORT")):
            monkeypatch.delenv(name)


def test_the_help_of_the_server_lists_every_tool(capsys: pytest.CaptureFixture[str]) -> None:
    for words in (("--help",), ("help",), ("-h",), ("help", "rpc"), ("rpc", "--help")):
        assert main(words) == 0
        text = capsys.readouterr().out
        assert [tool.name for tool in TOOLS if f"  {tool.name}  " not in text] == []
        assert "--port" in text
        assert "--ping_interval" not in text
        assert fits(text)
    for words in (("--help-all",), ("help", "--help-all")):
        assert main(words) == 0
        text = capsys.readouterr().out
        assert [tool.name for tool in TOOLS if f"  {tool.name}  " not in text] == []
        assert "--ping_interval" in text


def fits(text: str) -> bool:
    """Whether a text fits the screen of a terminal."""
    columns, lines = SCREEN
    return text.count("\n") < lines and max(map(len, text.splitlines())) <= columns


@pytest.mark.parametrize("tool", [tool.name for tool in TOOLS])
def test_every_tool_explains_itself(tool: str) -> None:
    found = find(tool)
    assert found is not None
    text = parser_of(found).text(with_all=False)
    assert text.startswith(f"Usage: catenary {tool} ")
    assert f"  catenary {tool} " in text or tool == "completion", "expected an example"
    assert "None" not in text
    assert fits(text)
    everything = parser_of(found).text(with_all=True)
    flags = {flag for action in parser_of(found)._actions for flag in action.option_strings}
    assert [flag for flag in flags - HELP_FLAGS if f"  {flag}" not in everything] == []


def test_help_comes_in_both_forms() -> None:
    one, other = catenary("help", "publish"), catenary("publish", "--help")
    assert one.stdout == other.stdout != ""
    assert (one.returncode, other.returncode) == (0, 0)
    one, other = catenary("help", "bench", "--help-all"), catenary("bench", "--help-all")
    assert one.stdout == other.stdout
    assert "--patience" in one.stdout


def test_help_and_the_server_need_nothing_of_the_tools() -> None:
    code = (
        "import sys, json; from catenary.cli import main; main(['--help']);"
        "print(json.dumps(sorted(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=20)
    loaded = set(json.loads(done.stderr))
    assert {name for name in loaded if name.startswith("catenary.terminal")} == {
        "catenary.terminal",
        "catenary.terminal.tools",
    }
    assert not loaded & {"argparse", "asyncio", "uvicorn"}
