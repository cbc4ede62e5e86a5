"""Chromium's own EventSource and fetch, on a page of another origin than the server."""

import json
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlencode

import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from tests.browser.conftest import OpenPage, pages
from tests.clients.test_recovery import Publisher
from tests.parts.server import CableServer, cable_server
from tests.parts.tcp_relay import TcpRelay, tcp_relay
from tests.parts.tokens import SECRET, token

PAGE = Path(__file__).parent / "event_source"
FLAGS = ("--sse", "--public", "--norpc", "--broadcast_adapter=http", "--ping_interval=1")


@pytest.fixture
def server() -> Iterator[CableServer]:
    with cable_server(*FLAGS, "--broker=memory") as server:
        yield server


@pytest.fixture
def relay(server: CableServer) -> Iterator[TcpRelay]:
    with tcp_relay(server.port) as relay:
        yield relay


@pytest.fixture
def publisher(server: CableServer) -> Iterator[Publisher]:
    publisher = Publisher(server)
    yield publisher
    publisher.close()


def events(port: int, **query: str) -> str:
    return f"http://127.0.0.1:{port}/events?{urlencode(query)}"


def status(page: Page) -> Locator:
    return page.get_by_role("status")


def messages(page: Page) -> Locator:
    return page.get_by_role("listitem")


def test_a_page_that_is_cut_off_gets_what_it_missed(
    open_page: OpenPage, relay: TcpRelay, publisher: Publisher
) -> None:
    name = "Räume/日本 100%"
    page = open_page(PAGE, events=events(relay.port, stream=name))
    expect(status(page)).to_have_text("confirm_subscription")
    sent: list[str] = []
    for cut in range(3):
        before, meanwhile = [f"{cut}: before"], [f"{cut}: meanwhile {each}" for each in range(3)]
        publisher.publish_all(name, list(before))
        sent += before
        expect(messages(page)).to_have_text(sent)
        with page.expect_request("**/events?*", timeout=20_000) as request:
            assert relay.cut() == 1
            publisher.publish_all(name, list(meanwhile))
        sent += meanwhile
        expect(messages(page)).to_have_text(sent, timeout=20_000)
        last = request.value.all_headers()["last-event-id"]
        assert last.startswith(f"{cut * 4 + 1}/R%C3%A4ume/%E6%97%A5%E6%9C%AC 100%25/")


def test_a_page_that_is_sent_away_for_good_does_not_come_back(open_page: OpenPage) -> None:
    identifiers = json.dumps({"user": 7})
    flags = ("--sse", "--norpc", f"--jwt_secret={SECRET}", "--enforce_jwt", "--public_streams")
    with cable_server(*flags, "--broadcast_adapter=http") as server:
        jid = token({"ext": identifiers})
        page = open_page(PAGE, events=events(server.port, stream="news", jid=jid))
        expect(status(page)).to_have_text("confirm_subscription")
        publisher = Publisher(server)
        requests: list[str] = []
        page.on("request", lambda request: requests.append(request.url))
        publisher.disconnect(identifiers, reconnect=False)
        publisher.close()
        # The page sees the message first, then the end of the response.
        expect(status(page)).to_have_text("reconnecting")
        # EventSource waits for 3 s unless it is told otherwise.
        page.wait_for_timeout(4_000)
        assert requests == []


def test_a_page_without_a_token_is_refused_and_stays_away(open_page: OpenPage) -> None:
    flags = ("--sse", "--norpc", f"--jwt_secret={SECRET}", "--enforce_jwt", "--public_streams")
    with cable_server(*flags, "--broadcast_adapter=http") as server:
        page = open_page(PAGE, events=events(server.port, stream="news"))
        expect(status(page)).to_have_text("closed")


def test_only_pages_of_allowed_origins_connect(browser: Browser) -> None:
    with pages(PAGE) as ours, pages(PAGE) as another:
        flags = (*FLAGS, f"--sse_allowed_origins={ours.removeprefix('http://')}")
        with cable_server(*flags) as server:
            query = urlencode({"events": events(server.port, stream="news")})
            for origin, told in ((ours, "confirm_subscription"), (another, "closed")):
                page = browser.new_page()
                page.goto(f"{origin}/?{query}")
                expect(status(page)).to_have_text(told)
                page.close()


POST = """
async ([url, body]) => {
  const response = await fetch(url, {
    method: "POST", body, credentials: "include",
    headers: { "Content-Type": "application/jsonl" },
  })
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader()
  let text = ""
  while (!text.includes("confirm_subscription")) text += (await reader.read()).value
  reader.cancel()
  return [response.status, text]
}
"""


def test_a_page_sends_commands_by_post_after_a_preflight(
    open_page: OpenPage, server: CableServer
) -> None:
    page = open_page(PAGE, events=events(server.port, stream="other"))
    identifier = json.dumps({"channel": "$pubsub", "stream_name": "news"})
    command = json.dumps({"command": "subscribe", "identifier": identifier})
    url = f"http://127.0.0.1:{server.port}/events"
    code, text = page.evaluate(POST, [url, command])
    assert code == 200
    assert "event: welcome\n" in text
