"""examples/django_chat, started as its README says, with two people in two browsers."""

import json
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.parts.node import CLIENTS, require_packages
from tests.parts.server import CableServer, cable_server

EXAMPLE = Path(__file__).parents[2] / "examples" / "django_chat"
README = (EXAMPLE / "README.md").read_text()
MIGRATE, SERVE, DELETE = (
    (sys.executable, *shlex.split(line)[1:])
    for line in README.splitlines()
    if line.startswith("python manage.py")
)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the example, with the packages that tests have installed."""
    copy = tmp_path_factory.mktemp("django") / "chat"
    shutil.copytree(EXAMPLE, copy, ignore=shutil.ignore_patterns("*.sqlite3", "node_modules"))
    (copy / "node_modules").symlink_to(require_packages())
    subprocess.run(MIGRATE, cwd=copy, check=True, timeout=60)
    return copy


@pytest.fixture(scope="module")
def server(project: Path) -> Iterator[CableServer]:
    with cable_server(command=SERVE, directory=project) as server:
        yield server


def enter(browser: Browser, server: CableServer, name: str) -> Page:
    """A browser of their own, with nothing from outside: the page needs only its server."""
    page = browser.new_context().new_page()
    origin = f"http://127.0.0.1:{server.port}"
    page.route(
        "**/*",
        lambda route: route.continue_() if route.request.url.startswith(origin) else route.abort(),
    )
    page.goto(origin)
    page.get_by_label("Name").fill(name)
    page.get_by_role("button", name="Enter").click()
    expect(page.get_by_role("heading")).to_have_text("Rooms")
    return page


def test_two_people_talk_and_see_each_other(
    browser: Browser, server: CableServer, project: Path
) -> None:
    ann = enter(browser, server, "Ann")
    ann.get_by_label("Room").fill("den")
    ann.get_by_role("button", name="Open").click()
    ben = enter(browser, server, "Ben")
    ben.get_by_role("link", name="den").click()
    for page in (ann, ben):
        expect(page.get_by_role("heading")).to_have_text("den")
        expect(page.locator("room-presence")).to_have_text("Ann, Ben")
        expect(page.locator("turbo-cable-stream-source[connected]")).to_be_attached()

    ann.get_by_label("Message").fill("Hello, <b>Ben</b>")
    ann.get_by_role("button", name="Say").click()
    for page in (ann, ben):
        expect(page.get_by_role("listitem")).to_have_text(["Ann: Hello, <b>Ben</b>"])
    expect(ann.get_by_label("Message")).to_have_value("")
    ben.get_by_label("Message").fill("Hello, Ann")
    ben.get_by_label("Message").press("Enter")
    said = ["Ann: Hello, <b>Ben</b>", "Ben: Hello, Ann"]
    for page in (ann, ben):
        expect(page.get_by_role("listitem")).to_have_text(said)

    # From a process of its own, by the words of the README
    elsewhere = {**os.environ, "ANYCABLE_HTTP_BROADCAST_URL": server.broadcast_url}
    subprocess.run(DELETE, cwd=project, env=elsewhere, check=True, timeout=60)
    for page in (ann, ben):
        expect(page.get_by_role("listitem")).to_have_text(said[:1])

    expect(ann.locator("room-presence")).to_have_text("Ann, Ben")
    ben.get_by_role("link", name="Leave").click()
    expect(ann.locator("room-presence")).to_have_text("Ann")
    # Who comes back reads what is in the database.
    ben.get_by_role("link", name="den").click()
    expect(ben.get_by_role("listitem")).to_have_text(said[:1])
    for page in (ann, ben):
        expect(page.locator("room-presence")).to_have_text("Ann, Ben")
    assert "Traceback" not in server.output()


def test_strangers_are_sent_to_the_door(browser: Browser, server: CableServer) -> None:
    page = browser.new_page()
    page.goto(f"http://127.0.0.1:{server.port}/rooms/1")
    expect(page.get_by_role("heading")).to_have_text("Who are you?")


def test_the_readme_names_the_version_that_is_tested() -> None:
    packages = json.loads((CLIENTS / "package.json").read_text())["dependencies"]
    name = "@hotwired/turbo-rails"
    assert f"npm install --no-save {name}@{packages[name]}\n" in README
