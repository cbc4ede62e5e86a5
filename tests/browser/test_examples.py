"""The examples, started as their READMEs say, and what their users see in headless Chromium."""

import json
import re
import urllib.request
from collections.abc import Callable, Iterator
from importlib.metadata import metadata, version
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from tests.browser.examples import EXAMPLES, FOLDERS, Example, Readme
from tests.parts.node import CLIENTS
from tests.parts.ports import free_port
from tests.parts.server import CableServer
from tests.parts.tcp_relay import TcpRelay, tcp_relay

_REQUIREMENT = re.compile(r"(?:\.\./\.\.(?:\[([\w,]+)\])?)|([\w-]+)")


Visit = Callable[[str], Page]


@pytest.fixture
def visit(browser: Browser) -> Iterator[Visit]:
    """Opens a page in a browser of its own, with cookies of its own; no script of it may fail."""
    failures: list[str] = []

    def visit(url: str) -> Page:
        page = browser.new_context().new_page()
        page.on("pageerror", lambda error: failures.append(f"{url}: {error}"))
        page.goto(url)
        return page

    yield visit
    assert failures == []


def cut_off(relay: TcpRelay) -> None:
    """Breaks the connections of all who came this way, and lets them make no others."""
    relay.aim(free_port())
    assert relay.cut()


def let_back(relay: TcpRelay, server: CableServer, *pages: Page) -> None:
    """The way is free again, and the browser says so."""
    relay.aim(server.port)
    for page in pages:
        page.evaluate("dispatchEvent(new Event('online'))")


def test_every_example_is_in_the_index() -> None:
    index = (EXAMPLES / "README.md").read_text()
    assert [folder for folder in FOLDERS if f"[{folder}]({folder}/README.md)" not in index] == []


@pytest.mark.parametrize("folder", FOLDERS)
def test_what_a_readme_installs_is_what_is_tested(folder: str) -> None:
    readme = Readme(folder)
    assert readme.length < 48
    pinned = json.loads((CLIENTS / "package.json").read_text())["dependencies"]
    for program, *words in readme.installs:
        if program == "npm":
            assert words[:2] == ["install", "--no-save"]
            assert {name: pinned.get(name) for name, _ in map(_split, words[2:])} == dict(
                map(_split, words[2:])
            )
            continue
        if program in ("python3", "python"):  # a place for it, and what sets the project up
            continue
        assert (program, words[0]) == ("pip", "install")
        for word in words[1:]:
            requirement = _REQUIREMENT.fullmatch(word)
            assert requirement is not None, word
            extras, other = requirement.groups()
            if other:
                assert version(other)
            known = metadata("catenary").get_all("Provides-Extra") or []
            assert set((extras or "").split(",")) - {""} <= set(known)


def _split(requirement: str) -> tuple[str, str]:
    name, _, version = requirement.rpartition("@")
    return name, version


def test_the_chat_of_fastapi(visit: Visit, tmp_path: Path) -> None:
    example = Example("fastapi_chat", tmp_path)
    with example.server() as server, tcp_relay(server.port) as relay:

        def enter(name: str, port: int) -> Page:
            page = visit(f"http://127.0.0.1:{port}/")
            page.get_by_role("textbox", name="Your name").fill(name)
            page.get_by_role("textbox", name="Your name").press("Enter")
            expect(page.get_by_role("status")).to_have_text(f"{name} in lobby")
            return page

        def members(page: Page) -> Locator:
            return page.get_by_role("list", name="Who is here").get_by_role("listitem")

        def messages(page: Page) -> Locator:
            return page.get_by_role("list", name="Messages").get_by_role("listitem")

        def say(page: Page, text: str) -> None:
            page.get_by_role("textbox", name="Message").fill(text)
            page.get_by_role("button", name="Say").click()

        ann = enter("Ann", relay.port)
        ben = enter("Ben", server.port)
        for page in (ann, ben):
            expect(members(page)).to_have_text(["Ann", "Ben"])
        say(ann, "Hello, Ben")
        for page in (ann, ben):
            expect(messages(page)).to_have_text(["Ann: Hello, Ben"])

        cut_off(relay)
        expect(ann.get_by_role("status")).to_have_text("away")
        say(ben, "Are you there?")
        expect(messages(ben)).to_have_count(2)
        expect(members(ben)).to_have_text(["Ann", "Ben"])
        cal = enter("Cal", server.port)
        let_back(relay, server, ann)
        expect(ann.get_by_role("status")).to_have_text("Ann in lobby")
        expect(messages(ann)).to_have_text(["Ann: Hello, Ben", "Ben: Are you there?"])
        expect(messages(cal)).to_have_text(["Ann: Hello, Ben", "Ben: Are you there?"])
        for page in (ann, ben, cal):
            expect(members(page)).to_have_text(["Ann", "Ben", "Cal"])

        ben.get_by_role("button", name="Leave").click()
        expect(members(ann)).to_have_text(["Ann", "Cal"])
        printed = example.type(example.readme.more[0], server)
        assert '["Ann","Cal"]' in printed.replace('"Cal","Ann"', '"Ann","Cal"')
        expect(messages(cal).last).to_have_text("The house: Tea is ready")
        expect(messages(ben)).to_have_count(2)


def test_the_dashboard(visit: Visit, tmp_path: Path) -> None:
    example = Example("dashboard", tmp_path)
    names = ["ant", "bee", "cow", "dog", "eel", "fox"]
    seen = (
        "least => [...document.querySelectorAll('section')]"
        ".every(each => (each.dataset.loads ?? '').split(' ').length >= least)"
    )

    def loads(page: Page) -> dict[str, str]:
        panels = page.get_by_role("region").all()
        return {
            str(each.get_attribute("aria-label")): str(each.get_attribute("data-loads"))
            for each in panels
        }

    with example.server() as server:
        url = f"http://127.0.0.1:{server.port}/"
        first = visit(url)
        expect(first.get_by_role("status")).to_have_text("live")
        expect(first.get_by_role("region")).to_have_count(6)
        with example.program("python", server):
            first.wait_for_function(seen, arg=3)
        # The machines stand still: what the second page shows is history.
        second = visit(url)
        second.wait_for_function(seen, arg=3)
        expect(second.get_by_role("region", name="ant")).to_contain_text("%")
        assert sorted(loads(second)) == names
        assert loads(second) == loads(first)
        example.type(example.readme.more[0], server)
        for page in (first, second):
            expect(page.get_by_role("region", name="ant")).to_contain_text("99 %")


def test_hotwire(visit: Visit, tmp_path: Path) -> None:
    example = Example("hotwire", tmp_path)
    port = free_port()
    with (
        example.server() as server,
        tcp_relay(server.port) as relay,
        example.site(
            "flask",
            port,
            server,
            FLASK_RUN_PORT=str(port),
            ANYCABLE_WEBSOCKET_URL=f"ws://127.0.0.1:{relay.port}/cable",
        ) as origin,
    ):
        ann, ben = visit(origin), visit(origin)
        for page in (ann, ben):
            expect(page.locator("turbo-cable-stream-source[connected]")).to_have_count(1)
        items = {page: page.get_by_role("list").get_by_role("listitem") for page in (ann, ben)}

        def add(page: Page, text: str) -> None:
            page.get_by_role("textbox", name="New item").fill(text)
            page.get_by_role("button", name="Add").click()
            expect(page.get_by_role("textbox", name="New item")).to_have_value("")

        add(ann, "Buy <b>milk</b>")
        add(ben, "Water the plants")
        for page in (ann, ben):
            expect(items[page].locator("span")).to_have_text(
                ["Buy <b>milk</b>", "Water the plants"]
            )
        items[ben].first.get_by_role("button", name="Done").click()
        expect(items[ann].first).to_have_class("done")

        cut_off(relay)
        urllib.request.urlopen(f"{origin}/items", b"text=Call+Cal", timeout=5).close()
        urllib.request.urlopen(f"{origin}/items/1/delete", b"", timeout=5).close()
        expect(items[ann]).to_have_count(2)
        let_back(relay, server, ann, ben)
        for page in (ann, ben):
            expect(items[page].locator("span")).to_have_text(["Water the plants", "Call Cal"])


def test_tokens_arrive_once_and_in_order(visit: Visit, tmp_path: Path) -> None:
    example = Example("tokens", tmp_path)
    whole = " ".join((example.directory / "answer.txt").read_text().split())
    with example.server() as server, tcp_relay(server.port) as relay:
        page = visit(f"http://127.0.0.1:{relay.port}/")
        page.get_by_role("button", name="Ask").click()
        status, answer = page.get_by_role("status"), page.get_by_role("article")
        expect(answer).to_contain_text("A catenary is")
        expect(status).to_have_text("listening")
        cut_off(relay)
        expect(status).to_have_text("cut off")
        before = str(answer.text_content())

        # While the page is away, the answer goes on; a second screen reads it from its beginning.
        another = visit(page.url.replace(str(relay.port), str(server.port)))
        expect(another.get_by_role("article")).to_contain_text("Huygens")
        assert str(answer.text_content()) == before
        let_back(relay, server, page)
        expect(answer).to_contain_text("Huygens")
        assert whole.startswith(str(answer.text_content()).strip())
        another.reload()
        for each in (page, another):
            expect(each.get_by_role("status")).to_have_text("done", timeout=15_000)
            assert str(each.get_by_role("article").text_content()).strip() == whole


def test_tokens_that_are_gone_are_told(visit: Visit, tmp_path: Path) -> None:
    example = Example("tokens", tmp_path)
    with example.server("--history_limit=5") as server, tcp_relay(server.port) as relay:
        page = visit(f"http://127.0.0.1:{relay.port}/")
        page.get_by_role("button", name="Ask").click()
        expect(page.get_by_role("article")).to_contain_text("A catenary is")
        cut_off(relay)
        another = visit(page.url.replace(str(relay.port), str(server.port)))
        expect(another.get_by_role("status")).to_have_text("done", timeout=15_000)
        let_back(relay, server, page)
        expect(page.get_by_role("status")).to_have_text("a part of the answer is gone")


def test_the_chat_behind_rpc_is_started_as_the_tests_start_it() -> None:
    starts = [words for words in Readme("chat").starts if words[0] == "catenary"]
    assert starts == [["catenary", "rpc", "app:cable"], ["catenary", "--broadcast_adapter=redis"]]
