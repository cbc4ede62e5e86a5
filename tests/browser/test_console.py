"""The console in Chromium: a live cluster of two nodes, real clients, every page, both themes, a phone."""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from urllib.request import Request, urlopen

import pytest
from playwright.sync_api import Browser, expect

from tests.browser.console import (
    DESKTOP,
    PATH,
    PHONE,
    SCREENSHOTS,
    Watched,
    is_too_wide,
    serious,
    shoot,
)
from tests.parts.chromium import headless_chromium
from tests.parts.cluster import Cluster, redis_cluster
from tests.parts.node import CLIENTS
from tests.parts.ports import free_port
from tests.parts.raw_socket import RawSocket, command, upgrade
from tests.parts.server import CableServer, cable_server

KEY = "correct horse"
EXTENDED = "actioncable-v1-ext-json"
SID = "the-client-that-is-watched"


# One for all tests: no test here runs an event loop in this thread.
@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with headless_chromium() as browser:
        yield browser


@pytest.fixture(scope="module")
def guarded() -> Iterator[tuple[CableServer, str]]:
    """A server whose console has a key and a port of its own, its clients need a token, its streams a signature; and the
    console's origin."""
    port = free_port()
    flags = ("--admin", f"--admin_secret={KEY}", f"--admin_port={port}", "--secret=s3cret")
    with cable_server(*flags, "--norpc", "--presets=broker") as server:
        yield server, f"http://127.0.0.1:{port}"


def test_only_the_key_opens_the_console(browser: Browser, guarded: tuple[CableServer, str]) -> None:
    server, origin = guarded
    watched = Watched(browser, origin, theme="dark")
    # Chromium reports each answer above 399.
    watched.expected = ("401 (Unauthorized)", "429 (Too Many Requests)")
    page = watched.page
    page.goto(origin)
    expect(page).to_have_title("Log in · Catenary")
    assert serious(page) == []
    shoot(page, "login-dark")
    for _ in range(3):
        page.get_by_label("Key").fill("wrong")
        page.get_by_role("button").click()
        expect(page.get_by_role("alert")).to_have_text("That is not the key.")
        page.get_by_label("Key").fill("")
    page.get_by_label("Key").fill(KEY)
    page.get_by_role("button").click()
    expect(page.get_by_role("alert")).to_contain_text("Too many wrong keys")
    expect(page.get_by_role("button")).to_be_enabled()
    page.get_by_role("button").click()
    expect(page.get_by_role("heading", name="Overview", level=1)).to_be_visible()
    assert page.evaluate("document.cookie") == ""
    expect(page.get_by_role("button", name="Send a message")).to_have_count(0)
    page.get_by_role("link", name="Playground").click()
    expect(page.get_by_text("connects with a token (JWT)")).to_be_visible()
    log, commands = page.get_by_role("log"), page.get_by_role("region", name="Commands")
    for button, answer in (
        ("Connect", '"type":"welcome"'),
        ("Subscribe", '"type":"confirm_subscription"'),
        ("Publish", '"message":{"text":"Hello"}'),
    ):
        commands.get_by_role("button", name=button, exact=True).click()
        expect(log).to_contain_text(answer)
    curl = page.get_by_role("region", name="curl code")
    expect(curl).to_contain_text(f"curl 'http://127.0.0.1:{server.port}/api/publish' ")
    expect(curl).to_contain_text("Authorization: Bearer $API_KEY")
    page.get_by_role("button", name="Log out").click()
    expect(page).to_have_title("Log in · Catenary")
    page.goto(origin + PATH + "console.js")
    expect(page).to_have_title("Log in · Catenary")
    watched.close()
    print(f"screenshots in {SCREENSHOTS}")


@contextmanager
def crowd(cluster: Cluster) -> Iterator[None]:
    """Clients of both nodes, each on a stream; one of them is a member of it."""
    with ExitStack() as stack:
        clients = [
            stack.enter_context(RawSocket(node.port)) for node in cluster.nodes for _ in range(30)
        ]
        for number, client in enumerate(clients):
            client.send(upgrade(protocol=EXTENDED))
            client.opened()
            client.send(command("subscribe", of(f"room/{number % 7}")))
            assert client.message()["type"] == "confirm_subscription"
        presence = {"id": "ann", "info": {"name": "Ann"}}
        clients[0].send(command("join", of("room/0"), presence=presence))
        yield


def of(stream: str) -> str:
    return json.dumps({"channel": "$pubsub", "stream_name": stream})


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with redis_cluster(2) as cluster, crowd(cluster):
        for number in range(25):
            publish(cluster.nodes[1], "room/0", {"number": number})
        yield cluster


def publish(node: CableServer, stream: str, message: object) -> None:
    body = json.dumps({"stream": stream, "data": json.dumps(message)}).encode()
    urlopen(Request(node.broadcast_url, body), timeout=10).close()


Look = Callable[[str], None]


def looks(watched: Watched, look: str) -> Look:
    """Checks of a page that has been drawn: it fits its window, axe-core finds nothing, a picture is kept."""

    def check(name: str) -> None:
        assert serious(watched.page) == [], name
        assert not is_too_wide(watched.page), name
        shoot(watched.page, f"{name}-{look}")

    return check


def test_every_page_in_light(browser: Browser, cluster: Cluster) -> None:
    """Each page shows the cluster."""
    origin = f"http://127.0.0.1:{cluster.nodes[0].port}"
    watched = Watched(browser, origin, theme="light")
    page, check = watched.page, looks(watched, "light")
    page.goto(f"{origin}/")
    expect(page.get_by_role("region", name="Nodes").get_by_role("row")).to_have_count(3)
    clients = page.get_by_role("region", name="Clients", exact=True)
    expect(clients.locator(".value")).to_have_text("60")
    page.get_by_role("button", name="Each node").click()
    expect(clients.get_by_role("listitem")).to_have_count(2)
    expect(page.get_by_text("redis ok")).to_be_visible()
    check("overview")

    page.get_by_role("link", name="Clients").click()
    rows = page.get_by_role("region", name="Clients", exact=True).get_by_role("row")
    expect(rows).to_have_count(51)
    expect(page.get_by_text("60 clients")).to_be_visible()
    page.get_by_role("button", name="Next").click()
    expect(rows).to_have_count(11)
    page.get_by_role("button", name="Previous").click()
    expect(rows).to_have_count(51)
    page.get_by_text("More filters").click()
    page.get_by_label("Stream").fill("room/3")
    expect(page.get_by_text("9 clients")).to_be_visible()
    check("clients")
    rows.get_by_role("link").first.click()
    expect(page.get_by_role("region", name="Subscriptions")).to_contain_text("room/3")
    expect(page.get_by_role("log", name="Live trace")).to_contain_text("following")
    check("client")

    page.get_by_role("link", name="Streams").click()
    streams = page.get_by_role("region", name="Streams")
    expect(streams.get_by_role("row")).to_have_count(8)
    expect(page.get_by_role("region", name="Channels")).to_contain_text("60")
    check("streams")
    streams.get_by_role("link", name="room/0").click()
    expect(page.get_by_role("region", name="Members")).to_contain_text("Ann")
    history = page.get_by_role("region", name="History")
    expect(history.get_by_role("row").nth(1)).to_contain_text('{"number": 24}')
    page.get_by_role("button", name="Next").click()
    expect(history.get_by_role("row").last).to_contain_text('{"number": 0}')
    check("stream")

    page.get_by_role("link", name="Health").click()
    expect(page.get_by_role("region", name="Health")).to_contain_text("redis")
    check("health")

    page.get_by_role("link", name="Configuration").click()
    expect(page.get_by_text("--redis_url")).to_be_visible()
    page.get_by_role("button", name="All").click()
    page.get_by_label("Search").fill("ANYCABLE_PORT")
    expect(page.get_by_role("region", name="Server")).to_contain_text("--port")
    check("configuration")

    page.get_by_role("link", name="Playground").click()
    page.get_by_role("button", name="Connect").click()
    expect(page.get_by_role("log")).to_contain_text('"type":"welcome"')
    check("playground")
    watched.close()


PAGES = {
    "overview": ("", "Nodes"),
    "clients": ("clients", "Clients"),
    "stream": ("streams/room%2F0", "Members"),
    "configuration": ("configuration", "Server"),
    "playground": ("playground", "curl code"),
}


@pytest.mark.parametrize("look", ["dark", "phone"])
def test_every_page_in_another_look(browser: Browser, cluster: Cluster, look: str) -> None:
    origin = f"http://127.0.0.1:{cluster.nodes[0].port}"
    theme, size = ("dark", DESKTOP) if look == "dark" else ("light", PHONE)
    watched = Watched(browser, origin, theme=theme, size=size)
    check = looks(watched, look)
    for name, (path, region) in PAGES.items():
        watched.page.goto(f"{origin}{PATH}#/{path}")
        expect(watched.page.get_by_role("region", name=region, exact=True)).to_be_visible()
        check(name)
    watched.close()


def test_what_a_person_does(browser: Browser, cluster: Cluster) -> None:
    """A message within one click; the playground; a client that is watched, subscribed and disconnected."""
    node, other = cluster.nodes
    origin = f"http://127.0.0.1:{node.port}"
    watched = Watched(browser, origin, theme="light")
    page = watched.page
    page.goto(f"{origin}/")
    page.get_by_role("button", name="Send a message").click()
    expect(page.locator(".message")).to_contain_text("Hello from the console")

    page.goto(f"{origin}{PATH}#/clients/%")
    expect(page.get_by_role("alert")).to_contain_text("URI malformed")
    page.goto(f"{origin}{PATH}#/playground?stream=play")
    log, commands = page.get_by_role("log"), page.get_by_role("region", name="Commands")
    for button, answer in (
        ("Connect", '"type":"welcome"'),
        ("Subscribe", '"type":"confirm_subscription"'),
        ("Join", '"type":"presence"'),
        ("Whisper", '"command":"whisper"'),
        ("Members", '"type":"info"'),
        ("Publish", '"message":{"text":"Hello"}'),
    ):
        commands.get_by_role("button", name=button, exact=True).click()
        expect(log).to_contain_text(answer)
    curl = page.get_by_role("region", name="curl code").inner_text()
    subprocess.run(curl, shell=True, check=True, capture_output=True, timeout=10)
    expect(log.locator(".message")).to_have_count(2)
    page.get_by_role("button", name="Python").click()
    code = page.get_by_role("region", name="Python code").inner_text()
    subprocess.run([sys.executable, "-c", code], check=True, timeout=20)
    expect(log.locator(".message")).to_have_count(3)
    for language in ("JavaScript", "Python"):
        page.get_by_role("button", name=language).click()
        page.locator("textarea").fill(json.dumps({"from": language}))
        page.get_by_label("Member, for Join").fill(f'{language}\'s "member"')
        for call, seen in (
            ("Whisper", f'"message":{{"from":"{language}"}}'),
            ("Join", json.dumps(f'{language}\'s "member"')),
        ):
            page.get_by_label("Call").get_by_role("button", name=call).click()
            code = page.get_by_role("region", name=f"{language} code").inner_text()
            with running(language, code):
                expect(log).to_contain_text(seen)
    page.get_by_role("button", name="curl").click()
    expect(page.get_by_role("region", name="curl code")).to_contain_text("see JavaScript")

    page.goto(f"{origin}{PATH}#/")
    for share in ("p50", "p99"):
        plot = page.get_by_role("region", name=f"Delivery, {share}")
        publish(node, "play", {"text": "measured"})
        expect(plot.locator(".value")).to_contain_text("s")

    with RawSocket(other.port) as client:
        client.send(upgrade("/cable", f"X-Request-ID: {SID}", protocol=EXTENDED))
        client.opened()
        page.goto(f"{origin}{PATH}#/clients?q={SID}")
        page.get_by_role("link", name=SID).click()
        trace = page.get_by_role("log", name="Live trace")
        expect(trace).to_contain_text("total=2")
        page.get_by_label("Identifier to subscribe").fill(
            '{"channel":"$pubsub","stream_name":"<b>bold</b>"}'
        )
        page.get_by_role("button", name="Subscribe", exact=True).click()
        expect(page.get_by_role("link", name="<b>bold</b>")).to_be_visible()
        assert client.message()["type"] == "confirm_subscription"
        expect(trace).to_contain_text("subscribed")
        publish(node, "<b>bold</b>", {"text": "traced"})
        assert client.message()["message"] == {"text": "traced"}
        expect(trace).to_contain_text("delivered")
        shoot(page, "trace-light")
        page.get_by_role("button", name="Unsubscribe").click()
        expect(page.get_by_text("No subscriptions.")).to_be_visible()
        page.get_by_role("button", name="Disconnect").click()
        assert client.message()["reconnect"] is False
        expect(page.get_by_text("This client is not connected any more.")).to_be_visible()
        expect(trace).to_contain_text("closed")
    # The page of a client that has left
    watched.complaints = [each for each in watched.complaints if "404 (Not Found)" not in each]
    watched.close()


@contextmanager
def running(language: str, code: str) -> Iterator[None]:
    """A program of the playground, which waits for messages when it has sent its own."""
    command = [sys.executable, "-c", code]
    if language == "JavaScript":
        # The packages of the tests, in Node instead of a browser.
        socket = 'import WebSocket from "ws";\nglobalThis.WebSocket = WebSocket;\n'
        own = socket + code.replace("@anycable/web", "@anycable/core")
        command = ["node", "--input-type=module", "-e", own]
    with subprocess.Popen(command, cwd=CLIENTS) as program:
        try:
            yield
        finally:
            program.kill()


def test_the_keyboard_reaches_everything(browser: Browser, cluster: Cluster) -> None:
    origin = f"http://127.0.0.1:{cluster.nodes[0].port}"
    watched = Watched(browser, origin, theme="light")
    page = watched.page
    page.goto(origin + PATH)
    expect(page.get_by_role("heading", name="Overview", level=1)).to_be_visible()
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("#main")).to_be_focused()
    page.keyboard.press("g")
    page.keyboard.press("c")
    expect(page.get_by_role("heading", name="Clients", level=1)).to_be_visible()
    page.keyboard.press("/")
    expect(page.get_by_role("searchbox")).to_be_focused()
    page.keyboard.type("g c t ?")
    expect(page.get_by_role("searchbox")).to_have_value("g c t ?")
    page.keyboard.press("Escape")
    page.locator("#main").focus()
    page.keyboard.press("?")
    expect(page.get_by_role("dialog")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_be_hidden()
    for theme in ("light", "dark", None):
        page.keyboard.press("t")
        expect(page.locator("html")).to_have_attribute("data-theme", theme) if theme else expect(
            page.locator("html[data-theme]")
        ).to_have_count(0)
    seen: set[str] = set()
    for _ in range(30):
        page.keyboard.press("Tab")
        focused, outline = page.evaluate(
            "[document.activeElement.outerHTML.slice(0, 60),"
            " getComputedStyle(document.activeElement).outlineStyle]"
        )
        seen.add(focused)
        assert outline != "none", focused
    assert len(seen) > 20
    watched.check()
    # A violation of the policy would have been noticed.
    with page.expect_console_message(lambda message: "Content Security Policy" in message.text):
        page.evaluate("document.body.setAttribute('style', 'color: red')")
    assert len(watched.complaints) == 1
    watched.context.close()
