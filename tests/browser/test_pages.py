"""What a user of a page sees, with ``@rails/actioncable`` in headless Chromium."""

import json
import shutil
import subprocess
from pathlib import Path

from playwright.sync_api import Browser, expect

from tests.browser.conftest import OpenPage
from tests.parts.chat_app import CHAT, chat_app
from tests.parts.missing import missing
from tests.parts.redis import redis_server
from tests.parts.server import cable_server

PAGE = Path(__file__).parent / "page"


def curl(*arguments: str) -> str:
    """What curl prints; fails as curl does, for an HTTP status of 400 and above too."""
    executable = shutil.which("curl")
    if executable is None:
        missing("curl", "apt-get install curl")
    command = [executable, "--silent", "--show-error", "--fail", "--max-time", "5", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def test_a_page_shows_a_broadcast_sent_with_curl(
    server_command: tuple[str, ...], open_page: OpenPage
) -> None:
    flags = ("--public", "--norpc", "--broadcast_adapter=http")
    with cable_server(*flags, command=server_command) as server:
        page = open_page(PAGE, cable=server.cable_url, stream="news")
        expect(page.get_by_text("subscribed")).to_be_visible()
        publication = {"stream": "news", "data": json.dumps({"text": "Grüße vom Terminal"})}
        curl("--data", json.dumps(publication), server.broadcast_url)
        expect(page.get_by_role("listitem")).to_have_text(["Grüße vom Terminal"])


def test_the_chat_of_the_examples(server_command: tuple[str, ...], open_page: OpenPage) -> None:
    with (
        redis_server() as redis,
        chat_app(redis.url) as rpc_host,
        cable_server(
            f"--rpc_host={rpc_host}",
            f"--redis_url={redis.url}",
            "--broadcast_adapter=redis",
            command=server_command,
        ) as server,
    ):
        ann = open_page(CHAT, cable=server.cable_url, name="Ann", room="den")
        ben = open_page(CHAT, cable=server.cable_url, name="Ben", room="den")
        eve = open_page(CHAT, cable=server.cable_url, name="Eve", room="attic")
        for page, place in ((ann, "Ann in den"), (ben, "Ben in den"), (eve, "Eve in attic")):
            expect(page.get_by_role("status")).to_have_text(place)

        ann.get_by_role("textbox").fill("Hello from a page")
        ann.get_by_role("button").click()
        expect(ben.get_by_role("listitem")).to_have_text(["Ann: Hello from a page"])
        expect(ann.get_by_role("listitem")).to_have_text(["Ann: Hello from a page"])
        expect(ann.get_by_role("status")).to_have_text("sent: Hello from a page")

        ben.get_by_role("textbox").fill("Hello, Ann")
        ben.get_by_role("textbox").press("Enter")
        heard = ["Ann: Hello from a page", "Ben: Hello, Ann"]
        expect(ann.get_by_role("listitem")).to_have_text(heard)
        expect(eve.get_by_role("listitem")).to_have_count(0)


def test_the_first_minute_of_the_readme(browser: Browser) -> None:
    """A newcomer opens the address, clicks once, and copies the command; word by word but for the ports."""
    readme = (Path(__file__).parents[2] / "README.md").read_text()
    assert "Open <http://localhost:8080/>" in readme
    command = next(line for line in readme.splitlines() if line.startswith("curl "))
    with cable_server("--public", "--norpc", "--broadcast_adapter=http") as server:
        page = browser.new_page()
        page.goto(f"http://localhost:{server.port}/")
        page.get_by_role("button", name="Send a message").click()
        messages = page.get_by_role("log", name="Messages").locator(".message")
        expect(messages).to_have_count(1)
        expect(messages).to_contain_text("Hello from the console")
        subprocess.run(command.replace("8090", str(server.broadcast_port)), shell=True, check=True)
        expect(messages).to_have_count(2)
        expect(messages.last).to_contain_text('{"text":"Hello"}')
