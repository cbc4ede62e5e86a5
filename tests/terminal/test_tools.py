"""The table of tools, and their help."""

import json
import os
import subprocess
import sys

import pytest

from catenary.cli import main
from catenary.terminal.running import parser_of
from catenary.terminal.tools import TOOLS, find
from tests.terminal.shell import catenary


@pytest.fixture(autouse=True)
def _no_configuration(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.environ:
        if name.startswith(("ANYCABLE_", "PORT")):
            monkeypatch.delenv(name)


def test_the_help_of_the_server_lists_every_tool(capsys: pytest.CaptureFixture[str]) -> None:
    for words in (("--help",), ("help",), ("-h",), ("help", "rpc")):
        assert main(words) == 0
        text = capsys.readouterr().out
        assert [tool.name for tool in TOOLS if f"  {tool.name}  " not in text] == []
        assert "--port" in text


@pytest.mark.parametrize("tool", [tool.name for tool in TOOLS])
def test_every_tool_explains_itself(tool: str) -> None:
    found = find(tool)
    assert found is not None
    text = parser_of(found).format_help()
    assert f"usage: catenary {tool} " in text
    assert f"  catenary {tool} " in text, "expected an example"
    assert "None" not in text


def test_help_comes_in_both_forms() -> None:
    one, other = catenary("help", "publish"), catenary("publish", "--help")
    assert one.stdout == other.stdout != ""
    assert (one.returncode, other.returncode) == (0, 0)


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
