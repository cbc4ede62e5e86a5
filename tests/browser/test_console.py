"""The console in Chromium: a live cluster of two nodes, real clients, every page, both themes, a phone."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, expect

from tests.browser.console import PATH, SCREENSHOTS, Watched, serious, shoot
from tests.parts.server import CableServer, cable_server

KEY = "correct horse"


@pytest.fixture(scope="module")
def guarded() -> Iterator[CableServer]:
    """A server whose console needs a key."""
    flags = ("--norpc", "--noauth", "--admin", f"--admin_secret={KEY}", "--broadcast_adapter=http")
    with cable_server(*flags) as server:
        yield server


def test_only_the_key_opens_the_console(browser: Browser, guarded: CableServer) -> None:
    origin = f"http://127.0.0.1:{guarded.port}"
    watched = Watched(browser, origin, theme="dark")
    # Chromium reports each answer above 399.
    watched.expected = ("401 (Unauthorized)", "429 (Too Many Requests)")
    page = watched.page
    page.goto(origin + PATH)
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
    expect(page.get_by_role("heading", name="Overview")).to_be_visible()
    assert page.evaluate("document.cookie") == ""
    page.get_by_role("button", name="Log out").click()
    expect(page).to_have_title("Log in · Catenary")
    page.goto(origin + PATH + "console.js")
    expect(page).to_have_title("Log in · Catenary")
    watched.close()
    print(f"screenshots in {SCREENSHOTS}")
