"""The page of the readiness check in Chromium: both themes, a phone, nothing from elsewhere."""

from playwright.sync_api import Browser, expect

from tests.browser.console import PHONE, Watched, is_too_wide, serious, shoot
from tests.parts.ports import free_port
from tests.parts.server import cable_server


def test_a_node_that_is_not_ready_says_why(browser: Browser) -> None:
    redis_port = free_port()
    flags = ("--public", "--norpc", "--broadcast_adapter=redis")
    with cable_server(*flags, f"--redis_url=redis://127.0.0.1:{redis_port}") as server:
        origin = f"http://127.0.0.1:{server.port}"
        for theme in ("light", "dark"):
            watched = Watched(browser, origin, theme=theme, size=PHONE)
            # Chromium reports the status, and asks for an icon.
            watched.expected = ("503 (Service Unavailable)", "404 (Not Found)")
            page = watched.page
            page.goto(f"{origin}/ready")
            expect(page.get_by_role("heading")).to_have_text("Catenary: not ready")
            row = page.get_by_role("row", name="broadcast_adapter=redis")
            expect(row).to_contain_text("publications do not arrive")
            expect(page.get_by_text(str(redis_port))).to_have_count(0)
            assert serious(page) == []
            assert not is_too_wide(page)
            shoot(page, f"not-ready-{theme}")
            page.goto(f"{origin}/health")
            expect(page.get_by_role("heading")).to_have_text("Catenary: alive")
            watched.close()
