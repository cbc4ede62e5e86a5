"""Parts that the tests of the console share: watching for violations, axe-core, screenshots.

Screenshots are written to ``CONSOLE_SCREENSHOTS``, else to a directory of this repository that is git-ignored.
"""

import os
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page

from tests.parts.node import require_packages

PATH = "/_high_voltage_/"
SCREENSHOTS = Path(
    os.environ.get("CONSOLE_SCREENSHOTS", Path(__file__).parents[2] / "build" / "console")
)
DESKTOP = {"width": 1280, "height": 900}
PHONE = {"width": 390, "height": 800}


class Watched:
    """A browser context whose pages may not violate their Content-Security-Policy, nor load from elsewhere."""

    def __init__(self, browser: Browser, origin: str, *, theme: Any, size: Any = DESKTOP) -> None:
        self.context: BrowserContext = browser.new_context(
            color_scheme=theme, viewport=size, reduced_motion="reduce"
        )
        self.context.set_default_timeout(15_000)
        self.complaints: list[str] = []
        self.foreign: list[str] = []
        self._origin = origin
        self.expected: tuple[str, ...] = ()
        self.page: Page = self.context.new_page()
        self.page.on("console", self._note)
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("request", lambda request: self._note_request(request.url))

    def _note(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning") and not any(
            each in message.text for each in self.expected
        ):
            self.complaints.append(message.text)

    def _note_request(self, url: str) -> None:
        if not url.startswith((self._origin, "data:")):
            self.foreign.append(url)

    def check(self) -> None:
        """Fails for everything that browsers complain about."""
        assert self.complaints == []
        assert self.foreign == []

    def close(self) -> None:
        """Ends the pages, and checks."""
        self.check()
        self.context.close()


def shoot(page: Page, name: str) -> None:
    """Keeps a picture of the whole page."""
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=SCREENSHOTS / f"{name}.png", full_page=True)


def serious(page: Page) -> list[str]:
    """The serious and critical findings of axe-core. It runs in the page without a script element, so the policy holds."""
    if not page.evaluate("'axe' in window"):
        page.evaluate((require_packages() / "axe-core" / "axe.min.js").read_text())
    found = page.evaluate("axe.run(document, {resultTypes: ['violations']})")
    return [
        f"{each['id']}: {node['html'][:150]}"
        for each in found["violations"]
        if each["impact"] in ("serious", "critical")
        for node in each["nodes"]
    ]


def is_too_wide(page: Page) -> bool:
    """Whether a person must scroll sideways."""
    return bool(page.evaluate("document.documentElement.scrollWidth > innerWidth"))
