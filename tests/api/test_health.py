"""Health, readiness, and ``OPTIONS *``; that a server answers them is in tests/edge and tests/conformance."""

from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from catenary.api.health import Readiness, health, with_server_options
from tests.parts.asgi_events import Events
from tests.parts.heart import in_loop


@in_loop
async def test_health() -> None:
    events = Events()
    await events.request(Starlette(routes=[Route("/health", health)]), "GET", "/health")
    assert (events.status, events.body) == (200, b"OK\n")


@in_loop
async def test_readiness_names_the_reason_and_asks_again_each_time() -> None:
    reasons = iter(["Redis is unavailable", None])
    readiness = Readiness(lambda: next(reasons))
    for expected in ((503, b"Redis is unavailable\n"), (200, b"OK\n")):
        events = Events()
        await events.request(readiness, "GET", "/ready")
        assert (events.status, events.body) == expected


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
