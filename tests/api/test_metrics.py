"""The metrics endpoint; that a server serves it is in tests/server/test_figures.py."""

from catenary.api.metrics import Metrics
from tests.parts.asgi_events import Events
from tests.parts.heart import in_loop


@in_loop
async def test_each_request_gets_the_present_figures_in_the_format_of_prometheus() -> None:
    shown = iter(["a 1\n", "a 2\n"])

    async def show() -> str:
        return next(shown)

    metrics = Metrics(show)
    for expected in (b"a 1\n", b"a 2\n"):
        events = Events()
        await events.request(metrics, "GET", "/metrics")
        assert (events.status, events.body) == (200, expected)
        assert events.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
