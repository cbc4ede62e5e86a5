"""Pusher's HTTP API without a server: answers when the broker fails."""

import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from catenary.api.access import ApiResponse
from catenary.api.broadcast import BroadcastRules
from catenary.api.pusher import PusherApi, PusherAppApi
from catenary.api.pusher_channels import PusherChannels
from catenary.auth.origins import Origins
from catenary.config.pusher_apps import PusherApp
from catenary.errors import BackendError, NotKept, RequestRefused, TooLarge
from catenary.metrics.counters import Counters
from catenary.wire.request_memory import RequestMemory
from tests.parts.heart import in_loop

APP = PusherApp(id="a", key="k", secret="s", stream_prefix="a:")
EVENT = {"name": "n", "channel": "presence-c", "data": "d", "info": "user_count"}


class FailingChannels(PusherChannels):
    """Channels of a broker that fails."""

    def __init__(self, error: Exception) -> None:
        self._error = error

    async def users(self, channel: str) -> list[str]:
        raise self._error


class Publisher:
    """Takes publications, or fails."""

    def __init__(self, error: Exception | None = None) -> None:
        self.published: list[bytes] = []
        self.traces: list[str] = []
        self._error = error

    def __call__(
        self, raw: bytes, *, trace: str = "", charge: Callable[[int], None] | None = None
    ) -> Awaitable[None]:
        self.traces.append(trace)
        return self._publish(raw)

    async def _publish(self, raw: bytes) -> None:
        if self._error is not None:
            raise self._error
        self.published.append(raw)


NO_BROKER = NotKept("no broker")


async def post(
    path: str, body: object, publisher: Publisher, error: Exception = NO_BROKER
) -> ApiResponse:
    broadcasts = BroadcastRules(publisher, Counters(), key="", pages=None)
    api = PusherAppApi(APP, broadcasts, FailingChannels(error))
    return await api.action("POST", [path])({}, json.dumps(body).encode(), {})


@pytest.mark.parametrize("error", [NotKept("no broker"), BackendError("away")])
@in_loop
async def test_events_that_are_published_are_not_refused_for_their_attributes(
    error: Exception,
) -> None:
    """A publisher that gets an error publishes again."""
    publisher = Publisher()
    answer = await post("events", EVENT, publisher, error)
    assert (answer.status, answer.body) == (200, b"{}")
    answer = await post("batch_events", {"batch": [EVENT, EVENT]}, publisher, error)
    assert (answer.status, answer.body) == (200, b"{}")
    single, batch = map(json.loads, publisher.published)
    assert batch == [single, single]
    assert single == {
        "stream": "a:presence-c",
        "data": '{"event":"n","data":"d"}',
        "meta": {"exclude_socket": None},
    }


@pytest.mark.parametrize(("error", "status"), [(BackendError("away"), 503), (TooLarge("1"), 413)])
@in_loop
async def test_events_that_are_not_published_are_refused(error: Exception, status: int) -> None:
    assert (await post("events", EVENT, Publisher(error))).status == status


@in_loop
async def test_a_batch_without_events_publishes_nothing() -> None:
    publisher = Publisher()
    answer = await post("batch_events", {"batch": []}, publisher)
    assert (answer.status, answer.body, publisher.published) == (200, b"{}", [])


@in_loop
async def test_a_batch_with_an_invalid_event_publishes_nothing() -> None:
    publisher = Publisher()
    with pytest.raises(RequestRefused):
        await post("batch_events", {"batch": [EVENT, {**EVENT, "name": ""}]}, publisher)
    assert publisher.published == []


@pytest.mark.parametrize(("pages", "status"), [(Origins(("app.test",)), 200), (None, 405)])
@in_loop
async def test_pages_of_allowed_origins_may_send_requests(
    pages: Origins | None, status: int
) -> None:
    broadcasts = BroadcastRules(Publisher(), Counters(), key="", pages=None)
    app = PusherAppApi(APP, broadcasts, FailingChannels(NO_BROKER))
    api = PusherApi([app], RequestMemory(0, Counters()), pages)
    sent: list[dict[str, Any]] = []

    async def send(event: Any) -> None:
        sent.append(event)

    async def receive() -> Any:
        raise AssertionError("a preflight has no body")

    scope = {
        "type": "http",
        "method": "OPTIONS",
        "raw_path": b"/apps/a/events",
        "query_string": b"",
        "headers": [(b"origin", b"https://app.test")],
    }
    await api(scope, receive, send)
    headers = dict(sent[0]["headers"])
    assert sent[0]["status"] == status
    assert headers.get(b"access-control-allow-origin") == (b"https://app.test" if pages else None)
    if pages:
        assert headers[b"access-control-allow-methods"] == b"GET, POST, OPTIONS"


@pytest.mark.parametrize("is_traced", [True, False])
@in_loop
async def test_a_request_names_its_trace(is_traced: bool) -> None:
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    publisher = Publisher()
    broadcasts = BroadcastRules(publisher, Counters(), key="", pages=None, is_traced=is_traced)
    api = PusherAppApi(APP, broadcasts, FailingChannels(NO_BROKER))
    event = json.dumps({"name": "n", "channel": "c", "data": "d"}).encode()
    await api.action("POST", ["events"])({}, event, {"traceparent": trace})
    assert publisher.traces == [trace if is_traced else ""]
