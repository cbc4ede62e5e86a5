"""The guide: every command in it is typed, from the first to the last, beside a real server."""

import re
from pathlib import Path

import pytest

from catenary.terminal.tools import TOOLS
from tests.parts.server import OURS, cable_server
from tests.terminal.shell import typed

GUIDE = Path(__file__).parents[2] / "docs" / "terminal.md"
_BLOCK = re.compile(r"^```sh\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_SERVE = "catenary app:cable\n"


def test_every_command_of_the_guide(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before, serve, *blocks = _BLOCK.findall(GUIDE.read_text())
    assert serve == _SERVE
    typed(before, tmp_path)
    monkeypatch.chdir(tmp_path / "chat")
    public = ("--public", "--norpc", "--broadcast_adapter=http")
    with (
        cable_server("--http_broadcast_port=0", command=(*OURS, "app:cable")) as server,
        cable_server(*public, "--config-path=/dev/null") as other,
    ):
        for block in blocks:
            text = block.replace("localhost:8080", f"127.0.0.1:{server.port}")
            # The same commands, for a shorter time.
            text = re.sub(r"--(seconds|timeout)=1s?\b", r"--\1=0.2", text)
            typed(
                text,
                tmp_path / "chat",
                ANYCABLE_HOST="127.0.0.1",
                ANYCABLE_PORT=str(server.port),
                PUBLIC_URL=other.cable_url,
            )


def test_the_guide_has_every_tool() -> None:
    commands = "\n".join(_BLOCK.findall(GUIDE.read_text()))
    assert [tool.name for tool in TOOLS if f"catenary {tool.name}" not in commands] == []
