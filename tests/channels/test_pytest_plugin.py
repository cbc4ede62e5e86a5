"""The pytest plugin, in the tests of an application that run in another process."""

import subprocess
import sys
from pathlib import Path

import pytest

from catenary import Cable
from catenary.channels.loading import load
from catenary.errors import ConfigError, ImportFailed

APPLICATION = """
from catenary import Cable, Channel, Connection, action

class AppConnection(Connection):
    identified_by = ("user_id",)
    user_id: int

class ChatChannel(Channel[AppConnection]):
    id: int

    async def subscribed(self) -> None:
        self.stream_for(self.id)
        self.join_presence(id=self.connection.user_id, info={"name": "Ann"})

    async def restored(self) -> None: ...

    @action
    async def speak(self, text: str) -> None:
        await self.broadcast_to(self.id, {"text": text, "user": self.connection.user_id})

cable = Cable(connection=AppConnection, channels=[ChatChannel])
"""

TESTS = """
import pytest
from chat import ChatChannel

@pytest.fixture
def anyio_backend():
    return "asyncio"

@pytest.mark.anyio
async def test_speak(cable):
    conn = await cable.connect(user_id=1)
    chat = await conn.subscribe(ChatChannel, id=42)
    chat.assert_confirmed()
    chat.assert_has_stream_for(42)
    with cable.assert_broadcast_to(42, {"text": "hi", "user": 1}):
        await chat.perform("speak", text="hi")
    assert await chat.presence() == {"1": {"name": "Ann"}}
    await conn.drop()
    await conn.resume()
    assert chat.calls == ["subscribed", "speak", "restored"]

@pytest.mark.anyio
async def test_a_wrong_expectation_fails(cable):
    chat = await (await cable.connect(user_id=1)).subscribe(ChatChannel, id=42)
    with pytest.raises(AssertionError, match="expected 'x' 1 times on ChatChannel:42"):
        with cable.assert_broadcast_to(42, "x"):
            await chat.perform("speak", text="hi")
    with pytest.raises(AssertionError, match="expected nothing to be published"):
        with cable.assert_no_broadcasts():
            await chat.perform("speak", text="hi")
    for wrong in (
        lambda: chat.assert_rejected(),
        lambda: chat.assert_has_stream("other"),
        lambda: chat.assert_has_no_streams(),
        lambda: chat.assert_transmitted("never"),
        lambda: chat.connection.assert_rejected(),
    ):
        with pytest.raises(AssertionError, match="expected"):
            wrong()
"""


def run(directory: Path, *options: str) -> subprocess.CompletedProcess[str]:
    (directory / "chat.py").write_text(APPLICATION)
    (directory / "test_chat.py").write_text(TESTS)
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *options],
        cwd=directory,
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_the_fixture_serves_the_cable_of_the_ini_file(tmp_path: Path) -> None:
    (tmp_path / "pytest.ini").write_text("[pytest]\ncatenary_cable = chat:cable\n")
    done = run(tmp_path, "-W", "error")
    assert "2 passed" in done.stdout, done.stdout


def test_without_a_cable_the_error_names_the_option(tmp_path: Path) -> None:
    done = run(tmp_path)
    assert done.returncode == 1
    assert "expected catenary_cable = module:name" in done.stdout


def test_a_cable_is_loaded_by_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "loaded_chat.py").write_text(APPLICATION)
    (tmp_path / "broken_chat.py").write_text("import a_module_that_is_nowhere")
    assert isinstance(load("loaded_chat:cable"), Cable)
    with pytest.raises(ConfigError, match="module:name"):
        load("loaded_chat")
    with pytest.raises(ConfigError, match="no module 'nowhere'"):
        load("nowhere.chat:cable")
    with pytest.raises(ConfigError, match="expected a Cable, got nothing"):
        load("loaded_chat:rope")
    with pytest.raises(ConfigError, match="expected a Cable, got type"):
        load("loaded_chat:ChatChannel")
    with pytest.raises(ConfigError, match=r"did you mean loaded_chat:cable\?"):
        load("loaded_chat:rope")
    with pytest.raises(
        ImportFailed, match=r"broken_chat\.py, line 1: ModuleNotFoundError"
    ) as failed:
        load("broken_chat:cable")
    assert isinstance(failed.value.__cause__, ModuleNotFoundError)
