"""A project that was begun: its test passes, its server serves, its page works."""

import subprocess
import sys
from pathlib import Path
from urllib.parse import urlencode

import pytest
from playwright.sync_api import expect

from tests.parts.cable_client import CableClient, confirmed, identifier
from tests.parts.chromium import headless_chromium
from tests.parts.server import OURS, cable_server
from tests.terminal.shell import catenary, environment, lines

ROOM = identifier("RoomChannel", id=1)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("new") / "my chat"
    done = catenary("new", str(directory))
    assert done.returncode == 0, done.stderr
    return directory


@pytest.fixture
def within(project: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(project)
    return project


def test_what_is_in_it(project: Path) -> None:
    names = {"README.md", "anycable.toml", "app.py", "index.html", "pytest.ini", "test_app.py"}
    assert {path.name for path in project.iterdir()} == names
    for name in names:
        assert "@" + "NAME@" not in (project / name).read_text()
    assert "# my chat" in (project / "README.md").read_text()
    assert len((project / "app.py").read_text().splitlines()) < 40


def test_two_projects_have_two_secrets(project: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    assert catenary("new", str(other)).returncode == 0
    one, another = (path / "anycable.toml" for path in (project, other))
    assert one.read_text() != another.read_text()
    assert "@SECRET@" not in one.read_text()


def test_nothing_is_written_over(project: Path) -> None:
    before = (project / "anycable.toml").read_text()
    done = catenary("new", str(project))
    assert done.returncode == 1
    assert "expected a new directory or an empty one" in done.stderr
    assert (project / "anycable.toml").read_text() == before
    assert catenary("new", str(project / "app.py" / "x")).returncode == 1


def test_its_test_passes(within: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-W", "error", "-p", "no:cacheprovider"],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stdout
    assert "2 passed" in done.stdout


def test_its_server_serves(within: Path) -> None:
    with (
        cable_server("--http_broadcast_port=0", command=(*OURS, "app:cable")) as server,
        CableClient(f"{server.cable_url}?name=Ann") as ann,
    ):
        ann.receive_welcome()
        ann.send("subscribe", identifier=ROOM)
        assert confirmed(ROOM) in [ann.receive(), ann.receive()]
        ann.perform(ROOM, "say", text="hi")
        # The configuration of the directory tells the tools where to publish, and with which key.
        around = {"ANYCABLE_HOST": "127.0.0.1", "ANYCABLE_PORT": str(server.port)}
        assert catenary("publish", "RoomChannel:1", '{"text": "!"}', **around).returncode == 0
        url = f"--url={server.cable_url}?name=shell"
        words = ("subscribe", "RoomChannel", "id=1", "--history=all", "--count=2", "--bare", url)
        assert lines(catenary(*words, **around)) == [{"name": "Ann", "text": "hi"}, {"text": "!"}]


def test_its_page_works_in_a_browser(within: Path) -> None:
    with (
        cable_server("--http_broadcast_port=0", command=(*OURS, "app:cable")) as server,
        headless_chromium() as browser,
    ):
        around = {"ANYCABLE_HOST": "127.0.0.1", "ANYCABLE_PORT": str(server.port)}
        signed = catenary("sign", "news", **around).stdout.strip()
        pages = []
        for name in ("Ann", "Ben"):
            page = browser.new_page()
            query = urlencode({"name": name, "server": server.cable_url, "news": signed})
            page.goto(f"{(within / 'index.html').as_uri()}?{query}")
            expect(page.locator("#state")).to_have_text(f"you are {name}")
            pages.append(page)
        ann, ben = pages
        expect(ann.locator("#here")).to_have_text("Ann, Ben")
        ann.get_by_role("textbox").fill("Hello")
        ann.get_by_role("button").click()
        expect(ben.get_by_role("listitem")).to_have_text(["Ann: Hello"])
        assert catenary("publish", "news", '"breaking"', **around).returncode == 0
        expect(ben.get_by_role("listitem")).to_have_text(["Ann: Hello", '"breaking"'])
        server.stop()
        expect(ben.locator("#state")).to_have_text("away")
        server.restart()
        expect(ben.locator("#state")).to_have_text("you are Ben")
        expect(ben.locator("#here")).to_contain_text("Ben")


def test_the_page_needs_nothing_from_elsewhere(project: Path) -> None:
    text = (project / "index.html").read_text()
    assert "http" not in text.replace("<!doctype html>", "").replace("html lang", "").lower()
    assert "src=" not in text
