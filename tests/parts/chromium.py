"""Debian's Chromium, driven by playwright, which never downloads a browser of its own here."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager

from playwright.sync_api import Browser, sync_playwright

from tests.parts.missing import missing

ARGUMENTS = (
    # Root has no sandbox, and CI runs as root.
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    # A test's browser connects to the test only.
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


def require_chromium() -> str:
    """The path of the browser. Skips or fails the test if there is none."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        missing("Chromium", "apt-get install chromium")
    return chromium


@contextmanager
def headless_chromium() -> Iterator[Browser]:
    """A browser for the length of a with block.

    playwright's loop runs in this thread meanwhile: ``asyncio.run`` must wait until the block ends.
    """
    executable = require_chromium()
    with (
        sync_playwright() as playwright,
        playwright.chromium.launch(executable_path=executable, args=list(ARGUMENTS)) as browser,
    ):
        yield browser
