"""Health, readiness, and ``OPTIONS *``; that a server answers them is in tests/edge and tests/conformance."""

import json
import re
from base64 import b64encode
from hashlib import sha256

import pytest
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from catenary.api.health import Readiness, health, wanted, with_server_options
from catenary.supervision.health import CheckResult
from tests.parts.asgi_events import Events
from tests.parts.heart import in_loop

SINCE = "2027-01-15T08:00:00.000Z"
GOOD = CheckResult("services", "ok", "", "", SINCE, is_blocking=True)
BAD = CheckResult(
    "redis", "failing", "Redis <is> unavailable", "10.0.0.1: no", SINCE, is_blocking=True
)
ALSO_BAD = CheckResult("pubsub", "failing", "no messages", "10.0.0.1: no", SINCE, is_blocking=True)
PRIVATE = CheckResult("limits", "failing", "nearly full", "900 of 1000", SINCE, is_blocking=False)

BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"


async def asked(accept: str, *results: CheckResult) -> Events:
    events = Events()
    await events.request(Readiness(lambda: results), "GET", "/ready", accept)
    return events


@in_loop
async def test_health() -> None:
    app = Starlette(routes=[Route("/health", health)])
    for accept, expected in (
        ("", b"OK\n"),
        ("*/*", b"OK\n"),
        ("application/json", b'{"status":"alive"}'),
    ):
        events = Events()
        await events.request(app, "GET", "/health", accept)
        assert (events.status, events.body) == (200, expected)
    events = Events()
    await events.request(app, "GET", "/health", BROWSER)
    assert b"<h1>Catenary: alive</h1>" in events.body
    events = Events()
    await events.request(app, "POST", "/health")
    assert events.status == 405


@in_loop
async def test_readiness_names_the_reasons_and_asks_again_each_time() -> None:
    answers = iter([(GOOD, BAD, ALSO_BAD), (GOOD, PRIVATE)])
    readiness = Readiness(lambda: next(answers))
    for expected in ((503, b"Redis <is> unavailable\nno messages\n"), (200, b"OK\n")):
        events = Events()
        await events.request(readiness, "GET", "/ready")
        assert (events.status, events.body) == expected
        assert events.headers["content-type"] == "text/plain; charset=utf-8"
        assert events.headers["cache-control"] == "no-store"
        assert events.headers["vary"] == "Accept"


@in_loop
async def test_programs_get_json_with_what_anyone_may_know() -> None:
    events = await asked("application/json", GOOD, BAD, PRIVATE)
    assert events.status == 503
    assert events.headers["content-type"] == "application/json"
    assert json.loads(events.body) == {
        "status": "not ready",
        "checks": [
            {"name": "services", "state": "ok", "reason": "", "since": SINCE},
            {"name": "redis", "state": "failing", "reason": BAD.summary, "since": SINCE},
        ],
    }
    events = await asked("application/json", GOOD)
    assert (events.status, json.loads(events.body)["status"]) == (200, "ready")


@in_loop
async def test_people_get_a_page_that_loads_nothing() -> None:
    events = await asked(BROWSER, GOOD, BAD, PRIVATE)
    page = events.body.decode()
    assert events.status == 503
    assert events.headers["content-type"] == "text/html; charset=utf-8"
    assert "<h1>Catenary: not ready</h1>" in page
    assert "Redis &lt;is&gt; unavailable" in page
    assert "10.0.0.1" not in page
    assert "nearly full" not in page
    assert "<script" not in page
    (style,) = re.findall(r"<style>(.*)</style>", page)
    policy = events.headers["content-security-policy"]
    digest = b64encode(sha256(style.encode()).digest()).decode()
    assert policy.startswith("default-src 'none'; ")
    assert policy.endswith(f"style-src 'sha256-{digest}'")


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        ("", "text/plain"),
        ("*/*", "text/plain"),
        ("image/png", "text/plain"),
        (BROWSER, "text/html"),
        ("application/json, text/plain, */*", "application/json"),
        ("application/json;q=0.1, */*", "text/plain"),
        ("text/html;q=0.2, application/*;q=0.3", "application/json"),
        ("text/html;q=0", "text/plain"),
        ("Text/HTML ; Level=1", "text/html"),
        ("text/html;q=much", "text/plain"),
        (",;,", "text/plain"),
    ],
)
def test_the_accept_header_chooses(accept: str, expected: str) -> None:
    assert wanted(accept) == expected


@in_loop
async def test_options_of_the_server_are_answered_and_everything_else_is_passed_on() -> None:
    app = with_server_options(PlainTextResponse("page"))
    for method, path, expected in (
        ("OPTIONS", "*", b""),
        ("GET", "*", b"page"),
        ("OPTIONS", "/", b"page"),
    ):
        events = Events()
        await events.request(app, method, path)
        assert (events.status, events.body) == (200, expected)
        assert events.headers["content-length"] == str(len(expected))
