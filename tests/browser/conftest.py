"""Servers, pages and the browser of the tests here.

The server is ours always, and anycable-go too where ``ANYCABLE_GO`` names its binary.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from urllib.parse import urlencode

import pytest
from playwright.sync_api import Browser, Page

from tests.parts.chromium import headless_chromium
from tests.parts.node import require_packages
from tests.parts.server import OURS

SERVERS: dict[str, tuple[str, ...]] = {"ours": OURS}
if "ANYCABLE_GO" in os.environ:
    SERVERS["anycable-go"] = (os.environ["ANYCABLE_GO"],)

OpenPage = Callable[..., Page]


@pytest.fixture(params=SERVERS.values(), ids=list(SERVERS))
def server_command(request: pytest.FixtureRequest) -> tuple[str, ...]:
    command: tuple[str, ...] = request.param
    return command


# Function scope, though a launch takes half a second: see headless_chromium about asyncio.
@pytest.fixture
def browser() -> Iterator[Browser]:
    with headless_chromium() as browser:
        yield browser


@pytest.fixture
def open_page(browser: Browser) -> Iterator[OpenPage]:
    """Opens the index.html of a folder in a new window, with a query made of the keywords."""
    with ExitStack() as stack:

        def open_page(folder: Path, **query: str) -> Page:
            origin = stack.enter_context(pages(folder))
            page = browser.new_page()
            stack.callback(page.close)
            page.goto(f"{origin}/?{urlencode(query)}")
            return page

        yield open_page


class PageFiles(SimpleHTTPRequestHandler):
    """Serves a folder, and below /node_modules the packages that the tests have installed."""

    def translate_path(self, path: str) -> str:
        if path.startswith("/node_modules/"):
            self.directory = str(require_packages().parent)
        return super().translate_path(path)

    def log_message(self, format: str, *args: object) -> None:
        """Says nothing."""


class PageServer(ThreadingHTTPServer):
    """Waits at its end for every request, so that no socket outlives the test."""

    daemon_threads = False


@contextmanager
def pages(folder: Path) -> Iterator[str]:
    """Serves a folder for the length of a with block; gives its origin, as in http://127.0.0.1:1."""
    require_packages()
    with PageServer(("127.0.0.1", 0), partial(PageFiles, directory=str(folder))) as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()
